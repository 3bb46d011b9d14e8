from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime_server.errors import Unauthorized
from runtime_server.runtimes.caller import Caller
from runtime_server.settings import Settings
from runtime_server.web.auth import LOCAL, KeyRing, parse_keys, presented_key


def settings(**values: Any) -> Settings:
    return Settings.model_validate({"auth": "on", "api_keys": "", "keys_file": "/nowhere/keys.json", **values})


def test_configured_keys_name_their_owner() -> None:
    ring = KeyRing.from_settings(settings(api_keys=" a:k1, b:k2:with:admin ,a+admin:k3,"))
    callers = [ring.caller_of(key) for key in ("k1", "k2:with:admin", "k3")]
    assert callers == [Caller("a"), Caller("b"), Caller("a", admin=True)]
    for wrong in ("", "generated", "K1", "k", "a:k1", "k2:with", "\udcff\x00", None):
        with pytest.raises(Unauthorized):
            ring.caller_of(wrong)
        assert ring.find(wrong) is None


def test_the_generated_key_is_the_defaults_as_long_as_its_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "api-key"
    path.touch(mode=0o600)
    path.write_text("g\n")
    ring = KeyRing.from_settings(settings(), path)
    assert ring.caller_of("g") == Caller("default")
    path.unlink()
    assert ring.find("g") is None


def test_no_key_at_all_lets_nobody_in(tmp_path: Path) -> None:
    ring = KeyRing.from_settings(settings(), tmp_path / "missing")
    assert [ring.find(key) for key in ("", None, "x")] == [None] * 3


def test_off_lets_everyone_in() -> None:
    assert KeyRing.from_settings(settings(auth="off", api_keys="broken")).caller_of(None) is LOCAL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3cret", "entry 1: must be name:key"),
        ("a:k,s3cret", "entry 2: must be name:key"),
        ("a:", "entry 1: the key"),
        (":s3cret", "entry 1: the name"),
        ("+admin:s3cret", "entry 1: the name"),
        ("a+root:s3cret", "entry 1: the name"),
        ("a b:s3cret", "entry 1: the name"),
        ("a:s3cret s3cret", "entry 1: the key"),
        ("a:s3creté", "entry 1: the key"),
        ("a:s3cret,b:s3cret", "entry 2: the key is another"),
    ],
)
def test_a_wrong_setting_says_where_without_the_key(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_keys(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("api_key", "authorization", "key"),
    [
        ("a", "Bearer b", "a"),
        (None, "Bearer b", "b"),
        ("", "BEARER  b ", "b"),
        (None, "Basic b", None),
        (None, "Bearer", None),
        (None, None, None),
    ],
)
def test_x_api_key_wins(api_key: str | None, authorization: str | None, key: str | None) -> None:
    assert presented_key(api_key, authorization) == key
