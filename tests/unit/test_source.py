"""Runtimes are refused by where their requests come from, before any key is looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from runtime_server.engine.base import Network
from runtime_server.engine.memory import MemoryEngine
from runtime_server.errors import EngineFailed
from runtime_server.network import runtime_network
from runtime_server.network.addresses import RuntimeAddresses
from runtime_server.network.firewall import Firewall, FirewallFailed, Rules
from runtime_server.network.runtime_network import RuntimeNetwork
from runtime_server.testing import InMemoryServer, in_memory_server

NETWORK = Network("ours", "rs-0", ("172.18.0.0/16", "fd12:3456:789a::/64"), ("172.18.0.1", "fd12:3456:789a::1"))


@pytest.fixture
def addresses(tmp_path: Path) -> RuntimeAddresses:
    found = RuntimeAddresses(tmp_path / "network.json")
    found.write((NETWORK,))
    return found


@pytest.mark.parametrize(
    ("address", "runtime"),
    [
        ("172.18.0.2", True),
        ("172.18.255.254", True),
        ("::ffff:172.18.0.2", True),
        ("fd12:3456:789a::2", True),
        ("FD12:3456:789A:0:0::2", True),
        ("fe80::42:acff:fe12:2%rs-0", True),
        ("172.18.0.1", False),
        ("::ffff:172.18.0.1", False),
        ("fd12:3456:789a::1", False),
        ("172.17.0.2", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("", False),
        ("not an address", False),
    ],
)
def test_runtimes_are_known_by_their_subnets(addresses: RuntimeAddresses, address: str, runtime: bool) -> None:
    assert addresses.covers(address) is runtime


def test_every_worker_sees_that_the_network_changed(addresses: RuntimeAddresses, tmp_path: Path) -> None:
    other_worker = RuntimeAddresses(tmp_path / "network.json")
    assert other_worker.covers("172.18.0.2")
    addresses.write((Network("ours", "rs-0", ("10.9.0.0/24",), ("10.9.0.1",)),))
    assert not other_worker.covers("172.18.0.2")
    assert other_worker.covers("10.9.0.7")
    before = os.stat(tmp_path / "network.json")
    addresses.write((Network("ours", "rs-0", ("10.9.0.0/24",), ("10.9.0.1",)),))
    assert os.stat(tmp_path / "network.json") == before
    assert before.st_mode & 0o777 == 0o600


def ask(server: InMemoryServer, path: str, **environ: str) -> tuple[str, bytes]:
    started: list[str] = []

    def start_response(status: str, _headers: object, _exc_info: object = None) -> Any:
        started.append(status)
        return lambda _data: None

    from wsgiref.util import setup_testing_defaults

    environment: dict[str, Any] = {"PATH_INFO": path, **environ}
    setup_testing_defaults(environment)
    body = b"".join(server.app(environment, start_response))
    return started[0], body


def test_a_runtime_is_refused_whatever_it_sends() -> None:
    with in_memory_server() as server:
        client = server.client()
        assert client.start_runtime(image="busybox", command="sleep 100").status == "running"
        assert server.engine.calls["ensure_network"] == 1
        key = {"HTTP_X_API_KEY": server.api_key}
        for path in ("/runtimes", "/healthz", "/nowhere"):
            status, body = ask(server, path, REMOTE_ADDR="192.0.2.7", HTTP_X_FORWARDED_FOR="127.0.0.1", **key)
            assert status.startswith("403")
            assert b'"policy-refused"' in body
        # Without a key the same: nobody looks at it.
        assert ask(server, "/runtimes", REMOTE_ADDR="192.0.2.7")[0].startswith("403")
        # And nobody becomes a runtime by saying so.
        status, _ = ask(server, "/runtimes", REMOTE_ADDR="198.51.100.1", HTTP_X_FORWARDED_FOR="192.0.2.7", **key)
        assert status.startswith("200")


def test_the_network_is_made_once_and_again_where_it_went_away() -> None:
    with in_memory_server(host_services="8000") as server:
        client = server.client()
        for _ in range(3):
            client.start_runtime(image="busybox", command="sleep 100")
        client.start_runtime(image="busybox", command="sleep 100", network="none")
        assert server.engine.calls["ensure_network"] == 1
        server.engine.remove_network("runtime-server")
        assert client.start_runtime(image="busybox", command="sleep 100").status == "running"
        assert server.engine.calls["ensure_network"] == 2


def test_without_a_network_of_its_own_nothing_is_made() -> None:
    with in_memory_server(network="") as server:
        assert server.client().start_runtime(image="busybox", command="sleep 100").status == "running"
        assert server.engine.calls["ensure_network"] == 0


class Refused(Firewall):
    """May not set rules."""

    tries = 0

    def apply(self, rules: Rules) -> bool:
        self.tries += 1
        raise FirewallFailed("iptables: you must be root")


@pytest.mark.parametrize("egress", ["open", "none"])
def test_without_the_right_to_set_rules_there_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, egress: str
) -> None:
    monkeypatch.setattr(runtime_network, "here", lambda bridge: True)
    firewall, engine = Refused(tmp_path / "lock"), MemoryEngine("tests")
    network = RuntimeNetwork(
        engine, "ours", RuntimeAddresses(tmp_path / "network.json"), firewall=firewall, egress=egress
    )
    network.keep()  # before the first start there is nothing to keep, and nothing is made
    assert (firewall.tries, engine.calls["ensure_network"]) == (0, 0)
    with capture_logs() as logs:
        if egress == "open":
            assert network.ensure() is network.ensure()
        else:
            # A promise that nothing keeps would be worse than none.
            with pytest.raises(EngineFailed, match="RUNTIME_SERVER_FIREWALL=off"):
                network.ensure()
        network.keep()
    assert firewall.tries == 2
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert "firewall print" in logs[0]["event"]
