"""Who may call a private runtime through the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_server.runtimes.access import Presented, cookie, may_call

KEY = "kZ3vJ0pW2bY8dR5tN7xL4qC9sF6hG1mA0eU3iO8yT2w"
HERE, THERE = "runtime-0123456789ab", "vscode-runtime-0123456789ab"
COOKIE = cookie(KEY, HERE)


@pytest.mark.parametrize(
    ("presented", "allowed"),
    [
        ({}, False),
        ({"header": KEY}, True),
        ({"header": KEY, "origin": "other"}, True),
        ({"header": KEY[:-1]}, False),
        ({"header": KEY + "é"}, False),
        ({"header": "ключ"}, False),
        ({"query": KEY}, True),
        ({"query": KEY + "x"}, False),
        ({"cookie": COOKIE}, True),
        ({"cookie": COOKIE, "origin": "same"}, True),
        ({"cookie": COOKIE, "origin": "other"}, False),
        ({"cookie": KEY}, False),
        ({"cookie": cookie(KEY, THERE)}, False),
        ({"cookie": cookie(KEY[::-1], HERE)}, False),
        ({"header": COOKIE}, False),
        ({"preflight": True, "origin": "other"}, True),
    ],
)
def test_who_may_call(presented: dict[str, Any], allowed: bool) -> None:
    assert may_call(Presented(**presented), KEY, HERE) is allowed


def test_a_runtime_without_a_key_lets_nobody_in() -> None:
    assert not may_call(Presented(header="", cookie=cookie("", HERE), preflight=True), None, HERE)


def test_keys_are_not_shown() -> None:
    assert "hush" not in repr(Presented(header="hush", cookie="hush", query="hush"))
