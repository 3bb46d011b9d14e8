"""One exchange over an open HTTP/1.1 connection, whole request against whole answer.

PERF: what urllib3 and requests do around it (a pool's queue, a response of their own with headers copied twice, a
second packet for the body) takes as long as the rest of a short call. What isn't short, or needs more of HTTP than
this, goes through them. Answers are parsed by llhttp (``httptools``): ``http.client`` reads a head by the parser of
e-mails, three times as slow when caches are cold. Streams of the engine are h11's (``engine.docker_streams``).
"""

from __future__ import annotations

import http.client
import socket
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from requests.exceptions import InvalidHeader
from urllib3.connection import HTTPConnection
from urllib3.util.connection import is_connection_dropped

PIECE = 65_536
"""Bytes that are read at once."""
LONGEST_HEAD = 1 << 20
"""Bytes of an answer's head; a longer one is none."""

BODILESS = (204, 304)
"""Statuses without a body, whatever length their heads tell (RFC 9112, section 6.3)."""


class Idle:
    """Connections that wait for their next exchange; the one that was used last goes first. Thread-safe.

    Args:
        make: makes one, not connected yet.
        most: how many are kept.
    """

    def __init__(self, make: Callable[[], HTTPConnection], most: int) -> None:
        self._make = make
        self._most = most
        self._kept: list[HTTPConnection] = []
        weakref.finalize(self, _close_all, self._kept)  # as urllib3's pools do for who forgets to close

    def take(self) -> HTTPConnection:
        """One that its peer hasn't closed, or a new one."""
        with suppress(IndexError):
            while True:
                connection = self._kept.pop()
                if not is_connection_dropped(connection):
                    return connection
                connection.close()
        return self._make()

    def give(self, connection: HTTPConnection) -> None:
        """Keep it for the next one."""
        if len(self._kept) < self._most:
            self._kept.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close all that are kept."""
        _close_all(self._kept)


def _close_all(kept: list[HTTPConnection]) -> None:
    with suppress(IndexError):
        while True:
            kept.pop().close()


@dataclass(slots=True)
class Answer:
    """A whole answer.

    Attributes:
        status: its status.
        reason: the phrase beside it.
        headers: names and values, in their order.
        body: all of it.
        keep_alive: whether the peer keeps its connection open.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)
    keep_alive: bool

    def header(self, name: str) -> str | None:
        """The first value of a header; its name in lower case."""
        return _first(self.headers, name)


def exchange(
    idle: Idle,
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    body: bytes | None = None,
    timeouts: tuple[float | None, float | None],
    meanwhile: Callable[[], object] | None = None,
) -> Answer:
    """Send a request in one piece, do something else, and read the answer.

    Args:
        idle: gives the connection.
        method: of the request.
        target: path and query.
        headers: all that are sent.
        body: bytes of the request, whose length is among the headers.
        timeouts: seconds for connecting, and for each wait for the answer; None: without end.
        meanwhile: called between the two.

    Returns:
        The answer; interim ones (RFC 9110, section 15.2) are passed over.

    Raises:
        InvalidHeader: the target or a header can't be sent as it is.
        OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: there is no whole answer.
    """
    request = _head(method, target, headers) + (body or b"")
    connection = idle.take()
    try:
        if connection.sock is None:
            connection.timeout = timeouts[0]
            connection.connect()
        connection.sock.settimeout(timeouts[1])
        sent = False
        # Who refuses a body may close before all of it is sent; the answer is there all the same.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sock.sendall(request)
            sent = True
        if meanwhile is not None:
            meanwhile()
        answer = _read(connection.sock, method)
    except BaseException:
        connection.close()
        raise
    if answer.keep_alive and sent:
        idle.give(connection)
    else:
        connection.close()
    return answer


def _read(peer: socket.socket, method: str) -> Answer:
    reading = _Reading(method)
    parser = reading.parser = HttpResponseParser(reading)
    read = 0
    try:
        while not reading.complete:
            piece = peer.recv(PIECE)
            if not piece:
                reading.eof()
                break
            parser.feed_data(piece)
            read += len(piece)
            if not reading.head_complete and read > LONGEST_HEAD:
                raise http.client.LineTooLong("header")
    except (HttpParserError, HttpParserUpgrade) as error:
        if reading.raised is not None:
            raise reading.raised from None
        if not reading.complete:
            raise http.client.BadStatusLine(str(error)) from error
        reading.keep_alive = False  # it was followed by something
    finally:
        reading.parser = reading.raised = None  # what holds the other, the collector would have to free
    return Answer(reading.status, reading.reason, reading.headers, b"".join(reading.pieces), reading.keep_alive)


def _kept(callback: Callable[..., None]) -> Callable[..., None]:
    """Keep what a callback raises, an interrupt above all: of the parser comes an error of its own."""

    @wraps(callback)
    def keeping(reading: _Reading, *told: bytes) -> None:
        try:
            callback(reading, *told)
        except BaseException as error:
            reading.raised = error
            raise

    return keeping


class _Reading:
    """What the parser has told of an answer so far; ``on_`` are its callbacks (httptools' ``HttpResponseParser``)."""

    __slots__ = (
        "bodiless",
        "complete",
        "head_complete",
        "headers",
        "keep_alive",
        "parser",
        "pieces",
        "raised",
        "reason",
        "status",
    )

    def __init__(self, method: str) -> None:
        self.bodiless = method == "HEAD"
        self.parser: HttpResponseParser | None = None
        self.raised: BaseException | None = None
        self.pieces: list[bytes] = []
        self.head_complete = self.complete = self.keep_alive = False
        self._begin()

    def _begin(self) -> None:
        self.status, self.reason = 0, ""
        self.headers: list[tuple[str, str]] = []

    def eof(self) -> None:
        """The connection has ended; where the head tells no length, so has the answer.

        Raises:
            http.client.HTTPException: it was cut short.
        """
        if not (self.head_complete or self.headers or self.reason):
            raise http.client.RemoteDisconnected("The connection ended before an answer.")
        framed = _first(self.headers, "content-length") or _first(self.headers, "transfer-encoding")
        if framed or not self.head_complete:
            raise http.client.IncompleteRead(b"".join(self.pieces))
        self.keep_alive = False

    @_kept
    def on_message_begin(self) -> None:
        if self.complete:  # what follows belongs to no answer
            self.keep_alive = False

    @_kept
    def on_status(self, text: bytes) -> None:
        if not self.complete:
            self.reason += text.decode("latin-1")

    @_kept
    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:  # trailers tell nothing
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    @_kept
    def on_headers_complete(self) -> None:
        if self.complete:
            return
        assert self.parser is not None
        self.head_complete, self.status = True, self.parser.get_status_code()
        if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise http.client.BadStatusLine("101 in place of an answer")
        self.keep_alive = self.parser.should_keep_alive() or (self.bodiless and self._is_persistent())
        self.complete = self.status >= http.HTTPStatus.OK and (self.bodiless or self.status in BODILESS)

    def _is_persistent(self) -> bool:
        """Whether the connection stays open after an answer to HEAD, which needs no length (RFC 9112, 9.3)."""
        assert self.parser is not None
        named = _first(self.headers, "connection") or ""
        return self.parser.get_http_version() == "1.1" and "close" not in named.lower()

    @_kept
    def on_body(self, piece: bytes) -> None:
        if self.complete:
            self.keep_alive = False
        else:
            self.pieces.append(piece)

    @_kept
    def on_message_complete(self) -> None:
        if self.status >= http.HTTPStatus.OK:
            self.complete = True
        else:  # an interim answer, which another follows
            self.head_complete = False
            self._begin()


def _first(headers: list[tuple[str, str]], name: str) -> str | None:
    return next((value for each, value in headers if each.lower() == name), None)


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
    text = "\r\n".join(lines)
    # A line more than these would be a header that a value has brought along.
    if " " in target or text.count("\r") != len(headers) or text.count("\n") != len(headers):
        raise InvalidHeader("The target or a header holds a space or an end of line.")
    try:
        return f"{text}\r\n\r\n".encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidHeader("The target or a header holds characters beyond Latin-1.") from None
