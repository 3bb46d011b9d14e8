"""What doctor finds, and what it says to do."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runtime_server.cli import checks, host_checks
from runtime_server.cli.checks import Check
from runtime_server.cli.host_checks import (
    check_disk,
    check_firewall,
    check_network,
    check_settings,
    check_socket,
    check_state,
)
from runtime_server.cli.main import main
from runtime_server.engine.base import Network
from runtime_server.engine.docker_host import DockerHost, HostFacts, _time
from runtime_server.errors import EngineFailed
from runtime_server.network import firewall
from runtime_server.network.firewall import FirewallFailed
from runtime_server.settings import Settings
from runtime_server.testing import InMemoryServer
from tests.cli.conftest import Run, data
from tests.cli.serving import serving

NETWORK = Network("runtime-server", "rs-0123456789ab", ("172.30.0.0/16",), ("172.30.0.1",), ours=True)


def doctor(*arguments: str, code: int, **env: str) -> Result:
    result = CliRunner().invoke(main, ["doctor", *arguments], env=env)
    assert result.exit_code == code, result.output
    return result


def test_a_server(shared_server: InMemoryServer, key: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "check_host", lambda: iter([checks.ok("settings", "Fine.")]))
    with serving(shared_server.app) as url:
        found = data(doctor("--url", url, "--api-key", key, "-o", "json", code=0))
        assert found["ok"] is True
        assert [(each["name"], each["status"]) for each in found["checks"]] == [
            ("settings", "ok"),
            ("server", "ok"),
            ("server: clock", "ok"),
            ("server: key", "ok"),
            ("server: version", "ok"),
            ("server: engine", "ok"),
        ]
        shown = doctor("--url", url, code=1, RUNTIME_SERVER_API_KEY="wrong").stdout
        assert "fail  server: key" in shown
        assert "keys add" in shown


def test_no_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "check_host", lambda: iter(()))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    found = data(doctor("-o", "json", code=1, RUNTIME_SERVER_URL=f"http://localhost:{port}"))
    assert [each["status"] for each in found["checks"]] == ["fail", "skip", "skip", "skip", "skip"]
    assert found["checks"][0]["advice"]


def test_a_server_elsewhere_is_all_that_is_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "check_host", lambda: pytest.fail("this machine was looked at"))
    found = data(run("doctor", "-o", "json"))
    assert {each["name"]: each["status"] for each in found["checks"]}["server"] == "ok"


def test_this_machine_without_an_engine(home: Path) -> None:
    found = data(doctor("-o", "json", code=1, RUNTIME_SERVER_ENGINE=f"unix://{home}/none.sock"))
    told = {each["name"]: each for each in found["checks"]}
    assert {name: each["status"] for name, each in told.items()} == {
        "settings": "ok",
        "state": "ok",
        "state: disk": "ok",
        "engine: socket": "fail",
        "engine": "fail",
        "network": "skip",
        "firewall": "skip",
    }
    assert "systemctl start docker" in told["engine"]["advice"]
    assert "made at the first start" in told["state"]["detail"]
    assert not (home / "state").exists()


def test_settings(home: Path) -> None:
    wrong = data(doctor("-o", "json", code=1, RUNTIME_SERVER_THREADS="none"))["checks"]
    assert [(each["name"], each["status"]) for each in wrong] == [("settings", "fail")]
    assert wrong[0]["detail"].startswith("RUNTIME_SERVER_THREADS: ")
    assert check_settings(Settings(state_dir=home)).status == "ok"
    assert check_settings(Settings(state_dir=home, auth="off")).status == "warn"
    broken = check_settings(Settings(state_dir=home, api_keys="ci:good-good,hush-hush"))
    assert broken.status == "fail"
    assert "hush" not in broken.detail


def test_state(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    assert check_state(settings).status == "ok"
    settings.state_dir.mkdir(mode=0o755)
    found = check_state(settings)
    assert (found.status, "chmod 700" in found.detail) == ("fail", True)


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 5_000_000_000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    assert check_disk("disk", tmp_path).status == "ok"
    Usage.free = 1_000_000_000
    assert check_disk("disk", tmp_path) == Check(
        "disk",
        "warn",
        f"1GB free at {tmp_path}.",
        "Make room: runtime-server prune; docker system df shows what the engine holds.",
    )
    Usage.free = 1_000
    assert check_disk("disk", tmp_path).status == "fail"
    monkeypatch.undo()
    assert check_disk("disk", tmp_path / "none").status == "skip"


def test_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_socket("tcp://x:2375", None).status == "ok"
    assert check_socket("", str(tmp_path / "none")).status == "fail"
    place = tmp_path / "docker.sock"
    place.touch()
    assert check_socket("", str(place)).status == "ok"
    monkeypatch.setattr("os.access", lambda *_: False)
    refused = check_socket("", str(place))
    assert (refused.status, "usermod" in refused.advice) == ("fail", True)


def test_clocks() -> None:
    assert checks.clock("c", "The server's", 1).status == "ok"
    assert checks.clock("c", "The server's", -10).detail == "The server's clock is 10 s behind this machine's."
    assert checks.clock("c", "The server's", 60).status == "fail"
    known = _time("2026-01-31T12:00:00.123456789Z")
    assert known is not None
    assert known.microsecond == 123456
    assert _time("2026-01-31T12:00:00.5+01:00") is not None
    assert _time(None) is _time("now") is None


def test_the_engines_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def statuses(local: bool = True) -> list[tuple[str, str]]:
        return [(each.name, each.status) for each in host_checks.check_machine(host, local=local)]

    host = DockerHost("instance")
    now = datetime.now(UTC)
    monkeypatch.setattr(DockerHost, "facts", lambda _: HostFacts(tmp_path, now))
    assert [name for name, _ in statuses()] == ["engine: clock", "engine: disk"]
    assert statuses(local=False) == [("engine: clock", "ok")]
    monkeypatch.setattr(DockerHost, "facts", lambda _: HostFacts(None, now - timedelta(minutes=5)))
    assert statuses() == [("engine: clock", "fail")]

    def refused(_: DockerHost) -> HostFacts:
        raise EngineFailed("Forbidden.")

    monkeypatch.setattr(DockerHost, "facts", refused)
    assert statuses() == [("engine: clock", "skip")]


def test_network() -> None:
    settings = Settings()
    assert check_network(settings, NETWORK).status == "ok"
    assert check_network(settings, None).status == "ok"
    assert check_network(settings, dataclasses.replace(NETWORK, ours=False)).status == "warn"
    assert check_network(Settings(network=""), None).status == "warn"


def holding(answer: bool | Exception) -> Callable[..., bool]:
    def holds(*_: Any) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return holds


@pytest.mark.parametrize(
    ("answer", "network", "settings", "status"),
    [
        (True, NETWORK, {}, "ok"),
        (False, None, {}, "ok"),
        (False, NETWORK, {}, "warn"),
        (False, NETWORK, {"egress": "none"}, "fail"),
        (False, NETWORK, {"egress": "none", "firewall": "off"}, "warn"),
        (False, None, {"firewall": "off"}, "warn"),
        (FirewallFailed("iptables is not installed."), None, {}, "warn"),
        (True, None, {"network": ""}, "skip"),
    ],
)
def test_firewall(
    answer: bool | Exception,
    network: Network | None,
    settings: dict[str, Any],
    status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(firewall.Firewall, "holds", holding(answer))
    monkeypatch.setattr(firewall, "here", lambda _: True)
    found = check_firewall(Settings(**settings), "instance", network)
    assert found.status == status
    assert bool(found.advice) == (status in ("warn", "fail"))


def test_a_network_that_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "here", lambda _: False)
    assert check_firewall(Settings(), "instance", NETWORK).status == "warn"


def test_whether_rules_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rules = firewall.rules_of("instance")
    present = {
        version: [
            *(f"-N {chain}" for chain in firewall.chains("instance")),
            *(f"-A {parent} {jump}" for parent, jump in rules.jumps(user_chain=False).items()),
            *rules.lines(version),
        ]
        for version in firewall.VERSIONS
    }
    monkeypatch.setattr(firewall, "_program", str)
    monkeypatch.setattr(firewall, "_list", lambda program: present[int(program)])  # type: ignore[index]
    assert firewall.Firewall(tmp_path / "lock").holds(rules)
    present[6].pop()
    assert not firewall.Firewall(tmp_path / "lock").holds(rules)
    assert not (tmp_path / "lock").exists()


def test_json_is_one_document(home: Path) -> None:
    assert json.loads(doctor("-o", "json", code=1, RUNTIME_SERVER_THREADS="none").stdout)["ok"] is False
