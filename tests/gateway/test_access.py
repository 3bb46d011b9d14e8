"""Private runtimes, and callers who try to get where they shouldn't."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from runtime_server.models import StartResponse
from tests.gateway.conftest import DEADLINE, DOMAIN, Gateway, eventually
from tests.gateway.image import PYTHON

UNKNOWN = "runtime-000000000000"


@pytest.fixture(scope="module")
def private(subdomain: Gateway) -> Iterator[StartResponse]:
    made = subdomain.runtime(access="private")
    yield made
    subdomain.client.remove_runtime(made.runtime_id)


def key_of(runtime: StartResponse) -> str:
    assert runtime.session_api_key
    return runtime.session_api_key


def test_the_key_in_a_header(subdomain: Gateway, private: StartResponse) -> None:
    key = key_of(private)
    for headers in ({}, {"X-Session-API-Key": key[:-1]}, {"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
        answer = subdomain.call(private, headers=headers)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    assert subdomain.call(private, headers={"X-Session-API-Key": key}).status == 200
    # What was kept for one key counts for no other.
    assert subdomain.call(private).status == 401
    websocket = subdomain.websocket(private, **{"X-Session-API-Key": key})
    assert websocket.echo("in") == "in"
    websocket.close()
    refused = subdomain.websocket(private)
    refused.close()
    assert refused.status == 401


def test_the_key_in_the_query_once_and_then_a_cookie(subdomain: Gateway, private: StartResponse) -> None:
    first = subdomain.call(private, f"/echo?session_api_key={key_of(private)}&a=b")
    assert first.status == 200
    cookie = first.headers["Set-Cookie"]
    assert re.fullmatch(r"runtime-session=[\w-]{43}; Path=/; HttpOnly; SameSite=Lax", cookie)
    assert key_of(private) not in cookie
    sent = {"Cookie": f"theme=dark; {cookie.partition(';')[0]}; x=y"}
    again = subdomain.call(private, headers=sent)
    assert (again.status, again.headers["Set-Cookie"]) == (200, None)
    # On that host alone, and not where another host's page makes the call.
    assert subdomain.call(private, service="p8000", headers=sent).status == 401
    host, _ = subdomain.address(private)
    for origin, status in ((f"http://{host}", 200), (f"http://p8000-{host}", 401), ("null", 401)):
        assert subdomain.call(private, headers={**sent, "Origin": origin}).status == status
        websocket = subdomain.websocket(private, Origin=origin, **sent)
        assert websocket.status == (101 if status == 200 else status)
        websocket.close()
    assert subdomain.call(private, "/echo?session_api_key=wrong").status == 401
    assert subdomain.call(private, "/echo?xsession_api_key=" + key_of(private)).status == 401


def test_a_preflight_needs_no_key(subdomain: Gateway, private: StartResponse) -> None:
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = subdomain.call(private, "/api", method="OPTIONS", headers=headers)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example")
    assert subdomain.call(private, "/api", method="POST", headers=headers).status == 401
    assert subdomain.call(private, "/api", method="OPTIONS", headers={"Origin": "https://app.example"}).status == 401


def test_strangers_do_not_wake_a_private_runtime(subdomain: Gateway, private: StartResponse) -> None:
    subdomain.client.pause_runtime(private.runtime_id)
    assert subdomain.call(private).status == 401
    assert subdomain.status(private) == "paused"
    assert subdomain.call(private, headers={"X-Session-API-Key": key_of(private)}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        UNKNOWN,
        f"vscode-{UNKNOWN}",
        "nothing",
        "runtime-0123",
        f"x-{UNKNOWN}",
        f"vscode-vscode-{UNKNOWN}",
        f"p0-{UNKNOWN}",
        f"{UNKNOWN}.{UNKNOWN}",
    ],
)
def test_unknown_names(subdomain: Gateway, host: str) -> None:
    answer = subdomain.request("GET", "/", {"Host": f"{host}.{DOMAIN}"})
    assert (answer.status, answer.json["code"]) == (404, "runtime-not-found")
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", [f"/{UNKNOWN}", f"/{UNKNOWN}/vscode/x", f"/start/../{UNKNOWN}/"])
def test_unknown_paths(by_path: Gateway, path: str) -> None:
    assert by_path.request("GET", path, {"Host": DOMAIN}).json["code"] == "runtime-not-found"


LOOK_UP, WAKE = "/.runtime-server-look-up", "/.runtime-server-wake"


@pytest.mark.parametrize("inside", [LOOK_UP, WAKE])
def test_the_internal_locations_are_nobodys(
    gateway: Gateway, runtime: StartResponse, private: StartResponse, inside: str
) -> None:
    host, prefix = gateway.address(runtime)
    asked = {"X-Gateway-Runtime": runtime.runtime_id, "X-Gateway-Key": "x", "X-Original-URI": inside}
    for target in (inside, f"{inside}?x", f"/{inside}", f"/x/..{inside}", inside.replace("-", "%2d")):
        answer = gateway.request("GET", target, {"Host": host, **asked})
        assert answer.headers["X-Gateway-Upstream"] is None
        assert answer.headers["X-Gateway-Status"] is None
        assert b"upstream" not in answer.body.lower()
    # Of the API as well: the service listens for nginx on a socket of its own.
    for target in ("/look-up", "/wake"):
        assert gateway.request("GET", target, {"Host": DOMAIN, **asked}).status == 404
    # A runtime's own answer leads nowhere either.
    astray = gateway.call(runtime, f"/astray?to={inside}")
    assert (astray.status, astray.body) == (200, b"own")
    assert prefix == "" or gateway.call(runtime, f"/astray?to=/{runtime.runtime_id}/x").body == b"own"


def test_headers_change_nothing_of_where_a_request_goes(subdomain: Gateway, private: StartResponse) -> None:
    runtime = subdomain.runtime()
    there = subdomain.docker.inspect_container(private.runtime_id)["NetworkSettings"]["Networks"].popitem()[1]
    upstream = f"{there['IPAddress']}:8000"
    hostile = {
        "X-Gateway-Runtime": private.runtime_id,
        "X-Gateway-Service": "p8000",
        "X-Gateway-Upstream": upstream,
        "X-Gateway-Status": "200",
        "X-Gateway-Header-Key": key_of(private),
        "X-Gateway-Key": "x",
        "X-Forwarded-Host": f"{private.runtime_id}.{DOMAIN}",
        "X-Original-Host": f"{private.runtime_id}.{DOMAIN}",
        "X-Original-URL": f"/{private.runtime_id}",
        "X-Rewrite-URL": f"/{private.runtime_id}",
        "X-Accel-Redirect": LOOK_UP,
        "X-Forwarded-For": "203.0.113.7",
        "Forwarded": "for=203.0.113.7",
        "Proxy": "http://203.0.113.7",
    }
    seen = subdomain.call(runtime, "/echo", headers=hostile)
    assert seen.status == 200
    headers = {name.lower(): value for name, value in seen.json["headers"]}
    assert headers["host"] == subdomain.address(runtime)[0]
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-host"] == headers["host"]
    assert not {"forwarded", "proxy"} & set(headers)
    # And the private one lets nobody in by them.
    assert subdomain.call(private, headers=hostile).status == 401
    subdomain.client.remove_runtime(runtime.runtime_id)


def raw(site: Gateway, request: str) -> str:
    """What nginx answers to these bytes."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=DEADLINE) as connection:
        connection.sendall(request.encode("latin-1"))
        with connection.makefile("rb") as stream:
            return stream.read().decode("latin-1")


def test_requests_that_name_two_hosts(subdomain: Gateway, private: StartResponse) -> None:
    mine = subdomain.runtime()
    here, there = subdomain.address(mine)[0], subdomain.address(private)[0]
    end = "Connection: close\r\n\r\n"
    assert raw(subdomain, f"GET / HTTP/1.1\r\nHost: {here}\r\nHost: {there}\r\n{end}").startswith("HTTP/1.1 400")
    # The request line counts (RFC 9112, section 3.2.2), for the runtime as well.
    answer = raw(subdomain, f"GET http://{here}/echo HTTP/1.1\r\nHost: {there}\r\n{end}")
    assert answer.startswith("HTTP/1.1 200")
    assert private.runtime_id not in answer
    assert raw(subdomain, f"GET http://{there}/echo HTTP/1.1\r\nHost: {here}\r\n{end}").startswith("HTTP/1.1 401")
    for host in (f"{here}@{there}", f"{there}#{here}", f"{there} {here}", f"{there}%00", f"{there}\t"):
        answer = raw(subdomain, f"GET /echo HTTP/1.1\r\nHost: {host}\r\n{end}")
        assert int(answer.split()[1]) in {400, 401, 404} or mine.runtime_id in answer, host
        assert private.runtime_id not in answer
    subdomain.client.remove_runtime(mine.runtime_id)


@pytest.fixture(scope="module")
def pair(by_path: Gateway) -> Iterator[tuple[StartResponse, StartResponse]]:
    """A public runtime, and a private one."""
    made = by_path.runtime(), by_path.runtime(access="private")
    yield made
    for each in made:
        by_path.client.remove_runtime(each.runtime_id)


@pytest.mark.parametrize(
    "path",
    [
        "/{mine}/../{theirs}/echo",
        "/{mine}/..%2f{theirs}/echo",
        "/{mine}%2f..%2f{theirs}/echo",
        "/{mine}/./../{theirs}/echo",
        "//{theirs}/echo",
        "/./{theirs}/echo",
        "/%72untime{rest}/echo",
        "/{theirs}/../{mine}/echo",
    ],
)
def test_paths_that_lead_up(by_path: Gateway, pair: tuple[StartResponse, StartResponse], path: str) -> None:
    mine, theirs = (each.runtime_id for each in pair)
    target = path.format(mine=mine, theirs=theirs, rest=theirs[7:])
    answer = by_path.request("GET", target, {"Host": DOMAIN})
    # Either it is refused, or it is the own runtime's, which may make of it what it likes.
    assert answer.status in {401, 404, 200}
    assert answer.status != 200 or target.startswith(f"/{mine}/")


def test_a_key_of_the_query_is_kept_nowhere(by_path: Gateway, pair: tuple[StartResponse, StartResponse]) -> None:
    runtime = pair[1]
    answer = by_path.call(runtime, f"/echo?session_api_key={key_of(runtime)}")
    # All runtimes are one origin there: a cookie would be everybody's.
    assert (answer.status, answer.headers["Set-Cookie"]) == (200, None)
    for path in (by_path.folder / "run/lookups").iterdir():
        assert key_of(runtime) not in path.read_text("latin-1")
    assert by_path.call(runtime).status == 401
    assert by_path.call(runtime, headers={"X-Session-API-Key": key_of(runtime)}).status == 200


def test_runtimes_do_not_reach_the_gateway(subdomain: Gateway) -> None:
    runtime = subdomain.runtime()
    address = subdomain.docker.inspect_container(runtime.runtime_id)["NetworkSettings"]["Networks"].popitem()[1]
    script = f"import socket; socket.create_connection(({address['Gateway']!r}, {subdomain.port}), 3)"
    made = subdomain.docker.exec_create(runtime.runtime_id, [PYTHON, "-c", script])
    subdomain.docker.exec_start(made["Id"])
    eventually(lambda: not subdomain.docker.exec_inspect(made["Id"])["Running"], "it has ended")
    assert subdomain.docker.exec_inspect(made["Id"])["ExitCode"] == 1
    subdomain.client.remove_runtime(runtime.runtime_id)
