"""What docker-py's calls send over a Unix socket, and what becomes of the answers."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from docker import APIClient

from runtime_server.engine.docker_client import LazyClient, post_empty, url

WAIT = 20.0
VERSION = b'{"ApiVersion": "1.41"}'


def answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Engine:
    """Answers each request with the next of ``answers``, the question of its version aside."""

    def __init__(self, path: Path) -> None:
        self.answers: list[bytes] = []
        self.received: list[bytes] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        request = b""
        with connection:
            while piece := connection.recv(65_536):
                request += piece
                length = re.search(rb"\r\ncontent-length: (\d+)\r\n", request, re.IGNORECASE)
                _, end, body = request.partition(b"\r\n\r\n")
                if not end or len(body) < (int(length[1]) if length else 0):
                    continue
                if b" /version " in request:
                    connection.sendall(answer(VERSION))
                else:
                    self.received.append(request)
                    connection.sendall(self.answers.pop(0))
                request = b""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "engine.sock")
    yield made
    made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()


@pytest.fixture
def client(engine: Engine, tmp_path: Path) -> Iterator[APIClient]:
    lazy = LazyClient(f"unix://{tmp_path}/engine.sock", WAIT, 2)
    yield lazy.get()
    lazy.close()


def head_of(piece: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = piece.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def test_a_call_of_docker_py(engine: Engine, client: APIClient) -> None:
    engine.answers = [answer(b'{"Id": "c1"}', "201 Created")]
    made = client.create_container_from_config(  # type: ignore[no-untyped-call]
        {"Image": "\u00fc", "Cmd": None}, name="n 1", platform=None
    )
    assert made == {"Id": "c1"}
    (piece,) = engine.received
    first, headers, body = head_of(piece)
    assert first == "POST /v1.41/containers/create?name=n+1 HTTP/1.1"
    assert body == b'{"Image": "\\u00fc"}'
    assert headers["Content-Type"] == "application/json"
    assert headers["Content-Length"] == str(len(body))
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("method", "options", "first", "body"),
    [
        ("GET", {"params": {"all": True, "no": None, "f": ["a", "b"]}}, "GET /x?all=True&f=a&f=b HTTP/1.1", b""),
        ("GET", {"params": {}}, "GET /x HTTP/1.1", b""),
        ("POST", {"json": {"a": 1}}, "POST /x HTTP/1.1", b'{"a": 1}'),
        ("POST", {"json": {}}, "POST /x HTTP/1.1", b"{}"),
        ("PUT", {"data": b"\x00\xff"}, "PUT /x HTTP/1.1", b"\x00\xff"),
        ("POST", {"data": "\u00fc"}, "POST /x HTTP/1.1", "\u00fc".encode()),
        ("DELETE", {}, "DELETE /x HTTP/1.1", b""),
    ],
)
def test_what_is_sent_is_what_requests_would_send(
    engine: Engine, client: APIClient, method: str, options: dict[str, Any], first: str, body: bytes
) -> None:
    engine.answers = [answer(b"{}"), answer(b"{}")]
    ours = client.request(method, f"{client.base_url}/x", timeout=WAIT, **options)
    theirs = super(type(client), client).request(method, f"{client.base_url}/x", timeout=WAIT, **options)
    assert ours.json() == theirs.json() == {}
    sent, expected = map(head_of, engine.received)
    assert (sent[0], sent[2]) == (first, body)
    assert sent == expected


def test_an_answer_that_is_an_error_is_docker_pys(engine: Engine, client: APIClient) -> None:
    engine.answers = [answer(b'{"message": "No such container: x"}', "404 Not Found")] * 2
    with pytest.raises(docker.errors.NotFound, match="No such container: x"):
        client.inspect_container("x")
    with pytest.raises(docker.errors.NotFound, match="No such container: x") as caught:
        post_empty(client, "/containers/x/pause")
    assert caught.value.status_code == 404


def test_connections_are_used_again(engine: Engine, client: APIClient) -> None:
    engine.answers = [answer(b"", "204 No Content"), answer(b"{}"), answer(b'{"message": "busy"}', "409 Conflict")]
    order: list[str] = []
    post_empty(client, "/containers/x/pause", lambda: order.append("meanwhile"))
    client.inspect_container("x")
    with pytest.raises(docker.errors.APIError):
        client.start("x")
    assert order == ["meanwhile"]
    assert len(client._idle._kept) == 1  # type: ignore[attr-defined]
    client.close()
    assert not client._idle._kept  # type: ignore[attr-defined]


def test_streams_are_left_to_requests(engine: Engine, client: APIClient) -> None:
    engine.answers = [answer(b"a\nb\n")]
    with client.get(url(client, "/events"), stream=True, timeout=WAIT) as response:
        assert not client._idle._kept  # type: ignore[attr-defined]
        assert list(response.iter_lines()) == [b"a", b"b"]
