"""Answers that come bit by bit, each in a thread of a lane of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import falcon

from runtime_server.engine.feeds import Feed, FeedEnded
from runtime_server.errors import Problem
from runtime_server.models.logs import rfc3339
from runtime_server.runtimes.waits import SlowLane
from runtime_server.web.answers import NO_STORE
from runtime_server.web.context import ApiRequest
from runtime_server.web.peers import Peer
from runtime_server.web.problems import unforeseen

NDJSON = "application/x-ndjson"
HEADERS = {**NO_STORE, "X-Accel-Buffering": "no"}
"""The second tells nginx to hand on each piece as it comes."""
TICK = 1.0
"""Seconds between two looks at whether the reader is still there, and the server to go on."""
FULL = 65536
"""Bytes that are sent at once, where there are that many."""

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Streams:
    """What all streams of a worker share.

    Args:
        lane: bounds them.
        heartbeat: seconds of silence after which one says that it lives.
        longest: seconds after which one ends; 0: never.
        ending: whether this worker is about to end.
    """

    lane: SlowLane
    heartbeat: float
    longest: float = 0.0
    ending: Callable[[], bool] = bool


class Style(Protocol[T_contra]):
    """How a stream's items look on the wire."""

    media_type: str

    def item(self, item: T_contra) -> bytes:
        """One of them."""

    def heartbeat(self) -> bytes:
        """A sign of life, that readers pass over."""

    def end(self, reason: str) -> bytes:
        """What tells that the stream is whole; one that ends without was cut off."""

    def problem(self, body: dict[str, Any]) -> bytes:
        """What tells why there is no more."""


class Ndjson(Generic[T]):
    """Objects, one a line; those of the stream's own are ``heartbeat`` with the server's time, ``end`` and ``error``.

    Args:
        encode: an item as JSON; none where it says nothing yet.
    """

    media_type = NDJSON

    def __init__(self, encode: Callable[[T], bytes]) -> None:
        self._encode = encode

    def item(self, item: T) -> bytes:
        """See ``Style``."""
        encoded = self._encode(item)
        return encoded + b"\n" if encoded else b""

    def heartbeat(self) -> bytes:
        """See ``Style``."""
        return _line({"heartbeat": rfc3339(time.time_ns())})

    def end(self, reason: str) -> bytes:
        """See ``Style``."""
        return _line({"end": reason})

    def problem(self, body: dict[str, Any]) -> bytes:
        """See ``Style``."""
        return _line({"error": body})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"


class StreamBody(Generic[T]):
    """A stream as the body of an answer, which the server closes when its reader has left (PEP 3333).

    Not a generator: one that was never read doesn't clean up when it is closed.

    Args:
        req: the request.
        feed: the items.
        style: how they look.
        streams: what all streams share.
        place: in their lane; entered by now, left at the end.
        steady: send a heartbeat first, so that the reader has the server's time from the beginning.
        resumable: end it where the reader is to come again; else it goes on up to its own end.
    """

    def __init__(
        self,
        req: ApiRequest,
        feed: Feed[T],
        style: Style[T],
        streams: Streams,
        place: AbstractContextManager[object],
        *,
        steady: bool = False,
        resumable: bool = True,
    ) -> None:
        self._resumable = resumable
        self._req = req
        self._feed = feed
        self._style = style
        self._streams = streams
        self._place = place
        self._peer = Peer(req.env)
        self._peer.watch(streams.heartbeat)
        self._began = self._said = time.monotonic()
        self._greeting: bytes | None = style.heartbeat() if steady else b""
        self._error: Exception | None = None
        self._over = self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._greeting is not None:
            # Also where it is empty: with the first bytes, gunicorn sends the headers.
            greeting, self._greeting = self._greeting, None
            return greeting
        while not self._over and not self._cut_off():
            found = self._next()
            if found is not None:
                self._said = time.monotonic()
                return found
        raise StopIteration

    def _cut_off(self) -> bool:
        """Whether to end now, without a word: the reader has left, or has to come again."""
        late = 0 < self._streams.longest <= time.monotonic() - self._began
        return (self._resumable and (late or self._streams.ending())) or self._peer.gone()

    def _next(self) -> bytes | None:
        """What there is to send; None where it is too early to say anything."""
        due = self._said + self._streams.heartbeat - time.monotonic()
        try:
            found = self._gather(max(0.0, min(TICK, due)))
        except FeedEnded as end:
            self._over = True
            return self._style.end(str(end))
        except Problem as problem:
            self._over = True
            return self._style.problem(problem.to_body(self._req.context.request_id))
        except Exception as error:
            self._over = True
            return self._style.problem(unforeseen(self._req, error).to_body(self._req.context.request_id))
        if found:
            return found
        return self._style.heartbeat() if due <= 0 else None

    def _gather(self, timeout: float) -> bytes:
        """The next items, as many as are there; how it ends is raised when they have been sent."""
        if self._error is not None:
            raise self._error
        pieces, size = [], 0
        item = self._feed.receive(timeout)
        while item is not None:
            piece = self._style.item(item)
            pieces.append(piece)
            size += len(piece)
            try:
                item = self._feed.receive(0) if size < FULL else None
            except Exception as error:
                self._error, item = error, None
        return b"".join(pieces)

    def close(self) -> None:
        """Give back thread and stream."""
        if self._closed:
            return
        self._closed = self._over = True
        try:
            self._feed.close()
        finally:
            self._place.__exit__(None, None, None)


def stream(
    req: ApiRequest,
    resp: falcon.Response,
    streams: Streams,
    open_feed: Callable[[], Feed[T]],
    style: Style[T],
    *,
    steady: bool = False,
    resumable: bool = True,
) -> None:
    """Answer with a stream, within a place of the lane.

    Args:
        req: the request.
        resp: gets the stream.
        streams: what all streams share.
        open_feed: opens the items; its problems are ordinary answers.
        style: how the items look.
        steady: as for ``StreamBody``.
        resumable: as for ``StreamBody``.

    Raises:
        TooManyStreams: all places are taken.
    """
    place = streams.lane.place()
    place.__enter__()
    try:
        body = StreamBody(req, open_feed(), style, streams, place, steady=steady, resumable=resumable)
    except BaseException:
        place.__exit__(None, None, None)
        raise
    resp.content_type = style.media_type
    resp.set_headers(HEADERS)
    resp.stream = body
    if req.method == "HEAD":
        body.close()  # Falcon drops it
