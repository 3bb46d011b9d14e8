"""WebSockets (RFC 6455) on the connections that gunicorn hands to the app; wsproto is the protocol without the I/O.

The handshake's answer is an ordinary one with status 101, so that headers, logs and middleware are as for any other.
With its first bytes the server sends the headers; from there on the connection is ours, and closed at the end.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol
from urllib.parse import urlsplit

import falcon
from wsproto import WSConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError, generate_accept_token

from runtime_server.errors import TerminalUnavailable, UpgradeRequired
from runtime_server.runtimes.policy_rules import refusal
from runtime_server.web.afterwards import TAKEN_OVER
from runtime_server.web.context import ApiRequest
from runtime_server.web.peers import SOCKET, Peer

CHUNK = 65536
GOING_AWAY = 1001
"""Close codes (RFC 6455, section 7.4.1): the server ends."""
NORMAL = 1000
FAILED = 1011
LINGER = 2.0
"""Seconds that the other side gets, in all, to confirm the end."""


class WebSocket:
    """The server's end of a connection. For one thread.

    Args:
        req: the handshake.

    Raises:
        UpgradeRequired: it isn't one.
        TerminalUnavailable: there is no connection to be had.
    """

    def __init__(self, req: ApiRequest) -> None:
        self._protocol = WSConnection(ConnectionType.SERVER)
        self.accept_token = self._shake_hands(req)
        found = req.env.get(SOCKET)
        if not isinstance(found, socket.socket) or req.env.get("SERVER_PROTOCOL") != "HTTP/1.1":
            raise TerminalUnavailable("This server can't hand over the request's connection (HTTP/1.1, gunicorn).")
        self._socket = found
        self._peer = Peer(req.env)

    def _shake_hands(self, req: ApiRequest) -> str:
        if req.method != "GET":
            raise UpgradeRequired("A WebSocket handshake is a GET (RFC 6455, section 4.1).")
        wanted = ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
        given = [(name, req.get_header(name)) for name in wanted]
        headers = [(name.encode(), value.encode("latin-1")) for name, value in given if value]
        try:
            self._protocol.initiate_upgrade_connection([(b"Host", b"here"), *headers], "/")
            if not any(isinstance(event, Request) for event in self._protocol.events()):
                raise UpgradeRequired("Ask for a WebSocket, version 13 (RFC 6455, section 4.1).")
            self._protocol.send(AcceptConnection())
        except ProtocolError as error:
            raise UpgradeRequired("Ask for a WebSocket, version 13 (RFC 6455, section 4.1).") from error
        return generate_accept_token(str(req.get_header("Sec-WebSocket-Key")).encode("latin-1")).decode("ascii")

    def watch(self, idle: float) -> None:
        """As for ``Peer``."""
        self._peer.watch(idle)
        self._socket.settimeout(None)

    def fileno(self) -> int:
        """The connection's descriptor, to wait for what comes."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether something has come that the descriptor no longer tells of."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    @property
    def gone(self) -> bool:
        """Whether the other side has closed the connection, known without reading from it."""
        return self._peer.gone()

    @property
    def open(self) -> bool:
        """Whether neither side has ended it."""
        return self._protocol.state is ConnectionState.OPEN

    def receive(self) -> Iterator[Event]:
        """What has come; pings are answered, and an end is confirmed. Waits for nothing.

        Raises:
            OSError: the connection is gone.
        """
        try:
            data = self._socket.recv(CHUNK, 0 if isinstance(self._socket, ssl.SSLSocket) else socket.MSG_DONTWAIT)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        if not data:
            raise ConnectionResetError("the other side has left")
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                if isinstance(event, Ping):
                    self._send(event.response())
                elif isinstance(event, CloseConnection):
                    if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                        self._send(event.response())
                    else:
                        self.close(int(event.code))  # its frames make no sense
                else:
                    yield event
        except ProtocolError as error:
            self.close(getattr(error, "code", None) or 1002)

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message. Raises ``OSError`` where the connection is gone, or takes nothing for long."""
        self._send(BytesMessage(data=data))

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self._send(TextMessage(data=text))

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._send(Ping())

    def _send(self, event: Event) -> None:
        try:
            data = self._protocol.send(event)
        except ProtocolError as error:
            raise ConnectionResetError("the connection has been closed") from error
        self._socket.sendall(data)

    def close(self, code: int = NORMAL) -> None:
        """Say goodbye, wait a moment for the other side's, and close the connection."""
        with contextlib.suppress(OSError, ProtocolError):
            if self.open:
                self._socket.settimeout(LINGER)
                self._send(CloseConnection(code=code))
                self._await_confirmation(time.monotonic() + LINGER)
        with contextlib.suppress(OSError):
            self._socket.settimeout(None)
            # Not close(): that is the server's to do, which notices.
            self._socket.shutdown(socket.SHUT_RDWR)

    def _await_confirmation(self, ends: float) -> None:
        while self._protocol.state is not ConnectionState.CLOSED and (left := ends - time.monotonic()) > 0:
            self._socket.settimeout(left)
            data = self._socket.recv(CHUNK)
            if not data:
                return
            self._protocol.receive_data(data)
            list(self._protocol.events())


class Talk(Protocol):
    """What is said over a WebSocket."""

    def run(self, connection: WebSocket) -> None:
        """Talk until there is nothing more to say; the connection is closed afterwards."""

    def close(self) -> None:
        """Give back what it holds."""


class Takeover:
    """A body that is no body: with the first step the headers go out, with the second the talk is held.

    Args:
        connection: the WebSocket.
        talk: what is said.
        place: in the streams' lane; entered by now, left at the end.
    """

    def __init__(self, connection: WebSocket, talk: Talk, place: AbstractContextManager[object]) -> None:
        self._connection = connection
        self._talk = talk
        self._place = place
        self._steps = 0
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._steps += 1
        if self._steps == 1:
            return b""
        if self._steps == 2:
            try:
                self._talk.run(self._connection)
            finally:
                self._connection.close(GOING_AWAY)
        raise StopIteration

    def close(self) -> None:
        """Give everything back."""
        if not self._closed:
            self._closed = True
            try:
                self._talk.close()
            finally:
                self._place.__exit__(None, None, None)


def take_over(
    req: ApiRequest,
    resp: falcon.Response,
    connection: WebSocket,
    enter: Callable[[], AbstractContextManager[object]],
    open_talk: Callable[[], Talk],
) -> None:
    """Answer the handshake with 101, and hold the talk.

    Args:
        req: the handshake.
        resp: gets the answer.
        connection: made of the request.
        enter: a place in the streams' lane.
        open_talk: opens it; its problems are ordinary answers.
    """
    place = enter()
    place.__enter__()
    try:
        req.env[TAKEN_OVER] = Takeover(connection, open_talk(), place)
    except BaseException:
        place.__exit__(None, None, None)
        raise
    resp.status = 101
    resp.set_header("Connection", "upgrade")
    resp.set_header("Upgrade", "websocket")
    resp.set_header("Sec-WebSocket-Accept", connection.accept_token)


def check_origin(req: ApiRequest, allowed: tuple[str, ...]) -> None:
    """Let pages of the server's own address and of allowed origins in, and what isn't a page.

    A page's script can open WebSockets to anywhere; only ``Origin`` tells whose page it is (RFC 6455, section 10.2).

    Raises:
        PolicyRefused: it is another's.
    """
    origin = req.get_header("Origin")
    if origin is None or origin.lower() in {each.lower().rstrip("/") for each in allowed}:
        return
    with contextlib.suppress(ValueError):
        # Not the scheme: behind a proxy that ends TLS the server doesn't know its own.
        if urlsplit(origin).netloc.lower() == (req.get_header("Host") or "").lower() != "":
            return
    raise refusal("ORIGINS", "Pages of that origin may not open terminals here.")
