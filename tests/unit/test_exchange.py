"""Whole requests against whole answers over plain connections, on real sockets."""

from __future__ import annotations

import gc
import gzip
import http.client
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import requests
from urllib3.connection import HTTPConnection

from runtime_server import RuntimeServerClient
from runtime_server.client.adapter import OneServerAdapter
from runtime_server.exchange import Idle, exchange

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
WAIT = 20.0


class Peer:
    """Accepts connections one after the other; each gets these answers, one for what it sends at once, and ends."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT)
        self.port = int(self.listener.getsockname()[1])
        self.received: list[list[bytes]] = []
        self._connections = connections
        self._thread = threading.Thread(target=self._serve)

    @contextmanager
    def serving(self) -> Iterator[Peer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._thread.join(WAIT)
            self.listener.close()
            assert not self._thread.is_alive()

    def _serve(self) -> None:
        for answers in self._connections:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(WAIT)
                mine: list[bytes] = []
                self.received.append(mine)
                for answer in answers:
                    mine.append(connection.recv(65536))
                    connection.sendall(answer)

    @property
    def idle(self) -> Idle:
        return Idle(partial(HTTPConnection, "127.0.0.1", self.port), 4)


def ask(idle: Idle, *, target: str = "/x", headers: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
    return exchange(idle, "POST", target, headers or {"Host": "x"}, body=body, timeouts=(WAIT, WAIT)).body


def test_a_request_goes_out_in_one_piece_and_its_connection_is_used_again() -> None:
    with Peer([ANSWER, ANSWER]).serving() as peer:
        idle = peer.idle
        for _ in range(2):
            assert ask(idle, headers={"Host": "x", "Content-Length": "4"}, body=b"body") == b"{}"
        idle.close()
    assert peer.received == [[b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"] * 2]


def test_a_connection_that_the_peer_has_closed_is_replaced() -> None:
    with Peer([ANSWER], [ANSWER]).serving() as peer:
        idle = peer.idle
        assert ask(idle) == b"{}"
        assert select.select([idle._kept[0].sock], [], [], WAIT)[0]  # its end has come
        assert ask(idle) == b"{}"
        idle.close()
    assert len(peer.received) == 2


def test_no_more_than_the_most_are_kept() -> None:
    with Peer([ANSWER], [ANSWER]).serving() as peer:
        idle = Idle(partial(HTTPConnection, "127.0.0.1", peer.port), 0)
        assert [ask(idle), ask(idle)] == [b"{}", b"{}"]
    assert len(peer.received) == 2


def test_something_is_done_between_request_and_answer() -> None:
    order: list[str] = []
    with Peer([ANSWER]).serving() as peer:
        idle = peer.idle
        exchange(idle, "GET", "/", {}, timeouts=(WAIT, WAIT), meanwhile=lambda: order.append("meanwhile"))
        idle.close()
    assert order == ["meanwhile"]


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/x", {"X-API-Key": "k\r\nX-Other: 1"}),
        ("/x", {"X-API-Key": "k\n"}),
        ("/x", {"X-API-Key": "\u20ac"}),
        ("/x HTTP/1.1\r\nX-Other: 1\r\n", {}),
        ("/x y", {}),
    ],
)
def test_nothing_is_smuggled_into_the_head(target: str, headers: dict[str, str]) -> None:
    def never() -> HTTPConnection:
        raise AssertionError("a connection was made")

    with pytest.raises(requests.exceptions.InvalidHeader):
        ask(Idle(never, 1), target=target, headers=headers)


def test_an_answer_that_comes_before_the_whole_body_counts() -> None:
    refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    with Peer([refused]).serving() as peer:
        idle = peer.idle
        answer = exchange(idle, "POST", "/", {}, body=bytes(20_000_000), timeouts=(WAIT, WAIT))
    assert answer.status == 413
    assert not idle._kept  # where a part of the body may be on its way


def test_a_peer_that_says_nothing_is_a_timeout() -> None:
    with Peer().serving() as peer, pytest.raises(TimeoutError):
        exchange(peer.idle, "GET", "/", {}, timeouts=(WAIT, 0.05))


def test_the_client_reads_what_a_proxy_has_compressed() -> None:
    compressed = gzip.compress(b'{"status": "ok"}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(compressed)}\r\n\r\n"
    peer = Peer([head.encode() + compressed])
    with peer.serving(), RuntimeServerClient(f"http://127.0.0.1:{peer.port}", api_key="k") as client:
        assert client.health().status == "ok"
    assert f"\r\nHost: 127.0.0.1:{peer.port}\r\n".encode() in peer.received[0][0]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\nServer: x\r\n",
        b"HTTP/1.1 200 OK\r\nServer : x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"220 mail.test ESMTP\r\n",
    ],
)
def test_what_is_no_answer_is_an_error_and_ends_the_connection(answer: bytes) -> None:
    with Peer([answer], [ANSWER]).serving() as peer:
        idle = peer.idle
        with pytest.raises(http.client.HTTPException):
            ask(idle)
        assert not idle._kept
        assert ask(idle) == b"{}"
        idle.close()
    assert len(peer.received) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ANSWER,
        b"HTTP/1.1 201 Created\r\nX-Empty:\r\nX-List: a\r\nX-List: b\r\nContent-Length:  2 \r\n\r\n{}",
    ],
)
def test_a_connection_is_used_again_after_any_whole_answer(answer: bytes) -> None:
    with Peer([answer, ANSWER]).serving() as peer:
        idle = peer.idle
        assert [ask(idle), ask(idle)] == [b"{}", b"{}"]
        idle.close()


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("POST", b"HTTP/1.1 200 OK\r\n\r\n{}", b"{}"),
        ("POST", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        ("POST", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        ("POST", ANSWER + b"{}", b"{}"),
        ("POST", ANSWER + ANSWER, b"{}"),
        ("POST", ANSWER + b"HTTP/1.1 404", b"{}"),
        ("POST", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}", b""),
        ("HEAD", b"HTTP/1.0 200 OK\r\n\r\n", b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", b""),
    ],
)
def test_a_connection_that_ends_or_says_more_than_was_asked_is_not_used_again(
    method: str, answer: bytes, body: bytes
) -> None:
    with Peer([answer], [ANSWER]).serving() as peer:
        idle = peer.idle
        found = exchange(idle, method, "/", {}, timeouts=(WAIT, WAIT))
        assert (found.body, found.keep_alive) == (body, False)
        assert not idle._kept
        assert ask(idle) == b"{}"
        idle.close()


def test_another_protocol_is_no_answer() -> None:
    peer = Peer([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
    with peer.serving(), pytest.raises(http.client.BadStatusLine, match="101 in place of an answer"):
        ask(peer.idle)


def test_who_is_interrupted_while_an_answer_is_read_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def ask_again(idle: Idle) -> None:
        try:
            raise LookupError("the attempt before, which must not be taken for this one's")
        except LookupError:
            ask(idle)

    monkeypatch.setattr("runtime_server.exchange._first", interrupt)
    with Peer([b"HTTP/1.1 200 OK\r\n\r\n"], [ANSWER]).serving() as peer:
        idle = peer.idle
        with pytest.raises(KeyboardInterrupt):
            exchange(idle, "HEAD", "/", {}, timeouts=(WAIT, WAIT))
        monkeypatch.undo()
        assert ask(idle) == b"{}"
        idle.close()
    with (
        Peer([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]).serving() as peer,
        pytest.raises(http.client.BadStatusLine, match="101 in place"),
    ):
        ask_again(peer.idle)


def test_an_answer_leaves_nothing_to_the_collector() -> None:
    with Peer([ANSWER, ANSWER]).serving() as peer:
        idle = peer.idle
        ask(idle)
        gc.collect()
        ask(idle)
        assert not [each for each in gc.get_objects() if type(each).__name__ == "_Reading"]
        idle.close()


class Trickle:
    """A socket whose peer's bytes come one at a time."""

    def __init__(self, whole: bytes) -> None:
        self._left = [whole[at : at + 1] for at in range(len(whole))]

    def recv(self, _: int) -> bytes:
        return self._left.pop(0) if self._left else b""

    def __getattr__(self, _: str) -> object:
        return lambda *_: None


def test_an_answer_comes_in_pieces_of_any_size() -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nX-Request-ID: abc\r\nContent-Length: 2\r\n\r\n{}"
    connection = HTTPConnection("x")
    connection.sock = Trickle(whole)
    answer = exchange(Idle(lambda: connection, 1), "GET", "/", {}, timeouts=(WAIT, WAIT))
    assert (answer.status, answer.reason, answer.body, answer.keep_alive) == (404, "Not Found", b"{}", True)
    assert answer.headers == [("X-Request-ID", "abc"), ("Content-Length", "2")]
    assert (answer.header("x-request-id"), answer.header("etag")) == ("abc", None)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nX-Docker-Container-Path-Stat: e30=\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("POST", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_what_has_no_body_is_over_with_its_head(method: str, answer: bytes) -> None:
    with Peer([answer, ANSWER]).serving() as peer:
        idle = peer.idle
        assert exchange(idle, method, "/", {}, timeouts=(WAIT, WAIT)).body == b""
        assert ask(idle) == b"{}"
        idle.close()


def test_a_head_without_end_is_not_read_for_ever() -> None:
    peer = Peer([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200_000])
    with peer.serving(), pytest.raises(http.client.LineTooLong):
        ask(peer.idle)


def test_trailers_are_no_headers() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n"
    with Peer([answer]).serving() as peer:
        idle = peer.idle
        assert exchange(idle, "GET", "/", {}, timeouts=(WAIT, WAIT)).headers == [("Transfer-Encoding", "chunked")]
        idle.close()


def test_a_long_answer_is_read_to_its_end() -> None:
    long = bytes(range(256)) * 20_000
    with Peer([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(long) + long]).serving() as peer:
        idle = peer.idle
        assert ask(idle) == long
        idle.close()


def test_who_forgets_to_close_leaves_no_connection() -> None:
    with Peer([ANSWER]).serving() as peer:
        idle = peer.idle
        ask(idle)
        connection = idle.take()
        idle.give(connection)
        del idle
        gc.collect()
    assert connection.sock is None


@pytest.mark.parametrize(
    ("url", "host", "named"),
    [
        ("http://[fe80::1%25eth0]:8090", "fe80::1%eth0", "[fe80::1]:8090"),
        ("http://[::1]", "::1", "[::1]"),
        ("http://runtimes.test/below", "runtimes.test", "runtimes.test"),
    ],
)
def test_the_address_and_the_name_of_a_server(url: str, host: str, named: str) -> None:
    adapter = OneServerAdapter()
    adapter.open_directly(url, {})
    assert adapter._idle is not None
    assert adapter._idle.take().host == host
    assert adapter._host == named
