"""Tables, sizes, times and colours."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta

import pytest
from pexpect.fdpexpect import fdspawn

from runtime_server.cli import output
from runtime_server.models import HostPort

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds ago"),
        (1, "1 second ago"),
        (59.9, "59 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (172_800, "2 days ago"),
        (-0.5, "0 seconds ago"),
        (-90, "in 1 minute"),
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert output.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_sizes() -> None:
    assert [output.decimal(each) for each in (None, 0, 999, 1000, 1_983_000)] == ["", "0B", "999B", "1kB", "1.983MB"]
    assert [output.binary(each) for each in (None, 1024, 536_870_912, 2**50)] == ["", "1KiB", "512MiB", "1024TiB"]


def test_ports() -> None:
    published = {"80/tcp": [HostPort(HostIp="::1", HostPort="1")], "53/udp": []}
    assert output.ports(published) == "[::1]:1->80/tcp, 53/udp"


def test_tables_for_programs_are_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo_table(("A", "B"), [(output.coloured("running"), "x" * 300), ("\x1b[31m[red]", "")])
    assert capsys.readouterr().out == f"A           B\nrunning     {'x' * 300}\n�[31m[red]\n"


@pytest.mark.parametrize(
    ("environment", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["colours", "NO_COLOR"]
)
def test_colours_on_a_terminal(
    environment: dict[str, str], colours: bool, monkeypatch: pytest.MonkeyPatch, home: object
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    reader, writer = os.openpty()
    with open(writer, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        output.echo_table(("A",), [(output.coloured("running"),)])
        terminal.flush()
        other_end = fdspawn(reader, encoding="utf-8")
        other_end.expect_exact("running")  # the kernel hands it over in a thread of its own
        shown = str(other_end.before)
    os.close(reader)
    assert ("\x1b[32m" in shown) == colours


def test_no_colours_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    output.echo_table(("A",), [(output.coloured("running"),)])
    assert "\x1b" not in capsys.readouterr().out
