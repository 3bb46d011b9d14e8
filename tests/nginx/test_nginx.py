"""Calls through nginx, and what nginx answers itself."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from runtime_server import RetryPolicy, RuntimeServerClient, errors
from runtime_server.models import RuntimeStatus
from tests.nginx.conftest import Site, eventually

SAFE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory, nginx: str) -> tuple[Path, Path]:
    """A certificate for localhost that nobody signed, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    found = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*command, "-out", found[0], "-keyout", found[1]], check=True, capture_output=True)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"BIND": "", "HOST": "0.0.0.0", "PORT": "8090"},
        {"BIND": "", "HOST": "::1", "PORT": "8090", "TRUSTED_PROXIES": "::1"},
        {"DOMAIN": "runtimes.example.com", "MAX_BODY_BYTES": "4096", "MAX_WAIT": "3600"},
        {"BIND": 'unix:/tmp/with"quotes\\and;semicolons.sock'},
        {"DOMAIN": "runtimes.example.com", "ROUTING": "subdomain"},
        {"DOMAIN": "runtimes.example.com", "ROUTING": "path"},
    ],
    ids=["socket", "tcp", "tcp6", "named", "odd", "subdomain", "path"],
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nginx_takes_what_is_rendered(
    site: Site, certificate: tuple[Path, Path], settings: dict[str, str], tls: bool
) -> None:
    if tls:
        settings = {**settings, "TLS_CERTIFICATE": str(certificate[0]), "TLS_KEY": str(certificate[1])}
    state = site.folder / "state"
    state.mkdir(mode=0o700)
    (state / "network.json").write_text(json.dumps({"172.18.0.0/16": ["172.18.0.1"], "fd12::/64": ["fd12::1"]}))
    settings = {"GATEWAY_DIR": str(site.folder), **settings}
    text = site.render("--check", "--listen", f"127.0.0.1:{site.port}", "--connections", "10", **settings)
    site.check(text)
    assert text.index("allow 172.18.0.1;") < text.index("deny 172.18.0.0/16;")
    assert text.index("allow fd12::1;") < text.index("deny fd12::/64;")


def test_calls_go_through(running: Site) -> None:
    with running.client() as client:
        runtime = client.start_runtime(image="busybox", name="one")
        assert client.pause_runtime("one").status is RuntimeStatus.PAUSED
        assert client.resume_runtime(runtime.runtime_id).status is RuntimeStatus.RUNNING
        assert [each.name for each in client.list_runtimes()] == ["one"]
        with pytest.raises(errors.RuntimeNotFound) as caught:
            client.get_runtime("nope")
        assert caught.value.request_id
        assert client.stop_runtime("one", remove=True).status is RuntimeStatus.REMOVED


def test_a_long_wait_ends_by_the_services_own_rule(running: Site) -> None:
    with running.client() as client:
        client.start_runtime(image="busybox", name="waits")
        found = requests.get(
            f"{running.url}/runtimes/waits",
            params={"wait_for": "paused", "timeout": "2"},
            headers={"X-API-Key": running.key},
            timeout=30,
        )
        assert (found.status_code, found.json()["status"]) == (200, "running")
        assert found.elapsed.total_seconds() >= 2
        client.remove_runtime("waits")


def chunks(size: int) -> Any:
    for _ in range(0, size, 65536):
        yield b"x" * 65536


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_that_is_too_large_is_refused_by_nginx(running: Site, chunked: bool) -> None:
    before = (running.folder / "gunicorn.log").read_text()
    size = 2 * 1024 * 1024
    body = chunks(size) if chunked else b"x" * size
    headers = {"X-API-Key": running.key, "Content-Type": "application/json"}
    found = requests.post(f"{running.url}/start", data=body, headers=headers, timeout=30)
    assert found.status_code == 413
    is_problem(found, "body-too-large")
    assert found.json()["limit"] == 1_048_576
    assert (running.folder / "gunicorn.log").read_text() == before


def test_an_upload_may_be_larger_and_has_a_limit_too(site: Site) -> None:
    text = site.render("--listen", f"127.0.0.1:{site.port}", MAX_BUILD_CONTEXT="1m")
    headers = {"X-API-Key": site.key}
    with site.served(), site.proxied(text):
        form: dict[str, Any] = {"target_image": (None, "agent:1"), "context": ("context", b"x" * 2_000_000)}
        through = requests.post(f"{site.url}/build", files=form, headers=headers, timeout=60)
        assert through.json()["code"] == "policy-refused"  # by the service: it has no REGISTRY_PREFIX
        # Who has no key is told so before the upload is over.
        stranger = requests.post(f"{site.url}/build", files=form, headers={"X-API-Key": "wrong"}, timeout=60)
        assert (stranger.status_code, stranger.headers["WWW-Authenticate"]) == (401, "Bearer")
        is_problem(stranger, "unauthorized")
        form["context"] = ("context", b"x" * 3_000_000)
        refused = requests.post(f"{site.url}/build", files=form, headers=headers, timeout=60)
        assert (refused.status_code, refused.json()["limit"]) == (413, 1024 * 1024 * 7 // 5 + 1_048_576)
        is_problem(refused, "body-too-large")


def test_files_are_passed_on_as_they_come(site: Site) -> None:
    site.settings = {"MAX_UPLOAD": "3m", "STREAMS": "1"}
    content = b"x" * 2_500_000
    with site.served(), site.proxied(), site.client(retry=RetryPolicy(max_attempts=1)) as client:
        runtime = client.start_runtime(image="busybox").runtime_id

        def begun() -> bool:
            time.sleep(1)  # a look takes the only place itself, and the upload must not find it taken
            try:
                client.list_files(runtime, "/srv")
            except errors.TooManyStreams:
                return True
            return False

        def pieces() -> Iterator[bytes]:
            yield content[:2_000_000]
            eventually(begun, "the service has the request before all of it was sent")
            yield content[2_000_000:]

        url, headers = f"{site.url}/runtimes/{runtime}/files?path=/srv/big", {"X-API-Key": site.key}
        for body in (pieces(), _Sized(pieces(), len(content))):  # chunked, and with a length
            sent = requests.put(url, data=body, headers=headers, timeout=60)
            assert (sent.status_code, sent.json()["bytes"]) == (200, len(content))
            assert client.get_file(runtime, "/srv/big") == content
            client.delete_file(runtime, "/srv/big")
        assert list((site.folder / "body").glob("**/*")) == []
        with pytest.raises(errors.BodyTooLarge):
            client.put_file(runtime, "/srv/big", b"x" * 3_500_000)
        stranger = requests.put(url, data=content, headers={"X-API-Key": "wrong"}, timeout=60)
        is_problem(stranger, "unauthorized")
        assert client.list_files(runtime, "/srv") == []


class _Sized:
    """Pieces whose length together is known."""

    def __init__(self, pieces: Iterator[bytes], length: int) -> None:
        self._pieces = pieces
        self._length = length

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def __len__(self) -> int:
        return self._length


def test_a_terminal_goes_through(running: Site) -> None:
    with running.client() as client:
        runtime = client.start_runtime(image="busybox").runtime_id
        with client.terminal(runtime, "cat", rows=24, columns=80) as terminal:
            for _ in range(3):
                terminal.send(b"x" * 100_000)
                size = 0
                while size < 100_000:
                    size += len(terminal.receive(60) or b"")
            terminal.resize(50, 132)
        # With a ticket, as a page of this address would have it.
        ticket = client.make_terminal_ticket(runtime).ticket
        handshake = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Origin": running.url,
        }
        url = f"{running.url}/runtimes/{runtime}/terminal?ticket={ticket}"
        with requests.get(url, headers=handshake, stream=True, timeout=60) as answer:
            assert answer.status_code == 101
            assert answer.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        again = requests.get(url, headers=handshake, timeout=60)
        assert (again.status_code, again.json()["code"]) == (401, "unauthorized")
        foreign = requests.get(url, headers={**handshake, "Origin": "https://evil.example"}, timeout=60)
        assert (foreign.status_code, foreign.json()["code"]) == (403, "policy-refused")
        client.remove_runtime(runtime)


def is_problem(found: requests.Response, code: str) -> None:
    """nginx's own answers look as the service's do."""
    assert found.headers["Content-Type"] == "application/problem+json"
    body = found.json()
    assert (body["code"], body["status"]) == (code, found.status_code)
    assert body["request_id"] == found.headers["X-Request-ID"]
    assert {name: found.headers.get(name) for name in SAFE} == SAFE
    problem = errors.Problem.from_body(body, status=found.status_code)
    assert (type(problem), problem.retryable) == (errors.CATALOGUE[code], body["retryable"])


def said(site: Site, request: bytes) -> bytes:
    """All that is answered to bytes that needn't be a request."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /runtimes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 70000 + b"\r\n\r\n",
    ],
    ids=["no-host", "nonsense", "two-lengths", "long-line", "long-header"],
)
def test_what_cant_be_read_is_a_problem(running: Site, request_: bytes) -> None:
    answer = said(running, request_)
    body = answer.partition(b"\r\n\r\n")[2] or answer
    assert json.loads(body)["code"] == "bad-request"


@pytest.mark.parametrize("name", ["bad-request", "key"])
def test_the_internal_locations_are_none_of_the_callers(running: Site, name: str) -> None:
    found = requests.get(f"{running.url}/.runtime-server-{name}", headers={"X-API-Key": running.key}, timeout=30)
    assert found.status_code == 404


RUNTIME = "127.0.0.2"
"""Stands for a runtime's address: loopback has many."""


class From(requests.adapters.HTTPAdapter):
    """Connects from the runtime's address."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, source_address=(RUNTIME, 0), **more)


def asked_from_a_runtime(site: Site, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.mount("http://", From())
        return session.get(f"{site.url}/healthz", headers=headers, timeout=30)


def test_runtimes_are_refused_by_the_service_and_once_known_by_nginx(site: Site) -> None:
    with site.served():
        before = site.render("--listen", f"127.0.0.1:{site.port}")
        (site.folder / "state/network.json").write_text(json.dumps({f"{RUNTIME}/32": []}))
        for text, by_nginx in ((before, False), (None, True)):
            with site.proxied(text):
                logged = (site.folder / "gunicorn.log").read_text()
                for claimed in ({}, {"X-Forwarded-For": "198.51.100.7"}, {"Forwarded": "for=198.51.100.7"}):
                    found = asked_from_a_runtime(site, **claimed)
                    assert found.status_code == 403
                    is_problem(found, "policy-refused")
                assert ((site.folder / "gunicorn.log").read_text() == logged) is by_nginx
                # And nobody becomes a runtime by saying so.
                said_so = requests.get(f"{site.url}/healthz", headers={"X-Forwarded-For": RUNTIME}, timeout=30)
                assert said_so.status_code == 200


def test_without_the_service_the_client_is_told_to_come_back(site: Site) -> None:
    with site.proxied():
        found = requests.get(f"{site.url}/healthz", timeout=30)
        assert (found.status_code, found.headers["Retry-After"]) == (503, "1")
        is_problem(found, "server-unavailable")
        with site.client(retry=RetryPolicy(max_attempts=1)) as client, pytest.raises(errors.ServerUnavailable):
            client.health()
        # The next attempt finds it.
        with site.served(), site.client() as client:
            assert client.health().status == "ok"


def test_keys_go_by_tls(site: Site, certificate: tuple[Path, Path]) -> None:
    settings = {"TLS_CERTIFICATE": str(certificate[0]), "TLS_KEY": str(certificate[1]), "DOMAIN": "localhost"}
    with site.served(), site.proxied(site.render("--listen", f"127.0.0.1:{site.port}", **settings)):
        with requests.Session() as session:
            session.verify = str(certificate[0])
            with RuntimeServerClient(f"https://localhost:{site.port}", api_key=site.key, session=session) as client:
                assert client.start_runtime(image="busybox").status is RuntimeStatus.RUNNING
        plain = requests.get(f"{site.url}/healthz", timeout=30)
        assert plain.status_code == 400
        is_problem(plain, "bad-request")


def test_an_address_has_so_many_requests_at_once(site: Site) -> None:
    with site.served(), site.proxied(site.render("--listen", f"127.0.0.1:{site.port}", "--connections", "1")):
        head = f"POST /start HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-API-Key: {site.key}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as slow:
            slow.sendall(head)
            found = requests.get(f"{site.url}/healthz", timeout=30)
            while found.status_code == 200:  # nginx hasn't read the head yet
                found = requests.get(f"{site.url}/healthz", timeout=30)
            assert found.status_code == 429
            is_problem(found, "rate-limited")


def test_two_servers_dont_share_a_socket(site: Site) -> None:
    command = [sys.executable, "-m", "runtime_server"]
    with site.served():
        twin = subprocess.run(command, env=site.environment, capture_output=True, text=True, check=False, timeout=60)
        assert (twin.returncode, f"listens on {site.socket}" in twin.stderr) == (1, True)
