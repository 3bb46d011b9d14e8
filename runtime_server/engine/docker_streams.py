"""A request to the engine on a connection of its own, whose answer is read as it comes, or which is taken over.

Not through requests: http.client reads ahead into a buffer that nobody can wait for with a time limit of their own,
and of a connection that is taken over (``Upgrade: tcp``) it may keep the first bytes. h11 is the protocol alone, and
is asked for what it has read instead of calling back, which suits one who waits for more than the peer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlencode

import docker.errors
import h11
import requests
import requests.adapters
from docker import APIClient

from runtime_server.engine.docker_client import check, url

CHUNK = 65536
"""Bytes that are read at once."""


class EngineConnection:
    """One request and its answer. For one thread.

    Args:
        client: knows where the engine is and how to get there.
        method, path: of the request, the path without its version.
        params: of its query.
        body: JSON, or nothing.
        upgrade: ask to take the connection over.
        timeout: seconds in which it must be connected to and in which each step of the request has to be answered.

    Raises:
        docker.errors.APIError: the answer is an error.
        OSError: there is no answer that can be read.
    """

    def __init__(
        self,
        client: APIClient,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        upgrade: bool = False,
        timeout: float,
    ) -> None:
        address = url(client, path)
        self._socket = _connect(client, address, timeout)
        self._timeout = timeout
        self._http = h11.Connection(h11.CLIENT)
        self._arrived: deque[bytes] = deque()
        self._outgoing = bytearray()
        self._closing_output = False
        self._raw = self._ended = False
        try:
            target = "/" + address.partition("://")[2].partition("/")[2]
            self._request(method, target + ("?" + urlencode(params) if params else ""), body, upgrade=upgrade)
            self._answer(address)
        except BaseException:
            self.close()
            raise

    def _request(self, method: str, target: str, body: bytes, *, upgrade: bool) -> None:
        headers = [("Host", "engine"), ("User-Agent", "runtime-server"), ("Content-Length", str(len(body)))]
        headers += [("Content-Type", "application/json")] if body else []
        headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")] if upgrade else [("Connection", "close")]
        events: list[h11.Event] = [h11.Request(method=method, target=target, headers=headers)]
        events += [h11.Data(data=body)] if body else []
        self._socket.settimeout(self._timeout)
        self._socket.sendall(b"".join(self._http.send(event) or b"" for event in (*events, h11.EndOfMessage())))

    def _answer(self, address: str) -> None:
        ends = time.monotonic() + self._timeout
        while True:
            event = self._event()
            if event is h11.NEED_DATA:
                data = self._read(max(0.0, ends - time.monotonic()))
                if data is None:
                    raise TimeoutError("no answer from the engine")
                self._http.receive_data(data)
            elif isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                self._take_over()
                return
            elif isinstance(event, h11.Response):
                self._unpack()  # what came together with the headers
                if event.status_code >= 400:
                    raise self._refusal(event, address)
                return
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the engine closed the connection")

    def _take_over(self) -> None:
        data, closed = self._http.trailing_data
        self._raw, self._ended = True, closed
        if data:
            self._arrived.append(data)

    def _refusal(self, event: h11.Response, address: str) -> Exception:
        """The error as docker-py has it, so that one table says what it means."""
        content, ends = b"", time.monotonic() + self._timeout
        while (data := self.receive(max(0.0, ends - time.monotonic()))) and len(content) < CHUNK:
            content += data
        response = requests.Response()
        response.status_code, response.url, response._content = event.status_code, address, content
        response.reason = bytes(event.reason).decode("latin-1")
        try:
            check(response)
        except docker.errors.APIError as error:
            return error
        return ConnectionResetError("the engine's answer can't be read")

    def receive(self, timeout: float, wake: int | None = None) -> bytes | None:
        """The next bytes of the answer; None where none come within ``timeout`` seconds, none (``b""``) at its end.

        Also None as soon as the descriptor ``wake`` has something to be read.

        Meanwhile sends what ``send`` was given.

        Raises:
            OSError: it broke off.
        """
        ends = time.monotonic() + timeout
        while not self._arrived and not self._ended:
            data = self._read(max(0.0, ends - time.monotonic()), wake)
            if data is None:
                return None
            if self._raw:
                self._ended = not data
                return data
            self._http.receive_data(data)
            self._unpack()
        return self._arrived.popleft() if self._arrived else b""

    def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise ConnectionResetError("the engine's answer can't be read") from error

    def _unpack(self) -> None:
        while not self._ended:
            event = self._event()
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Data):
                self._arrived.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                self._ended = True

    @property
    def backlog(self) -> int:
        """Bytes that are still to be sent."""
        return len(self._outgoing)

    def send(self, data: bytes) -> None:
        """Send on a connection that was taken over, while ``receive`` waits: neither side can block the other."""
        self._outgoing += data

    def end_output(self) -> None:
        """Say that there is no more to send, once all has been sent."""
        self._closing_output = True

    def _read(self, timeout: float, wake: int | None = None) -> bytes | None:
        """What has come, or comes within ``timeout`` seconds; nothing at the connection's end."""
        ends = time.monotonic() + timeout
        while True:
            if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
                return self._socket.recv(CHUNK)
            writing = bool(self._outgoing or self._closing_output)
            poller = select.poll()
            poller.register(self._socket, select.POLLIN | (select.POLLOUT if writing else 0))
            if wake is not None:
                poller.register(wake, select.POLLIN)
            found = dict(poller.poll(max(0.0, ends - time.monotonic()) * 1000))
            event = found.get(self._socket.fileno(), 0)
            if event & select.POLLOUT:
                self._write()
            if event & ~select.POLLOUT:
                return self._socket.recv(CHUNK)
            if not event:
                return None

    def _write(self) -> None:
        if self._outgoing:
            sent = self._socket.send(self._outgoing[:CHUNK])
            del self._outgoing[:sent]
        if not self._outgoing and self._closing_output:
            self._closing_output = False
            # TLS can't be closed one way; there the process's input just stays open.
            if not isinstance(self._socket, ssl.SSLSocket):
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._socket.close()


def _connect(client: APIClient, address: str, timeout: float) -> socket.socket:
    """A socket of its own, connected as the client's adapter does it."""
    request = requests.Request("GET", address).prepare()
    adapter = client.get_adapter(address)
    assert isinstance(adapter, requests.adapters.HTTPAdapter)
    pool = adapter.get_connection_with_tls_context(request, client.verify, cert=client.cert)
    if address.startswith("https:"):
        adapter.cert_verify(pool, address, client.verify, client.cert)  # type: ignore[no-untyped-call]
    connection = pool._new_conn()  # type: ignore[attr-defined]
    connection.timeout = timeout
    connection.connect()
    found: socket.socket = connection.sock
    return found
