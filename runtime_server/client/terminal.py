"""A terminal in a runtime, over WebSocket (RFC 6455); wsproto is the protocol without the I/O."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import time
from collections import deque
from typing import Any
from urllib.parse import urlencode, urlsplit

from wsproto import WSConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from runtime_server.client.closing import Closing
from runtime_server.client.ndjson import told
from runtime_server.client.transport import Transport, json_object
from runtime_server.errors import IncompatibleServer, Problem, ServerTimeout, ServerUnreachable

CHUNK = 65536


class Terminal(Closing):
    """A command's terminal: bytes typed into it, bytes shown by it. For one thread; a context manager.

    It has to be read now and then: the server takes one that answers none of its questions for some 45 s for gone.
    Closing it ends the command. Proxies of the environment aren't used.

    Attributes:
        exit_code: how the command ended, once ``receive`` has come to the end; None where nobody knows.
    """

    def __init__(self, transport: Transport, path: str, query: tuple[tuple[str, str], ...]) -> None:
        self._transport = transport
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._shown: deque[bytes] = deque()
        self._early: deque[Event] = deque()
        self._text = ""
        self._ended = False
        self.exit_code: int | None = None
        self._socket = _connect(transport)
        try:
            self._shake_hands(path + ("?" + urlencode(query) if query else ""))
        except BaseException:
            self._socket.close()
            raise

    def _shake_hands(self, target: str) -> None:
        parts, key = urlsplit(self._transport.endpoint.url), self._transport.endpoint.key
        headers = [(b"X-API-Key", key.encode("ascii"))] if key else []
        request = Request(host=parts.netloc, target=parts.path + target, extra_headers=headers)
        refused: RejectConnection | None = None
        body = b""
        self._socket.sendall(self._protocol.send(request))
        while True:
            data = self._socket.recv(CHUNK)
            events = deque(self._events(data))
            while events:
                event = events.popleft()
                if isinstance(event, AcceptConnection):
                    self._socket.settimeout(None)
                    self._early.extend(events)  # what is shown first can come along
                    return
                if isinstance(event, RejectConnection):
                    refused = event
                    if not event.has_body:
                        raise _refusal(event, b"")
                elif isinstance(event, RejectData) and refused is not None:
                    body += event.data
                    if event.body_finished:
                        raise _refusal(refused, body)
            if not data:
                raise ServerUnreachable("the server closed the connection during the handshake")

    def _events(self, data: bytes) -> list[Event]:
        try:
            self._protocol.receive_data(data or None)
            return list(self._protocol.events())
        except ProtocolError as error:
            raise IncompatibleServer(f"not a WebSocket's answer: {error}") from None

    def fileno(self) -> int:
        """The connection's descriptor, to wait for with others, whenever ``receive(0)`` has returned None."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Type.

        Raises:
            ServerUnreachable: the connection is gone.
        """
        self._send(BytesMessage(data=data))

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size, in characters.

        Raises:
            ServerUnreachable: the connection is gone.
        """
        self._send(TextMessage(data=json.dumps({"resize": {"rows": rows, "columns": columns}})))

    def _send(self, event: Event) -> None:
        try:
            self._socket.sendall(self._protocol.send(event))
        except ProtocolError:
            raise ServerUnreachable("the terminal has ended") from None
        except OSError as error:
            raise ServerUnreachable(f"the connection is gone ({error})") from error

    def receive(self, timeout: float | None = None) -> bytes | None:
        """What is shown next.

        Args:
            timeout: seconds to wait for it; none: as long as it takes.

        Returns:
            Some bytes; none (``b""``) at the end, when ``exit_code`` is known; None where nothing came in time.

        Raises:
            ServerUnreachable: the connection was lost.
            Problem: the command couldn't be started, or the engine failed.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while self._early:
            self._take(self._early.popleft())
        while not self._shown and not self._ended:
            if not self._readable(None if ends is None else max(0.0, ends - time.monotonic())):
                return None
            try:
                data = self._socket.recv(CHUNK)
            except OSError as error:
                raise ServerUnreachable(f"the connection is gone ({error})") from error
            for event in self._events(data):
                self._take(event)
            if not data and not self._ended:
                self._ended = True
                raise ServerUnreachable("the connection was lost")
        return self._shown.popleft() if self._shown else b""

    def _readable(self, timeout: float | None) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], timeout)[0])

    def _take(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            self._shown.append(bytes(event.data))
        elif isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                self._told(text)
        elif isinstance(event, Ping):
            with contextlib.suppress(ServerUnreachable):
                self._send(event.response())
        elif isinstance(event, CloseConnection):
            self._ended = True
            if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                with contextlib.suppress(ServerUnreachable):
                    self._send(event.response())

    def _told(self, text: str) -> None:
        try:
            found: Any = json.loads(text)
        except ValueError:
            return
        if not isinstance(found, dict):
            return
        if isinstance(found.get("exit"), dict):
            code = found["exit"].get("exit_code")
            self.exit_code = code if isinstance(code, int) else None
        if isinstance(found.get("error"), dict):
            self._ended = True
            raise told(found["error"])

    def close(self) -> None:
        """End it, and the command if it still runs."""
        self._ended = True
        with contextlib.suppress(OSError, ProtocolError):
            if self._protocol.state is ConnectionState.OPEN:
                self._socket.sendall(self._protocol.send(CloseConnection(code=1000)))
        self._socket.close()


def _refusal(event: RejectConnection, body: bytes) -> Problem:
    return Problem.from_body(json_object(body) or {}, status=event.status_code)


def _connect(transport: Transport) -> socket.socket:
    parts = urlsplit(transport.endpoint.url)
    secure, host = parts.scheme == "https", parts.hostname or ""
    try:
        plain = socket.create_connection((host, parts.port or (443 if secure else 80)), transport.connect_timeout)
        plain.settimeout(transport.read_timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _context(transport.session.verify).wrap_socket(plain, server_hostname=host) if secure else plain
    except TimeoutError as error:
        raise ServerTimeout(f"{transport.endpoint.url} didn't answer in time") from error
    except OSError as error:
        raise ServerUnreachable(f"{transport.endpoint.url} can't be reached ({error})") from error


def _context(verify: bool | str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
