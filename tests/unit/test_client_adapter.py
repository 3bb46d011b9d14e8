"""The client's own session on a real socket: connections and cookies are kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from runtime_server import RuntimeServerClient


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str | None, int]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Cookie"], self.client_address[1]))
        body = b'{"status": "ok"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "backend=b7; Path=/")
        self.send_header("Set-Cookie", "zone=z1; Path=/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Handler.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_one_connection_serves_all_calls_and_keeps_a_balancers_cookies(url: str) -> None:
    with RuntimeServerClient(f"{url}/below", api_key="k") as client:
        for _ in range(3):
            assert client.health().status == "ok"
    paths, cookies, ports = zip(*Handler.asked, strict=True)
    assert set(paths) == {"/below/healthz"}
    assert cookies == (None, *["backend=b7; zone=z1"] * 2)
    assert len(set(ports)) == 1


def test_a_closed_client_opens_new_connections(url: str) -> None:
    client = RuntimeServerClient(url, api_key="k")
    for _ in range(2):
        assert client.health().status == "ok"
        client.close()
    assert len({port for _, _, port in Handler.asked}) == 2


def test_a_proxy_of_the_environment_is_asked_for_the_whole_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.delenv("no_proxy", raising=False)
    with RuntimeServerClient("http://runtimes.test:8090", api_key="k") as client:
        assert client.health().status == "ok"
    assert [path for path, _, _ in Handler.asked] == ["http://runtimes.test:8090/healthz"]
