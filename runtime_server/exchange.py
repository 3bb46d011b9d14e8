"""One exchange over an open HTTP/1.1 connection, whole request against whole answer.

PERF: what urllib3 and requests do around it (a pool's queue, a response of their own with headers copied twice, a
second packet for the body) takes as long as the rest of a short call. What isn't short, or needs more of HTTP than
this, goes through them.
"""

from __future__ import annotations

import http.client
import weakref
from collections.abc import Callable, Mapping
from contextlib import closing, suppress

from requests.exceptions import InvalidHeader
from urllib3.connection import HTTPConnection
from urllib3.util.connection import is_connection_dropped

PIECE = 1 << 20
"""Bytes of a body that are read at once: how long it is only its sender says."""


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


def exchange(
    idle: Idle,
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    body: bytes | None = None,
    timeouts: tuple[float | None, float | None],
    meanwhile: Callable[[], object] | None = None,
) -> tuple[http.client.HTTPResponse, bytes]:
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
        The answer's head, and its body.

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
        # Closed first where it breaks off: it holds the socket open.
        with closing(http.client.HTTPResponse(connection.sock, method=method)) as answer:
            answer.begin()
            if answer.status < 200:  # what http.client takes for the answer would be followed by another
                raise http.client.BadStatusLine(f"{answer.status} in place of an answer")
            content = _content(answer)
    except BaseException:
        connection.close()
        raise
    if answer.will_close or not sent:
        connection.close()
    else:
        idle.give(connection)
    return answer, content


def _content(answer: http.client.HTTPResponse) -> bytes:
    if (answer.length or 0) <= PIECE:
        return answer.read()
    content = b"".join(iter(lambda: answer.read(PIECE), b""))
    if answer.length:
        raise http.client.IncompleteRead(content, answer.length)
    return content


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
