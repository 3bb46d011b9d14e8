"""The settings: each default that operators rely on, and what is said when one is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runtime_server.paths import default_state_dir, default_volume_root
from runtime_server.settings import Settings, load

DEFAULTS = {
    "host": "0.0.0.0",
    "port": 8090,
    "workers": 2,
    "threads": 16,
    "log_level": "info",
    "log_format": "console",
    "auth": "on",
    "api_keys": "",
    "unknown_fields": "forbid",
    "publish_host": "127.0.0.1",
    "no_new_privileges": True,
    "idempotency_ttl": 86_400.0,
    "retention": 86_400.0,
    "engine": "",
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("RUNTIME_SERVER_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_default(name: str, value: object) -> None:
    assert getattr(Settings(), name) == value


def test_volumes_are_allowed_only_outside_the_state_directory() -> None:
    settings = Settings()
    assert settings.volume_roots == (str(default_volume_root()),)
    assert settings.state_dir == default_state_dir()
    roots = [Path(root) for root in settings.volume_roots]
    assert not any(r.is_relative_to(settings.state_dir) or settings.state_dir.is_relative_to(r) for r in roots)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_SERVER_VOLUME_ROOTS", "/srv/a, /srv/b,,")
    assert Settings().volume_roots == ("/srv/a", "/srv/b")


@pytest.mark.parametrize(("threads", "slow", "lane"), [(16, 0, 12), (2, 0, 1), (4, 255, 3), (8, 2, 2)])
def test_some_threads_are_never_in_the_slow_lane(threads: int, slow: int, lane: int) -> None:
    assert Settings(threads=threads, slow_threads=slow).slow_lane == lane


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "66000"),
        ("PORT", "http"),
        ("WORKERS", "0"),
        ("AUTH", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("DEFAULT_MEMORY", "lots"),
        ("DEFAULT_MEMORY", "1k"),
        ("PUBLISH_HOST", "localhost"),
        ("ROUTING", "host"),
        ("ROUTING", "subdomain"),
        ("GATEWAY_SCHEME", "ftp"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence_without_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"RUNTIME_SERVER_{name}", value)
    with pytest.raises(SystemExit) as ended:
        load()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"RUNTIME_SERVER_{name}: ")
    assert said.count("\n") == 1
    assert value not in said.removeprefix(f"RUNTIME_SERVER_{name}")


@pytest.mark.parametrize(
    ("settings", "secure", "host"),
    [
        ({}, False, "box.example"),
        ({"gateway_scheme": "https"}, True, "box.example"),
        ({"tls_certificate": Path("/etc/box.pem")}, True, "box.example"),
        ({"tls_certificate": Path("/etc/box.pem"), "gateway_scheme": "http"}, False, "box.example"),
        ({"gateway_port": 8443}, False, "box.example:8443"),
        ({"gateway_port": 443, "gateway_scheme": "https"}, True, "box.example"),
    ],
)
def test_what_runtimes_addresses_are_made_of(settings: dict[str, Any], secure: bool, host: str) -> None:
    found = Settings.model_validate({"routing": "subdomain", "domain": "box.example", **settings})
    assert (found.routed, found.gateway_secure, found.gateway_host) == (True, secure, host)
    assert found.gateway_cookie.startswith("__Host-") is secure
    assert not Settings().routed


def test_starts_at_once_follow_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert Settings().starting_places == 15
    assert Settings(max_starting=2).starting_places == 2
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert Settings().starting_places == 3


def test_keys_are_not_in_the_representation() -> None:
    assert "hush" not in repr(Settings(api_keys="ci:hush"))
