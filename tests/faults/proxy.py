"""A proxy that fails by plan, in front of a TCP port or a Unix socket that speaks HTTP/1.1."""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.tally import Tally

Address = tuple[str, int] | Path

REFUSE = "refuse"
"""Nobody listens for a moment, and the connection that came is reset."""
CUT_BEFORE = "cut before"
"""The connection is reset, the request never forwarded."""
CUT_AFTER = "cut after"
"""The connection is reset once the request is forwarded."""
CUT_WITHIN = "cut within"
"""The connection ends within the answer's first bytes."""
STALL = "stall"
"""No answer until the caller gives up; the request is forwarded at once, never, or when the caller has gone."""
DUPLICATE = "duplicate"
"""The same bytes are sent a second time on another connection, at once."""
LATE_DUPLICATE = "late duplicate"
"""The same, when the caller may have done other things since."""
ERROR = "error 500"
"""A 500, whether the request is forwarded or not."""

LAST_FAULTY = 5
"""Attempts of one call that may meet a fault: who tries eight times, as the client does, is served in the end, on
whatever seed; but for connections that are refused meanwhile."""
PATIENCE = 60.0
"""Seconds after which a connection that nobody ends is ended."""
_FORWARDED = ("at once", "never", "late")
_ERROR_BODY = b'{"message": "injected"}'
_ERROR = (
    b"HTTP/1.1 500 Injected\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
)


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request, as its bytes."""

    data: bytes

    def header(self, name: str) -> str:
        """A header's value, empty where there is none."""
        found = re.search(rb"(?im)^%s:[ \t]*(.*?)\r$" % name.encode(), self.data)
        return found.group(1).decode("latin-1") if found else ""

    @property
    def line(self) -> str:
        """Method and path."""
        return self.data.partition(b"\r\n")[0].decode("latin-1")


def split(buffer: bytes) -> tuple[Request | None, bytes]:
    """The first whole request in the buffer, and what comes after it. Bodies have a ``Content-Length``."""
    head, blank, rest = buffer.partition(b"\r\n\r\n")
    if not blank:
        return None, buffer
    length = int(Request(head + blank).header("Content-Length") or 0)
    if len(rest) < length:
        return None, buffer
    return Request(head + blank + rest[:length]), rest[length:]


class Plan:
    """Which request meets which fault.

    A keyed attempt's fault is drawn from the seed, its key and its number, so that neither threads nor time change
    it; that of another request from how many there were before.

    Args:
        seed: what everything is drawn from.
        kinds: the faults, each as likely as the others.
        rate: the share of requests that meet one.
        refusals: the share of connections that are refused.

    Attributes:
        requests: how many have been asked about.
    """

    def __init__(self, seed: int, kinds: Iterable[str], *, rate: float, refusals: float = 0.0) -> None:
        self._seed = seed
        self._kinds = sorted(kinds)
        self._rate = rate
        self._refusals = refusals
        self.requests = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def _draw(self, name: str) -> random.Random:
        with self._lock:
            self._seen[name] += 1
            return random.Random(f"{self._seed} {name} {self._seen[name]}")

    def refuses(self) -> bool:
        """Whether the next connection is refused."""
        return self._draw("connection").random() < self._refusals

    def request(self, request: Request) -> tuple[str | None, random.Random]:
        """The fault that the request meets, and where its details are drawn from."""
        with self._lock:
            self.requests += 1
        key, attempt = request.header("Idempotency-Key"), request.header("X-Attempt")
        rng = self._draw(f"{key} {attempt}" if key else "request")
        faulty = int(attempt or 1) <= LAST_FAULTY and rng.random() < self._rate
        return (rng.choice(self._kinds) if faulty else None), rng


class Proxy:
    """Listens from its making until ``close``.

    Args:
        upstream: what it stands before.
        listen: where; a port 0 is chosen.
        plan: the faults.
        tally: where they are counted.

    Attributes:
        faulty: whether there are faults just now.
    """

    def __init__(self, upstream: Address, listen: Address, plan: Plan, tally: Tally) -> None:
        self._upstream = upstream
        self._plan = plan
        self._tally = tally
        self.faulty = True
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._duplicates: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._address = listen
        self._listener = self._listen()
        if not isinstance(listen, Path):
            self._address = ("127.0.0.1", self.port)
        self._accepting = threading.Thread(target=self._accept, name="proxy")
        self._accepting.start()

    @property
    def port(self) -> int:
        """Where it listens on TCP."""
        return int(self._listener.getsockname()[1])

    def calm(self) -> None:
        """No faults from now on, and an end to those under way, late duplicates included."""
        self.faulty = False
        self._drop_all()
        for thread in self._duplicates.copy():
            thread.join(PATIENCE)

    def close(self) -> None:
        """End everything."""
        self._closing.set()
        self._accepting.join(PATIENCE)
        self._drop_all()
        for thread in self._threads + self._duplicates:
            thread.join(PATIENCE)
        self._listener.close()

    def _drop_all(self) -> None:
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> socket.socket:
        if isinstance(self._address, Path):
            listener = socket.socket(socket.AF_UNIX)
            self._address.unlink(missing_ok=True)
            listener.bind(str(self._address))
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self._address)
        listener.listen(64)
        return listener

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX if isinstance(self._upstream, Path) else socket.AF_INET)
        try:
            made.connect(str(self._upstream) if isinstance(self._upstream, Path) else self._upstream)
        except OSError:
            made.close()
            raise
        return made

    def _accept(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._listener], [], [], 0.1)[0]:
                continue
            down, _ = self._listener.accept()
            if self.faulty and self._plan.refuses():
                self._tally.fault(REFUSE)
                self._listener.close()
                _reset(down)
                self._closing.wait(0.05)
                self._listener = self._listen()
                continue
            self._spawn(self._threads, lambda down=down: self._serve(down))  # type: ignore[misc]

    def _spawn(self, threads: list[threading.Thread], work: Callable[[], None]) -> None:
        def run() -> None:
            with contextlib.suppress(OSError):
                work()

        thread = threading.Thread(target=run, name="proxied")
        threads.append(thread)
        thread.start()

    @contextlib.contextmanager
    def _open(self, connection: socket.socket) -> Iterator[socket.socket]:
        with self._lock:
            self._sockets.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._sockets.discard(connection)
            connection.close()

    def _serve(self, down: socket.socket) -> None:
        with self._open(down), self._open(self._connect()) as up:
            buffer = b""
            while True:
                ready, _, _ = select.select([down, up], [], [])
                if up in ready:
                    if not (answer := up.recv(65536)):
                        return
                    down.sendall(answer)
                if down in ready:
                    if not (data := down.recv(65536)):
                        return
                    request, buffer = split(buffer + data)
                    if request is not None and not self._handle(request, down, up):
                        return

    def _handle(self, request: Request, down: socket.socket, up: socket.socket) -> bool:
        """Forward the request, or do what the plan says; False where the connection ends by it."""
        kind, rng = self._plan.request(request) if self.faulty else (None, random.Random())
        if kind is None:
            up.sendall(request.data)
            return True
        self._tally.fault(kind)
        return _FAULTS[kind](self, request, down, up, rng)

    def _cut_before(self, _r: Request, down: socket.socket, _up: socket.socket, _rng: random.Random) -> bool:
        _reset(down)
        return False

    def _cut_after(self, request: Request, down: socket.socket, up: socket.socket, rng: random.Random) -> bool:
        up.sendall(request.data)
        _reset(down)
        if rng.random() < 0.5:
            _await_answer(up)
        return False

    def _cut_within(self, request: Request, down: socket.socket, up: socket.socket, rng: random.Random) -> bool:
        up.sendall(request.data)
        answer = _await_answer(up)
        if answer:
            down.sendall(answer[: rng.randrange(1, max(2, len(answer)))])
        return False

    def _stall(self, request: Request, down: socket.socket, up: socket.socket, rng: random.Random) -> bool:
        forwarded = rng.choice(_FORWARDED)
        if forwarded == "at once":
            up.sendall(request.data)
        down.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            while down.recv(65536):
                pass
        # A pause or resume this late could come after what its caller did next, which no server can tell.
        if forwarded == "late" and not re.search("pause|resume", request.line):
            up.sendall(request.data)
            _await_answer(up)
        return False

    def _duplicate(self, request: Request, _down: socket.socket, up: socket.socket, _rng: random.Random) -> bool:
        self._spawn(self._duplicates, lambda: self._send_alone(request, 0.0))
        up.sendall(request.data)
        return True

    def _late(self, request: Request, _down: socket.socket, up: socket.socket, rng: random.Random) -> bool:
        delay = rng.uniform(0.2, 2.0)
        self._spawn(self._duplicates, lambda: self._send_alone(request, delay))
        up.sendall(request.data)
        return True

    def _error(self, request: Request, down: socket.socket, up: socket.socket, rng: random.Random) -> bool:
        if rng.random() < 0.5:
            up.sendall(request.data)
            _await_answer(up)
        down.sendall(_ERROR % (len(_ERROR_BODY), _ERROR_BODY))
        return False

    def _send_alone(self, request: Request, delay: float) -> None:
        self._closing.wait(delay)
        with self._connect() as up:
            up.sendall(request.data)
            _await_answer(up)


_FAULTS: dict[str, Callable[[Proxy, Request, socket.socket, socket.socket, random.Random], bool]] = {
    CUT_BEFORE: Proxy._cut_before,
    CUT_AFTER: Proxy._cut_after,
    CUT_WITHIN: Proxy._cut_within,
    STALL: Proxy._stall,
    DUPLICATE: Proxy._duplicate,
    LATE_DUPLICATE: Proxy._late,
    ERROR: Proxy._error,
}


def _await_answer(up: socket.socket) -> bytes:
    """The answer's first bytes: what was asked has been done."""
    up.settimeout(PATIENCE)
    return up.recv(65536)


def _reset(connection: socket.socket) -> None:
    """Close with RST; a Unix socket, which has none, just closes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
