"""Real packets from real containers: what runtimes reach, and what they don't."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from docker import APIClient

from runtime_server import upkeep
from runtime_server.client import RuntimeServerClient
from runtime_server.engine.base import Network
from runtime_server.engine.docker import DockerEngine
from runtime_server.network import firewall
from runtime_server.network.firewall import Firewall, chains, rules_of
from runtime_server.service import Service, build
from runtime_server.settings import Settings
from runtime_server.state import prepare
from tests.engine import images

KEY = "a-key-that-a-runtime-has-stolen"
DEADLINE = 60.0
LISTEN = "/bin/nc -ll -p 9000 -e /bin/echo reached"


class Host:
    """Listeners on all of the host's addresses, by IPv4 and IPv6; each greets."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()

    def listen(self) -> int:
        server = self._open.enter_context(
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        threading.Thread(target=self._greet, args=(server,), daemon=True).start()
        return int(server.getsockname()[1])

    def _greet(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"reached\n")

    def close(self) -> None:
        self._open.close()


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Site:
    """A service with a network of its own on the real engine."""

    service: Service
    client: RuntimeServerClient
    port: int
    host: Host
    allowed: int
    docker: APIClient

    @property
    def network(self) -> Network:
        found = self.service.engine.find_network(self.service.settings.network)
        assert found is not None
        return found

    def start(self, command: str = "/bin/sleep 1000", **more: Any) -> str:
        return self.client.start_runtime(image=images.BUSYBOX, command=command, wait=60, **more).runtime_id

    def run(self, runtime_id: str, command: str) -> str:
        """The command's output, in the runtime."""
        made = self.docker.exec_create(runtime_id, ["/bin/sh", "-c", command])
        return str(self.docker.exec_start(made["Id"]).decode())

    @property
    def gateway(self) -> str:
        """The host's IPv4 address in the runtimes' network; engines tell IPv6's first, or last."""
        return next(each for each in self.network.gateways if ":" not in each)

    def reaches(self, runtime_id: str, address: str, port: int) -> bool:
        return "reached" in self.run(runtime_id, f"/bin/nc -w 1 {address} {port} </dev/null 2>&1")

    def addresses(self, runtime_id: str) -> tuple[str, str]:
        found = self.docker.inspect_container(runtime_id)["NetworkSettings"]["Networks"][self.network.name]
        return found["IPAddress"], found["GlobalIPv6Address"]


def iptables(*arguments: str, version: int = 4) -> str:
    # Of the two kinds that a machine may have, Docker's: legacy or nf_tables.
    program = firewall._program(4 if version == 4 else 6)
    return subprocess.run([program, "-w", *arguments], check=True, capture_output=True, text=True).stdout


def dropped(instance: str, address: str) -> int:
    """How many packets to the address the forward chain has dropped."""
    lines = iptables("-L", chains(instance)[0], "-v", "-x", "-n").splitlines()
    return sum(int(line.split()[0]) for line in lines if " DROP " in line and line.split()[-1] == address)


@pytest.fixture(scope="module")
def site_of(
    docker_client: APIClient, test_images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Site]]:
    """Makes services; takes everything away at the end, network and rules included."""
    with contextlib.ExitStack() as stack:

        def make(**changes: Any) -> Site:
            host = Host()
            stack.callback(host.close)
            allowed = host.listen()
            made: list[Service] = []
            server = make_server("0.0.0.0", 0, lambda env, start: made[0].app(env, start), handler_class=Quiet)
            fields: dict[str, Any] = {
                "state_dir": tmp_path_factory.mktemp("state") / "own",
                "api_keys": f"tester:{KEY}",
                "log_level": "warning",
                "ipv6": True,
                "network": f"rs-test-{secrets.token_hex(4)}",
                "host_services": (str(allowed), str(server.server_port)),
                **changes,
            }
            settings = Settings(**fields)
            prepare(settings)
            stack.callback(upkeep.purge, settings)
            service = build(settings)
            made.append(service)
            stack.callback(service.close)
            client = RuntimeServerClient(f"http://127.0.0.1:{server.server_port}", api_key=KEY)
            stack.callback(client.close)
            site = Site(service, client, server.server_port, host, allowed, docker_client)
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            serving.start()
            stack.callback(serving.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return site

        yield make


@pytest.fixture(scope="module")
def site(site_of: Callable[..., Site]) -> Site:
    return site_of()


@pytest.fixture(scope="module")
def runtime(site: Site) -> str:
    return site.start()


@pytest.fixture(scope="module")
def neighbour(site: Site) -> str:
    found = site.start(LISTEN, ports=[{"container_port": 9000}])
    await_greeting(site, found)
    return found


def greeting(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return connection.recv(100).decode()


def await_greeting(site: Site, runtime_id: str) -> str:
    """What the published port answers; the program behind it needs a moment to listen."""
    port = int(site.client.get_runtime(runtime_id).ports["9000/tcp"][0].HostPort)
    end = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(OSError):
            if said := greeting(port):
                return said
        assert time.monotonic() < end, "the published port doesn't answer"
        time.sleep(0.05)


def test_a_runtime_reaches_no_other(site: Site, runtime: str, neighbour: str) -> None:
    ipv4, ipv6 = site.addresses(neighbour)
    assert ipv6.startswith("fd"), "the engine gave no IPv6 address"
    assert "reached" in await_greeting(site, neighbour)  # published ports answer the host
    for address in (ipv4, ipv6):
        # It does listen there, and to the host it answers.
        with socket.create_connection((address, 9000), timeout=10) as connection:
            assert connection.recv(100) == b"reached\n"
        assert not site.reaches(runtime, address, 9000)


def test_a_runtime_reaches_of_the_host_what_is_allowed_only(site: Site, runtime: str) -> None:
    other = site.host.listen()
    for gateway in site.network.gateways:
        assert site.reaches(runtime, gateway, site.allowed)
        assert not site.reaches(runtime, gateway, other)
    assert site.reaches(runtime, "host.docker.internal", site.allowed)
    # The host has more addresses than the bridge's.
    assert not site.reaches(runtime, "172.17.0.1", other)


def test_a_runtime_is_refused_by_the_api_even_where_it_reaches_it(site: Site, runtime: str) -> None:
    url = f"http://{site.gateway}:{site.port}/runtimes"
    said = site.run(runtime, f"/bin/wget -q -S -O - --header 'X-API-Key: {KEY}' {shlex.quote(url)} 2>&1")
    assert " 403 " in said
    assert site.client.get_runtime(runtime).status == "running"  # and the same key is good elsewhere


def test_a_runtime_reaches_no_metadata(site: Site, runtime: str) -> None:
    instance = site.service.state.instance
    before = dropped(instance, "169.254.0.0/16")
    assert not site.reaches(runtime, "169.254.169.254", 80)
    assert dropped(instance, "169.254.0.0/16") > before
    assert "-d fd00:ec2::254/128 -j DROP" in iptables("-S", chains(instance)[0], version=6)


def test_rules_that_were_lost_are_set_again_by_a_sweep(site: Site, runtime: str) -> None:
    instance = site.service.state.instance
    other = site.host.listen()
    iptables("-F", chains(instance)[1])
    assert site.reaches(runtime, site.gateway, other)
    site.service.reconciler.sweep()
    assert not site.reaches(runtime, site.gateway, other)


@contextlib.contextmanager
def internet() -> Iterator[str]:
    """A machine beyond the host: a network namespace at the other end of a cable, with a program that greets."""
    name = f"rsi{secrets.token_hex(3)}"
    subnet = f"198.18.{secrets.randbelow(256)}"  # for benchmarks of networks (RFC 2544), nobody's
    with contextlib.ExitStack() as stack:
        for command in (
            f"ip netns add {name}",
            f"ip link add {name} type veth peer name eth0 netns {name}",
            f"ip addr add {subnet}.1/30 dev {name}",
            f"ip link set {name} up",
            f"ip -n {name} addr add {subnet}.2/30 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} route add default via {subnet}.1",
        ):
            subprocess.run(command.split(), check=True)
            if command.startswith("ip netns add"):
                stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        program = subprocess.Popen(
            ["ip", "netns", "exec", name, "/bin/busybox", "nc", "-ll", "-p", "9000", "-e", "/bin/echo", "reached"]
        )
        stack.callback(program.wait)
        stack.callback(program.kill)
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((f"{subnet}.2", 9000), timeout=1):
                break
        yield f"{subnet}.2"


def test_without_egress_nothing_leaves_and_published_ports_answer(
    site: Site, site_of: Callable[..., Site], runtime: str
) -> None:
    closed = site_of(egress="none")
    shut = closed.start(LISTEN, ports=[{"container_port": 9000}])
    with internet() as address:
        assert site.reaches(runtime, address, 9000)
        assert not closed.reaches(shut, address, 9000)
    assert "reached" in await_greeting(closed, shut)


def test_many_workers_make_one_network_and_purge_removes_it(docker_client: APIClient, tmp_path: Path) -> None:
    instance, name = f"test-{secrets.token_hex(6)}", f"rs-test-{secrets.token_hex(4)}"
    engines = [DockerEngine(instance) for _ in range(4)]
    stranger = DockerEngine(f"test-{secrets.token_hex(6)}")
    try:
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda each: each.ensure_network(name), engines))
        assert len(set(made)) == 1
        assert made[0].ours
        assert len(docker_client.networks(names=[f"^{name}$"])) == 1
        # Another instance of the same configuration gets one of its own.
        theirs = stranger.ensure_network(name)
        assert theirs.ours
        assert theirs.name.startswith(f"{name}-")
        assert theirs.bridge != made[0].bridge
        assert stranger.remove_network(name)
        assert not stranger.remove_network(name)
        assert engines[0].find_network(name) == made[0]
    finally:
        for each in (engines[0], stranger):
            each.remove_network(name)
        for each in (*engines, stranger):
            each.close()
    assert docker_client.networks(names=[name]) == []


def test_the_printed_rules_are_what_the_server_sets(tmp_path: Path) -> None:
    instance = f"test-{secrets.token_hex(6)}"
    rules, firewall = rules_of(instance, ["8000", "53/udp"], "none"), Firewall(tmp_path / "lock")
    try:
        for _ in range(2):
            for version in (4, 6):
                subprocess.run(["sh", "-ec", rules.script(4 if version == 4 else 6)], check=True)
        assert not firewall.apply(rules)
        assert firewall.apply(rules_of(instance))
    finally:
        assert firewall.remove(instance)
    for version in (4, 6):
        rest = iptables("-S", version=version)
        assert not any(chain in rest for chain in chains(instance))


def test_a_removed_network_is_made_again_by_the_next_start(site_of: Callable[..., Site]) -> None:
    site = site_of()
    first = site.start()
    site.client.remove_runtime(first)
    name = site.network.name
    site.docker.remove_network(name)
    second = site.start()
    assert site.client.get_runtime(second).status == "running"
    assert site.network.name == name
    assert site.network.bridge in iptables("-S", "DOCKER-USER")
