"""Servers that answer by script: one as a requests adapter, one on a real socket that misbehaves."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse

from runtime_server import RetryPolicy, RuntimeServerClient

RUNTIME: dict[str, Any] = {
    "runtime_id": "runtime-0123456789ab",
    "container_id": "c1",
    "owner": "default",
    "image": "busybox",
    "status": "running",
    "created_at": "2026-01-02T03:04:05Z",
}
ANSWER: dict[str, Any] = {**RUNTIME, "message": "done", "changed": True}
"""Fits every call's model but the list's."""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[int], None] = lambda _: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep(len(self.slept))

    def policy(self, **changes: Any) -> RetryPolicy:
        """The default policy on this clock; the jitter is always half of what it may be."""
        injected: dict[str, Any] = {"sleep": self.sleep, "clock": self, "random": lambda: 0.5}
        return RetryPolicy(**(injected | changes))


@dataclass
class Answer:
    """An answer of the script."""

    status: int = 200
    body: Any = field(default_factory=lambda: ANSWER)
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def problem(
    status: int, code: str = "unheard-of", *, headers: Mapping[str, str] | None = None, **members: Any
) -> Answer:
    body = {"type": "about:blank", "title": "T", "status": status, "detail": "D", "code": code, **members}
    return Answer(status, body, {"Content-Type": "application/problem+json", **(headers or {})})


class ScriptedAdapter(BaseAdapter):
    """Plays answers and exceptions in turn, then the last one for ever; records requests and their timeouts."""

    def __init__(self, *script: Answer | BaseException) -> None:
        super().__init__()
        self.script = list(script) or [Answer()]
        self.requests: list[requests.PreparedRequest] = []
        self.timeouts: list[Any] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.requests.append(request)
        self.timeouts.append(kwargs["timeout"])
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, BaseException):
            raise step
        content = step.content()
        headers = {"Content-Length": str(len(content)), **step.headers}
        raw = HTTPResponse(body=io.BytesIO(content), headers=headers, status=step.status, preload_content=False)
        return HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        pass

    @property
    def last(self) -> requests.PreparedRequest:
        return self.requests[-1]

    def last_json(self) -> Any:
        assert isinstance(self.last.body, bytes)
        return json.loads(self.last.body)


@contextlib.contextmanager
def scripted(
    *script: Answer | BaseException, clock: Clock | None = None, **arguments: Any
) -> Iterator[tuple[RuntimeServerClient, ScriptedAdapter]]:
    adapter = ScriptedAdapter(*script)
    arguments.setdefault("retry", (clock or Clock()).policy())
    with requests.Session() as session:
        session.mount("http://scripted", adapter)
        chosen: dict[str, Any] = {"base_url": "http://scripted", "api_key": "k", "session": session}
        with RuntimeServerClient(**(chosen | arguments)) as client:
            yield client, adapter


@dataclass
class Received:
    """A request as it came in on a socket."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class SocketServer:
    """A server on a real socket. Each request takes one step of the script, then all get 200."""

    def __init__(self, *script: Answer | bytes | str) -> None:
        self.script = list(script)
        self.received: list[Received] = []
        self._lock = threading.Lock()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def listen(self) -> None:
        """Accept connections; until then they are refused."""
        self._socket.listen(64)
        self._run(self._accept)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while (request := _read(stream)) is not None:
                with self._lock:
                    self.received.append(request)
                    step = self.script.pop(0) if self.script else Answer()
                if isinstance(step, Answer):
                    connection.sendall(wire(step))
                elif isinstance(step, bytes):
                    send_and_close(connection, step)
                    return
                elif not MISBEHAVIOUR[step](connection):
                    return


def _read(stream: Any) -> Received | None:
    line = stream.readline().decode().split()
    if not line:
        return None
    headers = {}
    while (row := stream.readline().decode().strip()) != "":
        name, _, value = row.partition(":")
        headers[name.lower()] = value.strip()
    return Received(line[0], line[1], headers, stream.read(int(headers.get("content-length", 0))))


def wire(answer: Answer, length: int | None = None) -> bytes:
    content = answer.content()
    headers = {"Content-Type": "application/json", "Content-Length": str(length or len(content)), **answer.headers}
    head = f"HTTP/1.1 {answer.status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return head.encode() + b"\r\n" + content


def send_and_close(connection: socket.socket, data: bytes) -> bool:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_RDWR)
    return False


def _send(data: bytes) -> Callable[[socket.socket], bool]:
    return lambda connection: send_and_close(connection, data)


def _reset(connection: socket.socket) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return False


_CHUNKED = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

MISBEHAVIOUR: dict[str, Callable[[socket.socket], bool]] = {
    "close": _send(b""),
    "reset": _reset,
    "stall": lambda connection: bool(connection.recv(1)),
    "half head": _send(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half content type": _send(b"HTTP/1.1 200 OK\r\nContent-Type: appl"),
    "half head of a problem": _send(b"HTTP/1.1 404 Not Found\r\nContent-Type: applic"),
    "not http": _send(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "half body": _send(wire(Answer(), length=10_000)),
    "half chunked": _send(_CHUNKED + b'40\r\n{"runtime_id": '),
    "half unframed": _send(b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"runtime_id": "run'),
    # Whole as a message: but for its last header the connection would be used again.
}
"""What a step can do instead of answering; it returns whether the connection goes on."""


@contextlib.contextmanager
def on_socket(*script: Answer | bytes | str, listening: bool = True) -> Iterator[SocketServer]:
    server = SocketServer(*script)
    try:
        if listening:
            server.listen()
        yield server
    finally:
        server.close()
