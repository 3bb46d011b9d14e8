"""What goes through the gateway, by host name and by path: everything, as it is, both ways."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from runtime_server.models import StartResponse
from tests.gateway.conftest import DEADLINE, DOMAIN, Gateway, eventually

MEGABYTES = 200
BLOCK = bytes(range(256)) * 4096


def test_addresses_lead_to_their_services(gateway: Gateway, runtime: StartResponse) -> None:
    host, prefix = gateway.address(runtime)
    assert runtime.url == f"http://{host}{prefix}"
    ports = {"": 60000, "vscode": 60001, "work-1": 12000, "work-2": 12001, "p8000": 8000, "p60001": 60001}
    for service, port in ports.items():
        assert gateway.call(runtime, "/echo", service=service).json["port"] == port
        if prefix:  # the address as it is told, without a slash at the end
            for end, seen in (("", "/"), ("?a=b", "/?a=b"), ("/", "/")):
                assert gateway.call(runtime, end, service=service).json["target"] == seen
    assert {"work-1", "work-2", "vscode"} == set(runtime.services)
    assert gateway.call(runtime, service="p9").status == 502
    assert not any(runtime.ports.values())


def test_requests_arrive_as_they_were_sent(gateway: Gateway, runtime: StartResponse) -> None:
    target = "/a%2Fb/..%2f/%C3%A9//c;d?x=%20&y=a+b&y=%zz"
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        body = b"{}" if method != "GET" else None
        seen = gateway.call(runtime, target, method=method, body=body, headers={"X-API-Key": "own", "Origin": "null"})
        assert seen.status == 200
        assert (seen.json["method"], seen.json["target"]) == (method, target)
        assert seen.json["size"] == (2 if body else 0)
        headers = {name.lower(): value for name, value in seen.json["headers"]}
        host, prefix = gateway.address(runtime)
        assert headers["host"] == host
        assert headers["x-api-key"] == "own"
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-proto"] == "http"
        assert headers.get("x-forwarded-prefix", "") == prefix
    assert gateway.call(runtime, "/", method="HEAD").body == b""


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "500 Internal", "502 Bad", "503 Away"])
def test_a_runtimes_own_errors_are_its_own(gateway: Gateway, runtime: StartResponse, status: str) -> None:
    answer = gateway.call(runtime, f"/x?status={status.replace(' ', '%20')}")
    assert answer.status == int(status[:3])
    assert answer.json["method"] == "GET"


def test_a_preflight_reaches_the_runtime(gateway: Gateway, runtime: StartResponse) -> None:
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = gateway.call(runtime, "/api", method="OPTIONS", headers=headers)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.json["method"] == "OPTIONS"


def test_a_websocket_echoes(gateway: Gateway, runtime: StartResponse) -> None:
    websocket = gateway.websocket(runtime)
    assert websocket.status == 101
    for text in ("hello", "x" * 200, "y" * 100_000):
        assert websocket.echo(text) == text
    websocket.close()


def test_no_other_upgrade_is_handed_on(gateway: Gateway, runtime: StartResponse) -> None:
    headers = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    names = {name.lower() for name, _ in gateway.call(runtime, "/echo", headers=headers).json["headers"]}
    assert "upgrade" not in names


def pieces(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield BLOCK


def test_large_uploads_and_downloads(gateway: Gateway, runtime: StartResponse) -> None:
    digest = hashlib.sha256()
    for piece in pieces(MEGABYTES):
        digest.update(piece)
    for headers in ({}, {"Content-Length": str(MEGABYTES * len(BLOCK))}):  # in chunks, and with its length
        sent = gateway.call(runtime, "/up", method="PUT", body=pieces(MEGABYTES), headers=headers)
        assert (sent.json["size"], sent.json["sha256"]) == (MEGABYTES * len(BLOCK), digest.hexdigest())

    host, prefix = gateway.address(runtime)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
    connection.request("GET", f"{prefix}/download?size={MEGABYTES * len(BLOCK)}", headers={"Host": host})
    answer = connection.getresponse()
    got = hashlib.sha256()
    while piece := answer.read(len(BLOCK)):
        got.update(piece)
    connection.close()
    assert got.hexdigest() == digest.hexdigest()


def test_an_upload_is_not_held_back(gateway: Gateway, runtime: StartResponse) -> None:
    host, prefix = gateway.address(runtime)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
    connection.putrequest("POST", f"{prefix}/up?name=part", skip_host=True)
    connection.putheader("Host", host)
    connection.putheader("Content-Length", "20")
    connection.endheaders()
    connection.send(b"0123456789")
    eventually(lambda: gateway.call(runtime, "/uploaded?name=part").body == b"10", "half of it has come")
    connection.send(b"0123456789")
    assert connection.getresponse().status == 200
    connection.close()


def test_server_sent_events_arrive_one_by_one(gateway: Gateway, runtime: StartResponse) -> None:
    host, prefix = gateway.address(runtime)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE)
    connection.request("GET", f"{prefix}/events", headers={"Host": host})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    for number in range(5):
        # The next is made only once the last has come.
        assert gateway.call(runtime, f"/emit?text={number}", method="POST").status == 200
        assert answer.readline() == f"data: {number}\n".encode()
        assert answer.readline() == b"\n"
    gateway.call(runtime, "/emit?text=end", method="POST")
    assert answer.read() == b""
    connection.close()


def test_the_api_is_beside_it(gateway: Gateway) -> None:
    assert gateway.request("GET", "/healthz", {"Host": DOMAIN}).status == 200
    assert gateway.request("GET", "/runtimes", {"Host": DOMAIN}).status == 401
    assert gateway.client.list_runtimes()


def test_redirects_and_cookies_keep_to_their_path(by_path: Gateway) -> None:
    runtime = by_path.runtime(session_id="paths", ports=[])
    _, prefix = by_path.address(runtime, "vscode")

    def location(to: str) -> Any:
        return by_path.call(runtime, f"/moved?to={to}", service="vscode").headers["Location"]

    assert location("/login?x=1") == f"{prefix}/login?x=1"
    assert location(f"{prefix}/login") == f"{prefix}/login"
    assert location("https://elsewhere.example/x") == "https://elsewhere.example/x"
    assert location("//elsewhere.example/x") == "//elsewhere.example/x"
    cookie = by_path.call(runtime, "/astray?to=/x", service="vscode").headers["Set-Cookie"]
    assert cookie == f"a=b; Path={prefix}/"
    env = by_path.docker.inspect_container(runtime.runtime_id)["Config"]["Env"]
    assert f"OH_VSCODE_BASE_PATH={prefix}" in env
    by_path.client.remove_runtime(runtime.runtime_id)
