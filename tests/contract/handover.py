"""A server that hands its connections over as gunicorn does, in this process: just enough of HTTP for handshakes."""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote


class Handover:
    """Runs a WSGI app for each connection, in a thread of its own.

    Attributes:
        url: where.
        ended: how many of the app's answers have been closed.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.ended = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            sent: list[bytes] = []

            def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> Any:
                lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
                sent.append(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
                return sent.append

            body: Iterable[bytes] = self._app(environ(head, connection), start_response)
            try:
                for chunk in body:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"".join(sent) + chunk)
                    sent.clear()
            finally:
                getattr(body, "close", lambda: None)()
                self.ended += 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def environ(head: bytes, connection: socket.socket) -> dict[str, Any]:
    request, *lines = head.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
    method, target, protocol = request.split(" ")
    path, _, query = target.partition("?")
    found: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": protocol,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "gunicorn.socket": connection,
    }
    for line in lines:
        name, _, value = line.partition(":")
        found["HTTP_" + name.upper().replace("-", "_")] = value.strip()
    return found


@contextlib.contextmanager
def handing_over(app: Any) -> Iterator[Handover]:
    made = Handover(app)
    try:
        yield made
    finally:
        made.close()
