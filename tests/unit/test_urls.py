from __future__ import annotations

import dataclasses
import socket
from typing import Any

import pytest

from runtime_server.models import RuntimeStatus
from runtime_server.network.reservations import PortReservations
from runtime_server.runtimes import sessions
from runtime_server.runtimes.urls import Urls, unserved
from runtime_server.settings import Settings
from runtime_server.store.records import Record


def record(ports: dict[str, list[tuple[str, int]]], **changes: Any) -> Record:
    told = {key: [{"HostIp": ip, "HostPort": str(port)} for ip, port in hosts] for key, hosts in ports.items()}
    values: dict[str, Any] = {"session_id": None, **changes}
    return Record("runtime-0", "alice", RuntimeStatus.RUNNING, "busybox", 1.0, 1.0, ports=told, **values)


def urls(**settings: Any) -> Urls:
    return Urls(Settings.model_validate(settings))


SESSION = {
    "60000/tcp": [("127.0.0.1", 1)],
    "60001/tcp": [("127.0.0.1", 2)],
    "12000/tcp": [("127.0.0.1", 3)],
    "12001/tcp": [("127.0.0.1", 4)],
}


def test_a_sessions_addresses() -> None:
    found = record(SESSION, session_id="s")
    assert urls().main(found) == "http://127.0.0.1:1"
    assert urls().others(found) == {"http://127.0.0.1:3": 12000, "http://127.0.0.1:4": 12001}
    assert urls(advertise_host="box.example").main(found) == "http://box.example:1"
    assert urls(advertise_host="fd00::1").main(found) == "http://[fd00::1]:1"


@pytest.mark.parametrize(
    ("ports", "url"),
    [
        ({"80/tcp": [("0.0.0.0", 5)]}, "http://127.0.0.1:5"),
        ({"80/tcp": [("::", 5)]}, "http://[::1]:5"),
        ({"80/tcp": [("10.0.0.1", 5)], "53/udp": [("10.0.0.1", 6)]}, "http://10.0.0.1:5"),
        ({"80/tcp": []}, None),
        ({"80/tcp": [("10.0.0.1", 5)], "81/tcp": [("10.0.0.1", 6)]}, None),
        ({}, None),
    ],
)
def test_another_runtimes_address(ports: dict[str, list[tuple[str, int]]], url: str | None) -> None:
    assert urls().main(record(ports)) == url


def test_what_is_not_the_main_service_is_a_work_host() -> None:
    ports = {"80/tcp": [("127.0.0.1", 5)], "81/tcp": [("127.0.0.1", 6)], "82/tcp": list[tuple[str, int]]()}
    assert urls().others(record(ports)) == {"http://127.0.0.1:5": 80, "http://127.0.0.1:6": 81}
    assert urls().others(record(ports, spec={"main_port": 80})) == {"http://127.0.0.1:6": 81}


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, False),
        ({"advertise_host": "127.0.0.1"}, False),
        ({"advertise_host": "localhost"}, False),
        ({"advertise_host": "box.example"}, True),
        ({"advertise_host": "10.0.0.1"}, True),
        ({"advertise_host": "box.example", "publish_host": "0.0.0.0"}, False),
        ({"advertise_host": "10.0.0.1", "publish_host": "10.0.0.1"}, False),
        ({"advertise_host": "box.example", "publish_host": "10.0.0.1"}, False),
        ({"advertise_host": "localhost", "publish_host": "10.0.0.1"}, True),
    ],
)
def test_an_address_that_nothing_serves_is_told(settings: dict[str, str], warned: bool) -> None:
    found = unserved(Settings.model_validate(settings))
    assert (found is not None) is warned
    if found is not None:
        assert "RUNTIME_SERVER_ADVERTISE_HOST" in found


def test_a_held_port_is_nobody_elses_until_it_is_let_go() -> None:
    held = PortReservations("127.0.0.1")
    port = held.hold("runtime-0")
    assert port is not None
    assert held.hold("runtime-0") == port
    assert held.hold("runtime-1") != port
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        held.release("runtime-0")
        held.release("runtime-0")
        other.bind(("127.0.0.1", port))
    held.close()


def test_no_port_is_held_on_anothers_address() -> None:
    assert PortReservations("192.0.2.1").hold("runtime-0") is None


@pytest.mark.parametrize(
    ("routing", "main", "work", "vscode"),
    [
        (
            "subdomain",
            "https://runtime-0.box.example",
            "https://work-{}-runtime-0.box.example",
            "https://vscode-runtime-0.box.example",
        ),
        (
            "path",
            "https://box.example/runtime-0",
            "https://box.example/runtime-0/work-{}",
            "https://box.example/runtime-0/vscode",
        ),
    ],
)
def test_a_sessions_addresses_behind_the_gateway(routing: str, main: str, work: str, vscode: str) -> None:
    found = urls(routing=routing, domain="box.example", gateway_scheme="https")
    session = record({}, session_id="s")
    assert found.main(session) == main
    assert found.others(session) == {work.format(1): 12000, work.format(2): 12001}
    assert found.services(session) == {"work-1": work.format(1), "work-2": work.format(2), "vscode": vscode}
    expected = {"OH_VSCODE_BASE_PATH": "/runtime-0/vscode"} if routing == "path" else {}
    assert found.environment(session) == expected
    assert found.environment(record({})) == {}


def test_another_runtimes_addresses_behind_the_gateway() -> None:
    found = urls(routing="subdomain", domain="box.example", gateway_port=8443)
    one = record({"8000/tcp": []})
    assert (found.main(one), found.others(one)) == ("http://runtime-0.box.example:8443", {})
    two = record({"8000/tcp": [], "9000/tcp": [], "53/udp": []}, spec={"main_port": 9000})
    assert found.main(two) == "http://runtime-0.box.example:8443"
    assert found.others(two) == {"http://p8000-runtime-0.box.example:8443": 8000}
    assert found.services(two) == {"p8000": "http://p8000-runtime-0.box.example:8443"}
    ended = dataclasses.replace(one, status=RuntimeStatus.STOPPED)
    assert found.main(ended) is None


def test_services_are_told_where_ports_are_published_too() -> None:
    found = urls().services(record(SESSION, session_id="s"))
    assert found == {"vscode": "http://127.0.0.1:2", "work-1": "http://127.0.0.1:3", "work-2": "http://127.0.0.1:4"}


@pytest.mark.parametrize(
    ("service", "port"),
    [
        ("vscode", 60001),
        ("work-1", 12000),
        ("work-2", 12001),
        ("p8080", 8080),
        ("p65535", 65535),
        ("p65536", None),
        ("p0", None),
        ("p08", None),
        ("p", None),
        ("p８", None),
        ("work-3", None),
        ("", None),
    ],
)
def test_services_by_their_names(service: str, port: int | None) -> None:
    assert sessions.port_of(service) == port
    if port is not None:
        assert sessions.port_of(sessions.service_of(port)) == port
