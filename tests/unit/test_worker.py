"""Kept connections under gunicorn: who serves their next request, and that nobody waits for those who linger."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runtime_server.settings import LINGERING
from runtime_server.worker import LINGER

THREADS = LINGERING + 4
DEADLINE = 30.0


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with the thread that it is called in."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.03)
    body = threading.current_thread().name.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Gunicorn:
    """gunicorn with one worker, and that app."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            command = [
                *(sys.executable, "-m", "gunicorn", "--worker-class", "runtime_server.worker.Worker"),
                *("--workers", "1", "--threads", str(THREADS), "--keep-alive", "75", "--graceful-timeout", "6"),
                *("--no-control-socket", "--bind", f"fd://{listener.fileno()}"),
                "tests.unit.test_worker:app",
            ]
            root = Path(__file__).parents[2]
            self.process = subprocess.Popen(
                command, cwd=root, pass_fds=[listener.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def end(self) -> str:
        """As an administrator ends it; what it has said."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0
        return said.decode()


def ask(connection: http.client.HTTPConnection, path: str = "/") -> str:
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read().decode()


@pytest.fixture
def gunicorn() -> Iterator[Gunicorn]:
    made = Gunicorn()
    try:
        with closing(made.connect()) as connection:
            ask(connection)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(DEADLINE)
        assert made.process.stdout is not None
        made.process.stdout.close()


def test_a_connections_next_request_is_served_by_the_thread_that_served_the_last(gunicorn: Gunicorn) -> None:
    with closing(gunicorn.connect()) as one, closing(gunicorn.connect()) as other:
        # In no order in which threads that wait in a line would come by themselves.
        order = [one, one, other, other, other, one, other, one] * 3
        for _ in range(20):  # on a busy machine a request may come too late
            served = {(connection is one, ask(connection)) for connection in order}
            if len(served) == 2 and len({thread for _, thread in served}) == 2:
                return
    pytest.fail(f"served by {served}")


def test_a_request_that_comes_late_is_served_all_the_same(gunicorn: Gunicorn) -> None:
    with closing(gunicorn.connect()) as connection:
        ask(connection)
        time.sleep(2 * LINGER)
        ask(connection)


def test_those_who_always_have_a_next_request_keep_no_thread_from_others(gunicorn: Gunicorn) -> None:
    ending = threading.Event()

    def go_on() -> None:
        with closing(gunicorn.connect()) as connection:
            while not ending.is_set():
                ask(connection, "/slow")

    with ThreadPoolExecutor(2 * THREADS) as pool:
        busy = [pool.submit(go_on) for _ in range(2 * THREADS)]
        try:
            for _ in range(5):
                with closing(gunicorn.connect()) as connection:
                    ask(connection)
        finally:
            ending.set()
    assert [each.exception() for each in busy] == [None] * len(busy)


def test_requests_sent_at_once_are_all_answered(gunicorn: Gunicorn) -> None:
    with socket.create_connection(("127.0.0.1", gunicorn.port), timeout=DEADLINE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 3)
        got = b""
        while got.count(b"HTTP/1.1 200 OK") < 3:
            piece = connection.recv(65536)
            assert piece, got
            got += piece


def test_it_ends_while_a_thread_lingers(gunicorn: Gunicorn) -> None:
    with closing(gunicorn.connect()) as kept, closing(gunicorn.connect()) as closed:
        ask(kept)
        ask(closed)
        closed.close()
        said = gunicorn.end()
    assert "Traceback" not in said
    assert "[ERROR]" not in said


def ask_on(connection: http.client.HTTPConnection, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ask(connection)


def test_a_worker_without_a_parent_ends_whoever_still_asks(gunicorn: Gunicorn) -> None:
    with closing(gunicorn.connect()) as connection:
        ask(connection)
        connection.auto_open = 0
        gunicorn.process.kill()
        with pytest.raises((OSError, http.client.HTTPException)):
            ask_on(connection, DEADLINE)
