"""What docker-py's calls send over a Unix socket, and what becomes of the answers."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from docker import APIClient

from runtime_server.engine.answers import mapped
from runtime_server.engine.docker_client import LazyClient, post_empty, url
from runtime_server.errors import EngineTimeout, EngineUnreachable

WAIT = 20.0
VERSION = b'{"ApiVersion": "1.41"}'


def answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class SocketEngine:
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

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self.listener.close()

    def _serve(self, connection: socket.socket) -> None:
        request = b""
        with connection, suppress(ConnectionError):
            while piece := connection.recv(65_536):
                request += piece
                length = re.search(rb"\r\ncontent-length: (\d+)\r\n", request, re.IGNORECASE)
                chunked = b"\r\nTransfer-Encoding: chunked\r\n" in request
                _, end, body = request.partition(b"\r\n\r\n")
                rest = int(length[1]) - len(body) if length else 0
                if not end or rest > 0 or (chunked and not body.endswith(b"0\r\n\r\n")):
                    continue
                if b" /version " in request:
                    connection.sendall(answer(VERSION))
                else:
                    self.received.append(request)
                    connection.sendall(self.answers.pop(0))
                request = b""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SocketEngine]:
    made = SocketEngine(tmp_path / "engine.sock")
    yield made
    made.close()


@pytest.fixture
def client(engine: SocketEngine, tmp_path: Path) -> Iterator[APIClient]:
    lazy = LazyClient(f"unix://{tmp_path}/engine.sock", WAIT, 2)
    yield lazy.get()
    lazy.close()


def head_of(piece: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = piece.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len({name.lower() for name in headers}) == len(lines)
    return first, headers, body


def test_a_call_of_docker_py(engine: SocketEngine, client: APIClient) -> None:
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
        ("GET", {"headers": {"user-agent": "mine", "X-Other": "1"}}, "GET /x HTTP/1.1", b""),
    ],
)
def test_what_is_sent_is_what_requests_would_send(
    engine: SocketEngine, client: APIClient, method: str, options: dict[str, Any], first: str, body: bytes
) -> None:
    engine.answers = [answer(b"{}"), answer(b"{}")]
    ours = client.request(method, f"{client.base_url}/x", timeout=WAIT, **options)
    theirs = super(type(client), client).request(method, f"{client.base_url}/x", timeout=WAIT, **options)
    assert ours.json() == theirs.json() == {}
    sent, expected = map(head_of, engine.received)
    assert (sent[0], sent[2]) == (first, body)
    assert sent == expected


def test_an_answer_that_is_an_error_is_docker_pys(engine: SocketEngine, client: APIClient) -> None:
    engine.answers = [answer(b'{"message": "No such container: x"}', "404 Not Found")] * 2
    with pytest.raises(docker.errors.NotFound, match="No such container: x"):
        client.inspect_container("x")
    with pytest.raises(docker.errors.NotFound, match="No such container: x") as caught:
        post_empty(client, "/containers/x/pause")
    assert caught.value.status_code == 404


def test_connections_are_used_again(engine: SocketEngine, client: APIClient) -> None:
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


def test_a_head_has_no_body(engine: SocketEngine, client: APIClient) -> None:
    whole = answer(b"{}")
    engine.answers = [whole[: whole.index(b"\r\n\r\n") + 4], answer(b"[]")]
    assert client.head(url(client, "/x"), timeout=WAIT).headers["content-length"] == "2"
    assert client.get(url(client, "/x"), timeout=WAIT).json() == []


@pytest.mark.parametrize(
    "options",
    [
        {"data": iter([b"a", b"b"])},
        {"cookies": {"a": "b"}},
        {"params": [("a", "b")]},
        {"headers": {"X-Registry-Auth": b"e30="}},
        {"headers": {"Accept": None}},
    ],
)
def test_what_is_no_whole_request_is_left_to_requests(
    engine: SocketEngine, client: APIClient, options: dict[str, Any]
) -> None:
    engine.answers = [answer(b"{}")]
    assert client.put(url(client, "/x"), timeout=WAIT, **options).json() == {}
    assert not client._idle._kept  # type: ignore[attr-defined]


def test_an_engine_that_redirects_is_followed(engine: SocketEngine, client: APIClient) -> None:
    moved = b"HTTP/1.1 301 Moved Permanently\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    engine.answers = [moved, moved, answer(b"{}")]
    assert client.get(url(client, "/x"), timeout=WAIT).json() == {}
    assert engine.received[-1].startswith(b"GET /elsewhere ")


def test_a_response_can_be_read_in_all_ways(engine: SocketEngine, client: APIClient) -> None:
    engine.answers = [answer(b"\xfc\n").replace(b"application/json", b"text/plain; charset=latin-1")]
    with client.get(url(client, "/x"), timeout=WAIT) as found:
        assert list(found.iter_lines()) == [b"\xfc"]
        assert found.text == "\u00fc\n"


def test_what_goes_wrong_on_the_way_is_told_as_the_engines(engine: SocketEngine, client: APIClient) -> None:
    engine.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
    with pytest.raises(EngineTimeout), mapped("inspect"):
        client.get(url(client, "/x"), timeout=0.1)
    engine.close()
    with pytest.raises(EngineUnreachable), mapped("inspect"):
        client.inspect_container("x")


def test_streams_are_left_to_requests(engine: SocketEngine, client: APIClient) -> None:
    engine.answers = [answer(b"a\nb\n")]
    with client.get(url(client, "/events"), stream=True, timeout=WAIT) as response:
        assert not client._idle._kept  # type: ignore[attr-defined]
        assert list(response.iter_lines()) == [b"a", b"b"]
