"""Requests per second of one URL: ``wrk`` where it is installed, else processes of this module.

Both sides are measured by the same tool. Its own cost is small beside a server in Python, so the server is what
is measured.
"""

from __future__ import annotations

import re
import selectors
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

CONNECTIONS = 16
PROCESSES = 2
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def tool() -> str:
    """What measures."""
    return "wrk" if shutil.which("wrk") else "python"


def requests_per_second(url: str, headers: Mapping[str, str], seconds: float) -> float:
    """How many answers with status 200 there were each second; any other answer raises."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return _by_wrk(url, lines, seconds) if tool() == "wrk" else _by_python(url, lines, seconds)


def _by_wrk(url: str, lines: list[str], seconds: float) -> float:
    headers = [part for line in lines for part in ("--header", line)]
    command = ["wrk", f"-t{PROCESSES}", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", *headers, url]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec: *([\d.]+)", report)
    if found is None or "Non-2xx" in report:
        raise RuntimeError(report)
    return float(found[1])


def _by_python(url: str, lines: list[str], seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.load", url, str(seconds), *lines]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    rates = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{url} did not answer every request with 200")
    return sum(map(float, rates))


class _Connection:
    """A kept-alive connection with one request in flight."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self.socket = socket.create_connection((host, port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._answer = b""

    def send(self) -> None:
        self._answer = b""
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        """Read what has come; whether the answer is whole."""
        data = self.socket.recv(65536)
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not data or not head.startswith(b"HTTP/1.1 200"[: len(head)]):
            raise SystemExit(f"unexpected answer: {self._answer[:200]!r}")
        length = _LENGTH.search(head + b"\r\n")
        return bool(end) and length is not None and len(body) >= int(length[1])


def measure(url: str, lines: list[str], seconds: float) -> float:
    """Whole answers per second over this process's share of the connections."""
    parts = urlsplit(url)
    head = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *lines]
    request = ("\r\n".join(head) + "\r\n\r\n").encode()
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS // PROCESSES):
        connection = _Connection(parts.hostname or "", parts.port or 80, request)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send()
    answered, began = 0, time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        for key, _ in selector.select(timeout=1):
            if key.data.receive():
                answered += 1
                key.data.send()
    return answered / (now - began)


if __name__ == "__main__":
    print(measure(sys.argv[1], sys.argv[3:], float(sys.argv[2])))
