"""Fifty slow senders: behind nginx nobody notices; gunicorn alone is held up by as many as it has threads."""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Iterator

from tests.nginx.conftest import Site

SENDERS = 50
PAUSE = 1.0
"""Seconds between two bytes."""
SECONDS = 8.0
"""How long it goes on, well within the 10 s that nginx gives a head."""
CALLS = 40
WITHIN = 15.0
"""Seconds in which each call must be answered: far more than any takes, on a machine however busy."""


class Slow:
    """A sender of one byte a second: of its head, or of the body after a head."""

    def __init__(self, connection: socket.socket, site: Site, body: bool) -> None:
        self.connection = connection
        head = f"POST /start HTTP/1.1\r\nHost: x\r\nX-API-Key: {site.key}\r\nContent-Type: application/json\r\n"
        if body:
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
            self._rest = iter(b" " * 1000)
        else:
            self._rest = iter(head.encode())

    def send(self) -> None:
        self.connection.send(bytes([next(self._rest)]))

    @property
    def open(self) -> bool:
        """Whether it is neither answered nor left."""
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1) == b"never"
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.connection.setblocking(True)


@contextlib.contextmanager
def slow_senders(site: Site, family: socket.AddressFamily, address: object, bodies: int) -> Iterator[list[Slow]]:
    """They send as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        senders = []
        for number in range(SENDERS):
            connection = stack.enter_context(socket.socket(family))
            connection.settimeout(30)
            connection.connect(address)  # type: ignore[arg-type]
            senders.append(Slow(connection, site, body=number < bodies))
        ended = threading.Event()

        def send() -> None:
            while not ended.wait(PAUSE):
                for each in senders:
                    with contextlib.suppress(OSError):
                        each.send()

        thread = threading.Thread(target=send, name="slow senders")
        thread.start()
        try:
            yield senders
        finally:
            ended.set()
            thread.join()


def times(site: Site) -> list[float]:
    """Seconds that calls of another client take, spread over the time."""
    taken = []
    with site.client(timeout=WITHIN) as client:
        runtime = client.start_runtime(image="busybox")
        for number in range(CALLS):
            began = time.monotonic()
            (client.pause_runtime if number % 2 == 0 else client.resume_runtime)(runtime.runtime_id)
            taken.append(time.monotonic() - began)
            time.sleep(max(0.0, SECONDS / CALLS - taken[-1]))
        client.remove_runtime(runtime.runtime_id)
    return taken


def test_behind_nginx_others_are_served(running: Site) -> None:
    alone = times(running)
    with slow_senders(running, socket.AF_INET, ("127.0.0.1", running.port), bodies=SENDERS // 2) as senders:
        among = times(running)
        still = sum(each.open for each in senders)
    ratio = statistics.median(among) / statistics.median(alone)
    print(  # noqa: T201
        f"\npause and resume among {SENDERS} slow senders: median {statistics.median(among) * 1000:.1f} ms, "
        f"{ratio:.2f} times that of none; at most {max(among) * 1000:.0f} ms"
    )
    assert max(among) < WITHIN
    # They were there all the time, or it wasn't tried.
    assert still >= SENDERS // 2


def test_slow_senders_never_reach_the_service(running: Site) -> None:
    before = (running.folder / "gunicorn.log").read_text()
    with slow_senders(running, socket.AF_INET, ("127.0.0.1", running.port), bodies=SENDERS // 2):
        time.sleep(2 * PAUSE)
    assert (running.folder / "gunicorn.log").read_text() == before


def test_gunicorn_alone_is_held_up(site: Site) -> None:
    """What SECURITY.md says of it: were it otherwise, this would be the place to learn it."""
    site.settings = {"WORKERS": "1", "THREADS": "8", "STREAMS": "8"}  # fewer than senders, spare ones included
    with site.served():
        with slow_senders(site, socket.AF_UNIX, str(site.socket), bodies=SENDERS):
            assert not answers(site, within=3.0)
        assert answers(site, within=WITHIN)


def answers(site: Site, within: float) -> bool:
    """Whether the service itself answers in time."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within)
        connection.connect(str(site.socket))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
        except TimeoutError:
            return False
