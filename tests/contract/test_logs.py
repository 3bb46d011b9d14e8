"""Logs through the client, on the whole service in memory, over connections that break."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests

from runtime_server import (
    IncompatibleServer,
    Problem,
    RetryPolicy,
    RuntimeNotFound,
    RuntimeServerClient,
    ServerUnreachable,
)
from runtime_server.errors import EngineUnreachable
from runtime_server.testing import TEST_URL, InMemoryServer, WsgiAdapter, in_memory_server

PROMPT = RetryPolicy(sleep=lambda _: None)


class Breaking(WsgiAdapter):
    """Lets so many bytes of each body through, then breaks the connection; the last number is for all that follow.

    None lets everything through.
    """

    def __init__(self, server: Owned, plan: list[int | None]) -> None:
        super().__init__(server.app)
        self.plan = plan
        self.queries: list[str] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.queries.append(str(request.url).partition("?")[2])
        response = super().send(request, *args, **kwargs)
        most = self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]
        if most is not None and kwargs.get("stream"):
            response.raw.read1 = _Limited(response, most)  # type: ignore[method-assign]
        return response


class _Limited:
    def __init__(self, response: requests.Response, most: int) -> None:
        self._read1 = response.raw.read1
        self._left = most

    def __call__(self, size: int) -> bytes:
        if self._left <= 0:
            raise ConnectionResetError("broken")
        found: bytes = self._read1(min(size, self._left))
        self._left -= len(found)
        return found


class Owned:
    """A server, for the clients of one owner."""

    def __init__(self, server: InMemoryServer, key: str) -> None:
        self.app, self.engine = server.app, server.engine
        self._server, self._key = server, key

    def client(self, **options: Any) -> RuntimeServerClient:
        return self._server.client(api_key=self._key, **options)


def breaking(server: Owned, *plan: int | None, **options: Any) -> tuple[RuntimeServerClient, Breaking]:
    adapter = Breaking(server, list(plan))
    session = requests.Session()
    client = server.client(session=session, retry=options.pop("retry", PROMPT), **options)
    session.mount(TEST_URL, adapter)
    return client, adapter


@pytest.fixture
def server(shared_server: InMemoryServer, key: str) -> Owned:
    """The shared one, as an owner whom nobody else is."""
    return Owned(shared_server, key)


@pytest.fixture
def runtime(server: Owned) -> str:
    return server.client().start_runtime(image="busybox", restart_policy={"Name": "always"}).runtime_id


def test_lines_with_stream_and_time(server: Owned, runtime: str) -> None:
    client = server.client()
    server.engine.write(runtime, "one\n")
    server.engine.write(runtime, "two\n", "stderr")
    found = list(client.logs(runtime))
    assert [(each.stream, each.line) for each in found] == [("stdout", "one\n"), ("stderr", "two\n")]
    assert [each.line for each in client.logs(runtime, tail=1)] == ["two\n"]
    assert [each.line for each in client.logs(runtime, stderr=False)] == ["one\n"]
    assert [each.line for each in client.logs(runtime, since=found[1].time)] == ["two\n"]
    assert [each.line for each in client.logs(runtime, since=0)] == ["one\n", "two\n"]
    with pytest.raises(RuntimeNotFound):
        next(client.logs("nobody"))
    with pytest.raises(ValueError):
        client.logs(runtime, since="yesterday")


def test_following_until_the_end(server: Owned, runtime: str) -> None:
    client = server.client()
    with client.logs(runtime, follow=True) as logs:
        server.engine.write(runtime, "one\n")
        assert next(logs).line == "one\n"
        client.pause_runtime(runtime)
        client.resume_runtime(runtime)
        server.engine.write(runtime, "two\n")
        assert next(logs).line == "two\n"
        client.stop_runtime(runtime)
        assert list(logs) == []
        assert logs.status == "stopped"


@pytest.mark.parametrize("most", [1, 60, 90, 200, 333, 777])
@pytest.mark.parametrize("follow", [True, False])
def test_broken_connections_lose_and_repeat_no_line(server: Owned, runtime: str, most: int, follow: bool) -> None:
    said = [f"line {n // 3}\n" for n in range(40)]
    for number, line in enumerate(said):
        server.engine.write(runtime, line, "stderr" if number % 5 == 0 else "stdout")
    # Each attempt gets a little further, as on a bad network; without progress the client gives up.
    client, adapter = breaking(server, *[most + 150 * n for n in range(40)], None)
    logs = client.logs(runtime, follow=follow)
    found = [next(logs).line for _ in said]
    assert found == said
    assert len(adapter.queries) > 2
    if not follow:
        assert list(logs) == []
    logs.close()


def test_with_the_last_lines_only_a_break_before_any_asks_the_same_again(server: Owned, runtime: str) -> None:
    for line in ("a\n", "b\n", "c\n"):
        server.engine.write(runtime, line)
    client, adapter = breaking(server, 0, None)
    assert [each.line for each in client.logs(runtime, tail=2)] == ["b\n", "c\n"]
    assert ["tail=2" in query for query in adapter.queries] == [True, True]


def test_none_of_the_past_and_all_that_came_while_nobody_listened(server: Owned, runtime: str) -> None:
    server.engine.write(runtime, "past\n")
    client, adapter = breaking(server, 60, None)
    logs = client.logs(runtime, follow=True, tail=0)
    writer = threading.Timer(0.3, server.engine.write, (runtime, "present\n"))
    writer.start()
    assert next(logs).line == "present\n"
    assert "since=" in adapter.queries[-1]
    assert "tail=" not in adapter.queries[-1]
    logs.close()


def test_a_runtime_that_was_removed_meanwhile(server: Owned, runtime: str) -> None:
    for number in range(3):
        server.engine.write(runtime, f"{number}\n")
    client, _ = breaking(server, 400, None)
    logs = client.logs(runtime, follow=True)
    found = [next(logs).line, next(logs).line, next(logs).line]
    server.engine.write(runtime, "3\n")
    client.remove_runtime(runtime)
    found += [each.line for each in logs]
    assert found == ["0\n", "1\n", "2\n", "3\n"]
    assert logs.status == "removed"


def test_an_engine_that_stays_away_ends_it_with_its_error() -> None:
    with in_memory_server() as own:
        _stays_away(Owned(own, own.api_key))


def _stays_away(server: Owned) -> None:
    runtime = server.client().start_runtime(image="busybox").runtime_id
    client, adapter = breaking(server, None, retry=RetryPolicy(sleep=lambda _: None, max_attempts=3))
    logs = client.logs(runtime, follow=True)
    server.engine.write(runtime, "one\n")
    assert next(logs).line == "one\n"
    server.engine.away = True
    with pytest.raises(EngineUnreachable) as caught:
        next(logs)
    assert caught.value.attempts == 3
    assert isinstance(caught.value, Problem)
    assert len(adapter.queries) == 3


def test_no_progress_is_given_up(server: Owned, runtime: str) -> None:
    client, adapter = breaking(server, 5, retry=RetryPolicy(sleep=lambda _: None, max_attempts=4))
    with pytest.raises(ServerUnreachable):
        next(client.logs(runtime, follow=True))
    assert len(adapter.queries) == 4


@pytest.mark.parametrize("body", [b"[]\n", b"nonsense\n", b'{"line": 7}\n'])
def test_what_is_no_log_is_an_incompatible_server(server: Owned, runtime: str, body: bytes) -> None:
    send = WsgiAdapter.send

    class Odd(Breaking):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            response = send(self, request, *args, **kwargs)
            pieces = [body]
            response.raw.read1 = lambda _size: pieces.pop() if pieces else b""  # type: ignore[method-assign]
            return response

    session = requests.Session()
    client = server.client(session=session)
    session.mount(TEST_URL, Odd(server, [None]))
    with pytest.raises(IncompatibleServer):
        next(client.logs(runtime))
