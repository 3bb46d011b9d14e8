"""Arguments as docker writes them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import pytest

from runtime_server.cli import values


@pytest.mark.parametrize(
    ("text", "found"), [("90", 90), ("1.5", 1.5), ("90s", 90), ("1h30m", 5400), ("2d", 172_800), ("0.5m", 30)]
)
def test_durations(text: str, found: float) -> None:
    assert values.DURATION.convert(text, None, None) == found


@pytest.mark.parametrize("text", ["", "-1", "1x", "m", "1m2", "1 m"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        values.DURATION.convert(text, None, None)


def test_moments() -> None:
    for text in ("2026-01-31T12:00:00Z", "1700000000.5"):
        assert values.MOMENT.convert(text, None, None) == text
    assert abs(float(values.MOMENT.convert("10m", None, None)) - (time.time() - 600)) < 5
    with pytest.raises(click.BadParameter):
        values.MOMENT.convert("yesterday", None, None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", {"container_port": 80}),
        ("80/udp", {"container_port": 80, "protocol": "udp"}),
        ("8080:80", {"container_port": 80, "host_port": 8080}),
        (
            "127.0.0.1:8080:80/tcp",
            {"container_port": 80, "host_port": 8080, "host_ip": "127.0.0.1", "protocol": "tcp"},
        ),
        ("127.0.0.1::80", {"container_port": 80, "host_ip": "127.0.0.1"}),
        ("127.0.0.1:80", {"container_port": 80, "host_ip": "127.0.0.1"}),
        ("[::1]:8080:80", {"container_port": 80, "host_port": 8080, "host_ip": "::1"}),
    ],
)
def test_ports(text: str, found: dict[str, Any]) -> None:
    assert values.port(text) == found


@pytest.mark.parametrize("text", ["", "web", "80:web", "a:b:c:80", "80/sctp"])
def test_no_ports(text: str) -> None:
    with pytest.raises(click.UsageError):
        values.port(text)


def test_volumes() -> None:
    assert values.volume("/a:/b") == {"host_path": "/a", "container_path": "/b"}
    assert values.volume("cache:/b:ro") == {"host_path": "cache", "container_path": "/b", "mode": "ro"}
    for text in ("/a", ":/b", "/a:", "/a:/b:rx", "/a:/b:ro:z"):
        with pytest.raises(click.UsageError):
            values.volume(text)


def test_restart_policies() -> None:
    assert values.restart_policy("always") == {"Name": "always"}
    assert values.restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    with pytest.raises(click.UsageError):
        values.restart_policy("on-failure:x")


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("NOWHERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# a comment\n\nA=1\nB=2\nHERE\n")
    found = values.environment(("B=3", "NOWHERE", "C="), (file,))
    assert found == {"A": "1", "B": "3", "HERE": "yes", "C": ""}
