"""Answers that come bit by bit: heartbeats, ends, readers that leave, and the threads they hold."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import falcon
import pytest
from falcon.testing import create_environ

from runtime_server.engine.feeds import FeedEnded
from runtime_server.errors import EngineTimeout, TooManyStreams
from runtime_server.runtimes.waits import SlowLane
from runtime_server.web import streaming
from runtime_server.web.context import ApiRequest
from runtime_server.web.peers import SOCKET, Peer
from runtime_server.web.streaming import Ndjson, StreamBody, Streams, stream

Step = str | float | Exception


class Script:
    """A feed that plays steps: an item, seconds of silence, or how it ends. After the last there is silence."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.closed = 0

    def receive(self, timeout: float) -> str | None:
        step = self.steps[0] if self.steps else 1e9
        if isinstance(step, float):
            waited = min(step, timeout)
            time.sleep(waited)
            if self.steps:
                self.steps[:1] = [step - waited] if waited < step else []
            return None
        if isinstance(step, Exception):
            raise step
        self.steps.pop(0)
        return step

    def close(self) -> None:
        self.closed += 1


STYLE = Ndjson[str](lambda item: json.dumps({"item": item}).encode())


def streams(places: int = 1, **changes: Any) -> Streams:
    return Streams(SlowLane(places, TooManyStreams), **{"heartbeat": 60.0, **changes})


def answered(shared: Streams, feed: Script, **more: Any) -> tuple[falcon.Response, ApiRequest]:
    env = create_environ("/x", method=more.pop("method", "GET"))
    env |= more.pop("env", {})
    req, resp = ApiRequest(env), falcon.Response()
    stream(req, resp, shared, lambda: feed, STYLE, **more)
    return resp, req


def body(resp: falcon.Response) -> StreamBody[str]:
    assert isinstance(resp.stream, StreamBody)
    return resp.stream


def told(pieces: Iterator[bytes]) -> list[Any]:
    return [json.loads(line) for line in b"".join(pieces).splitlines()]


def test_items_come_at_once_and_the_end_is_told() -> None:
    shared, feed = streams(), Script("a", "b", 0.01, "c", FeedEnded("stopped"))
    resp, _ = answered(shared, feed)
    pieces = list(body(resp))
    # Nothing first, so that the server sends the headers; what is there together goes together.
    assert pieces[0] == b""
    assert pieces[1] == b'{"item": "a"}\n{"item": "b"}\n'
    assert told(iter(pieces)) == [{"item": "a"}, {"item": "b"}, {"item": "c"}, {"end": "stopped"}]
    assert resp.headers["x-accel-buffering"] == "no"
    assert resp.content_type == "application/x-ndjson"


def test_much_is_sent_in_pieces() -> None:
    resp, _ = answered(streams(), Script(*["x" * 30_000] * 5, FeedEnded()))
    sizes = [len(piece) for piece in body(resp)]
    assert len(sizes) == 4
    assert max(sizes) < streaming.FULL + 40_000


def test_silence_has_heartbeats() -> None:
    resp, _ = answered(streams(heartbeat=0.05), Script(0.3, FeedEnded("gone")), steady=True)
    found = told(body(resp))
    assert found.pop() == {"end": "gone"}
    assert 3 <= len(found) <= 8
    assert all(set(each) == {"heartbeat"} for each in found)
    assert [each["heartbeat"] for each in found] == sorted({each["heartbeat"] for each in found})


def test_an_error_ends_the_stream_as_a_problem() -> None:
    resp, req = answered(streams(), Script("a", EngineTimeout("Too slow.")))
    item, error = told(body(resp))
    assert item == {"item": "a"}
    assert error["error"]["code"] == "engine-timeout"
    assert error["error"]["request_id"] == req.context.request_id


def test_what_nobody_foresaw_is_told_without_its_text() -> None:
    resp, _ = answered(streams(), Script("a", ZeroDivisionError("secret")))
    assert told(body(resp))[-1]["error"]["code"] == "internal-error"


@pytest.mark.parametrize("read", [0, 1, 3])
def test_a_place_is_held_until_the_body_is_closed(read: int) -> None:
    shared, feed = streams(), Script("a", 0.001, "b")
    resp, _ = answered(shared, feed)
    for _ in range(read):
        next(body(resp))
    with pytest.raises(TooManyStreams):
        answered(shared, Script())
    body(resp).close()
    body(resp).close()
    assert feed.closed == 1
    body(answered(shared, Script())[0]).close()


def test_a_place_is_given_back_where_opening_fails_or_only_headers_are_wanted() -> None:
    shared = streams()

    def fail() -> Script:
        raise EngineTimeout

    for _ in range(2):
        with pytest.raises(EngineTimeout):
            stream(ApiRequest(create_environ("/x")), falcon.Response(), shared, fail, STYLE)
        feed = Script("a")
        answered(shared, feed, method="HEAD")
        assert feed.closed == 1


@pytest.mark.parametrize("reason", ["late", "ending"])
def test_a_stream_that_has_to_be_resumed_ends_without_an_end(reason: str) -> None:
    changes: dict[str, Any] = {"longest": 0.1} if reason == "late" else {"ending": lambda: True}
    resp, _ = answered(streams(**changes), Script("a"))
    began = time.monotonic()
    assert told(body(resp)) in ([], [{"item": "a"}])
    assert time.monotonic() - began < 30


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        with ours, theirs:
            yield ours, theirs


@pytest.mark.parametrize("leave", [socket.socket.close, lambda peer: peer.shutdown(socket.SHUT_WR)])
def test_a_reader_that_leaves_is_noticed_without_writing(
    pair: tuple[socket.socket, socket.socket], leave: Callable[[socket.socket], None]
) -> None:
    ours, theirs = pair
    resp, _ = answered(streams(), Script(), env={SOCKET: ours})
    found = body(resp)
    assert next(found) == b""
    leave(theirs)
    began = time.monotonic()
    assert list(found) == []
    assert time.monotonic() - began < 30


def test_a_reader_that_takes_nothing_blocks_no_thread_for_ever(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = pair
    monkeypatch.setattr("runtime_server.web.peers.STALL", 1)
    peer = Peer({SOCKET: ours})
    peer.watch(15)
    assert not peer.gone()
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
    with pytest.raises(BlockingIOError):
        ours.sendall(b"x" * 100_000_000)


def test_a_reader_whose_connection_is_not_known_is_there() -> None:
    with contextlib.suppress(OSError):
        Peer({}).watch(1)
    assert not Peer({}).gone()
