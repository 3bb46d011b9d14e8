"""Kept connections under gunicorn: who serves their next request, and that nobody waits for those who linger."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from runtime_server.worker import LINGER, LINGERING

THREADS = LINGERING + 4
DEADLINE = 30.0


def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with the thread that it is called in."""
    import threading

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
                *("--threads", str(THREADS), "--keep-alive", "75", "--bind", f"fd://{listener.fileno()}"),
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
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        said, _ = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0
        return said.decode()


def ask(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
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
        if made.process.poll() is None:
            made.process.kill()
            made.process.communicate()


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


def test_who_lingers_takes_no_thread_from_others(gunicorn: Gunicorn) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(gunicorn.connect())) for _ in range(3 * THREADS)]
        for _ in range(3):
            assert len([ask(each) for each in connections]) == 3 * THREADS


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
