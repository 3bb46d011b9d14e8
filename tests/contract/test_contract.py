"""The client onto the whole service in this process, on the in-memory engine."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

import pytest
import requests

import runtime_server
from runtime_server import (
    Problem,
    RetryPolicy,
    RuntimeNotFound,
    RuntimeServerClient,
    RuntimeStatus,
    ServerTimeout,
    StartRequest,
    StopRequest,
)
from runtime_server.client.transport import Call
from runtime_server.errors import CATALOGUE
from runtime_server.testing import InMemoryServer
from tests.contract.conftest import FaultyAdapter

ONCE = RetryPolicy(max_attempts=1)
PROMPT = RetryPolicy(sleep=lambda _: None)
"""The default policy without its waits."""


def test_a_runtimes_life(client: RuntimeServerClient) -> None:
    runtime = client.start_runtime(image="busybox", name="web", environment={"A": "1"}, labels={"team": "blue"})
    assert (runtime.status, runtime.name, runtime.image, runtime.created) == ("running", "web", "busybox", True)
    assert runtime.container_id
    assert runtime.created_at.tzinfo is not None
    paused = client.pause_runtime(runtime.runtime_id)
    assert (paused.status, paused.changed, paused.container_id) == ("paused", True, runtime.container_id)
    assert client.pause_runtime({"runtime_id": "web"}).changed is False
    assert client.get_runtime("web").status is RuntimeStatus.PAUSED
    assert client.resume_runtime(runtime_id="web").status is RuntimeStatus.RUNNING
    assert client.stop_runtime(StopRequest(runtime_id=runtime.runtime_id, timeout=0)).status is RuntimeStatus.STOPPED
    assert client.stop_runtime(runtime.runtime_id, remove=True).status is RuntimeStatus.REMOVED
    assert client.get_runtime(runtime.runtime_id).status is RuntimeStatus.REMOVED


def test_ports_come_in_the_engines_own_shape(client: RuntimeServerClient) -> None:
    request = StartRequest(image="busybox", ports=[runtime_server.PortBinding(container_port=8000)])
    ports = client.start_runtime(request).ports
    assert list(ports) == ["8000/tcp"]
    assert ports["8000/tcp"][0].HostIp == "127.0.0.1"
    assert int(ports["8000/tcp"][0].HostPort) > 0


def test_remove_renew_and_wait(client: RuntimeServerClient) -> None:
    runtime = client.start_runtime(image="busybox", ttl=60)
    before = datetime.now(UTC)
    assert runtime.expires_at is not None
    renewed = client.renew_runtime(runtime.runtime_id, 3600).expires_at
    assert renewed is not None
    assert timedelta(seconds=3500) < renewed - before < timedelta(seconds=4000)
    assert client.renew_runtime(runtime.runtime_id, None).expires_at is None
    assert client.wait_until(runtime.runtime_id, "running", 30).runtime_id == runtime.runtime_id
    assert client.remove_runtime(runtime.runtime_id).status is RuntimeStatus.REMOVED
    assert client.wait_until(runtime.runtime_id, "removed", 30).status is RuntimeStatus.REMOVED


def test_a_start_that_takes_long_is_waited_for(shared_server: InMemoryServer, client: RuntimeServerClient) -> None:
    go = threading.Event()
    shared_server.engine.hook("create", lambda: _passed(go), times=1)
    runtime = client.start_runtime(image="busybox", wait=0)
    assert runtime.status is RuntimeStatus.STARTING
    threading.Timer(0.05, go.set).start()
    assert client.wait_until(runtime.runtime_id, "running", 60).container_id


def _passed(event: threading.Event) -> None:
    assert event.wait(60)


def test_the_listing_by_page_status_and_label(client: RuntimeServerClient) -> None:
    ids = [client.start_runtime(image="busybox", labels={"n": str(n), "all": ""}).runtime_id for n in range(5)]
    client.pause_runtime(ids[0])
    pages = list(client.list_runtimes(limit=2).pages())
    assert [len(page.runtimes) for page in pages] == [2, 2, 1]
    assert sorted(runtime.runtime_id for page in pages for runtime in page.runtimes) == sorted(ids)

    def listed(**filters: Any) -> set[str]:
        return {runtime.runtime_id for runtime in client.list_runtimes(limit=2, **filters)}

    assert listed(status="paused") == {ids[0]}
    assert listed(status=["paused", RuntimeStatus.RUNNING]) == set(ids)
    assert listed(labels={"n": "3"}) == {ids[3]}
    assert listed(labels={"all": None}) == set(ids)
    assert listed(labels={"all": None, "n": "1"}, status="running") == {ids[1]}
    assert listed(labels={"n": "9"}) == set()


def test_nobody_sees_anothers_runtime(shared_server: InMemoryServer, client: RuntimeServerClient) -> None:
    runtime = client.start_runtime(image="busybox", name="mine")
    stranger = shared_server.client(api_key=f"key-{199}")
    calls: list[Callable[[str], Any]] = [
        stranger.get_runtime, stranger.pause_runtime, stranger.resume_runtime, stranger.stop_runtime,
        stranger.remove_runtime, lambda name: stranger.renew_runtime(name, 1),
    ]  # fmt: skip
    for name in (runtime.runtime_id, "mine", runtime.container_id or ""):
        for call in calls:
            with pytest.raises(RuntimeNotFound):
                call(name)
    assert list(stranger.list_runtimes()) == []
    assert client.get_runtime("mine").status is RuntimeStatus.RUNNING


def test_health_readiness_and_version(server: InMemoryServer) -> None:
    client = server.client()
    assert client.health().status == "ok"
    assert client.ready().ready is True
    version = client.version()
    assert version.server == runtime_server.__version__
    assert version.engine is not None
    server.engine.away = True
    readiness = client.ready()
    assert readiness.ready is False
    assert readiness.reason
    assert server.client(api_key="").ready().reason is None
    assert client.version().engine is None
    assert client.health().status == "ok"


def test_unknown_fields_are_named_or_ignored(client: RuntimeServerClient) -> None:
    with pytest.raises(runtime_server.ValidationFailed) as caught:
        client.start_runtime(image="busybox", flavour="sweet-secret")
    assert caught.value.extensions["errors"][0]["loc"][-1] == "flavour"
    assert "sweet-secret" not in str(vars(caught.value))
    with in_memory() as server:
        runtime = server.client().start_runtime(image="busybox", flavour="sweet")
        assert any("flavour" in warning for warning in runtime.warnings)
        assert server.client().stop_runtime(runtime.runtime_id, force=True).warnings


@contextmanager
def in_memory() -> Iterator[InMemoryServer]:
    from runtime_server.testing import in_memory_server

    with in_memory_server(unknown_fields="ignore") as server:
        yield server


def test_one_key_is_one_start(shared_server: InMemoryServer, client: RuntimeServerClient) -> None:
    first = client.start_runtime(image="busybox", idempotency_key="k1")
    again = client.start_runtime(image="busybox", idempotency_key="k1")
    assert again == first
    with pytest.raises(runtime_server.IdempotencyKeyReused):
        client.start_runtime(image="busybox", name="other", idempotency_key="k1")
    assert len(list(client.list_runtimes())) == 1
    replay = client._transport.send(Call("POST", "/start", body=b'{"image":"busybox"}', key="k1"))
    assert replay.headers["Idempotency-Replayed"] == "true"


def test_one_key_in_many_threads_is_one_start(shared_server: InMemoryServer, key: str) -> None:
    client = shared_server.client(api_key=key)
    gate, found = threading.Barrier(6), []

    def start() -> None:
        gate.wait(60)
        found.append(client.start_runtime(image="busybox", idempotency_key="same").runtime_id)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 6
    assert [runtime.runtime_id for runtime in client.list_runtimes()] == [found[0]]
    assert set(found) == {found[0]}


def test_a_session_has_one_live_runtime(client: RuntimeServerClient) -> None:
    first = client.start_runtime(image="busybox", session_id="s")
    again = client.start_runtime(image="busybox", session_id="s", environment={"B": "2"})
    assert (first.created, again.created, again.runtime_id) == (True, False, first.runtime_id)
    assert any("environment" in warning for warning in again.warnings)


@contextmanager
def faulty(server: InMemoryServer, key: str, plan: Iterator[str], **more: Any) -> Iterator[RuntimeServerClient]:
    with requests.Session() as session:
        session.mount("http://faulty", FaultyAdapter(server, plan))
        client = RuntimeServerClient("http://faulty", api_key=key, session=session, **({"retry": PROMPT} | more))
        with client:
            yield client


@pytest.mark.parametrize("plan", [["cut"], ["lost"], ["cut", "lost", "cut"], ["cut"] * 7])
def test_a_lost_answer_starts_nothing_twice(
    shared_server: InMemoryServer, client: RuntimeServerClient, key: str, plan: list[str]
) -> None:
    with faulty(shared_server, key, iter(plan)) as shaky:
        runtime = shaky.start_runtime(image="busybox")
    assert [each.runtime_id for each in client.list_runtimes()] == [runtime.runtime_id]
    with faulty(shared_server, key, iter(plan)) as shaky:
        assert shaky.remove_runtime(runtime.runtime_id).changed is True
    assert list(client.list_runtimes()) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_third_of_all_messages_lost_changes_nothing(
    shared_server: InMemoryServer, client: RuntimeServerClient, key: str, seed: int
) -> None:
    dice = random.Random(seed)
    plan = (dice.choices(["ok", "lost", "cut"], [70, 15, 15])[0] for _ in repeat(None))
    wanted: dict[str, str] = {}
    with faulty(shared_server, key, plan, retry=RetryPolicy(max_attempts=30, sleep=lambda _: None)) as shaky:
        for number in range(12):
            runtime_id = shaky.start_runtime(image="busybox", name=f"r{number}").runtime_id
            wanted[runtime_id] = "running"
            if number % 3:
                assert shaky.pause_runtime(runtime_id).changed
                wanted[runtime_id] = "paused"
            if number % 3 == 2:
                assert shaky.resume_runtime(runtime_id).changed
                wanted[runtime_id] = "running"
            if number % 4 == 3:
                assert shaky.stop_runtime(runtime_id, timeout=0).changed
                wanted[runtime_id] = "stopped"
    assert {each.runtime_id: str(each.status) for each in client.list_runtimes()} == wanted


def test_runtime_leaves_nothing(shared_server: InMemoryServer, client: RuntimeServerClient, key: str) -> None:
    with client.runtime(image="busybox") as runtime:
        assert client.get_runtime(runtime.runtime_id).status is RuntimeStatus.RUNNING
    with pytest.raises(ZeroDivisionError), client.runtime(image="busybox"):
        _ = 1 / 0
    with client.runtime(image="busybox") as runtime:
        client.remove_runtime(runtime.runtime_id)
    # Every answer of the start is lost; the second look at the same key finds what it started.
    with (
        faulty(shared_server, key, iter(["cut"]), retry=ONCE) as shaky,
        pytest.raises(ServerTimeout),
        shaky.runtime(image="busybox"),
    ):
        pytest.fail("the block must not run")
    assert list(client.list_runtimes()) == []


@pytest.mark.parametrize("code", CATALOGUE)
def test_each_error_of_the_server_is_the_same_class_here(
    shared_server: InMemoryServer, client: RuntimeServerClient, code: str
) -> None:
    kind = CATALOGUE[code]
    runtime = client.start_runtime(image="busybox")
    thrown = kind("What happened.", retry_after=3, **{name: name for name in kind.carries})
    shared_server.engine.fail_next("pause", thrown)
    with pytest.raises(Problem) as caught:
        client.pause_runtime(runtime.runtime_id)
    error = caught.value
    assert (type(error), error.code, error.status, error.retryable) == (kind, code, kind.status, kind.retryable)
    assert set(kind.carries) <= set(error.extensions)
    assert error.request_id
    assert error.attempts == 1
    # The state's own refusal is written anew, with the state as it is then.
    assert error.detail == "What happened." or code in ("invalid-state", "internal-error")


def raw(
    method: str, path: str, body: bytes | None = None, key: str | None = "k"
) -> Callable[[RuntimeServerClient], Any]:
    return lambda client: client._transport.send(Call(method, path, body=body, key=key))


PROVOKED: dict[str, Callable[[RuntimeServerClient], Any]] = {
    "validation-failed": lambda c: c.start_runtime(image="busybox", ports=[{"container_port": 0}]),
    "malformed-json": raw("POST", "/start", b"{"),
    "bad-request": raw("POST", "/start", b'{"image": "busybox"}', key="k" * 256),
    "body-too-large": lambda c: c.start_runtime(image="busybox", environment={"A": "x" * 5000}),
    "policy-refused": lambda c: c.start_runtime(
        image="busybox", volumes=[{"host_path": "/etc", "container_path": "/e"}]
    ),
    "runtime-not-found": lambda c: c.stop_runtime("nobody"),
    "route-not-found": raw("GET", "/nowhere"),
    "method-not-allowed": raw("DELETE", "/start"),
    "invalid-state": lambda c: c.pause_runtime(stopped(c)),
    "name-conflict": lambda c: [c.start_runtime(image="busybox", name="twin", wait=wait) for wait in (5, 6)],
    "port-in-use": lambda c: [
        c.start_runtime(image="busybox", ports=[{"container_port": 80, "host_port": 45123}], wait=wait)
        for wait in (5, 6)
    ],
    "image-not-found": lambda c: c.start_runtime(image="nobody/has-this"),
    "image-reference-invalid": lambda c: c.start_runtime(image="UPPER CASE".replace(" ", "/")),
    "command-not-found": lambda c: c.start_runtime(image="busybox", command=["no-such-command"], init=False),
    "network-not-found": lambda c: c.start_runtime(image="busybox", network="gone"),
    "runtime-class-unknown": lambda c: c.start_runtime(image="busybox", runtime_class="nothing"),
    "limit-out-of-range": lambda c: c.start_runtime(image="busybox", cpus=4000),
}


def stopped(client: RuntimeServerClient) -> str:
    runtime_id = client.start_runtime(image="busybox").runtime_id
    client.stop_runtime(runtime_id, timeout=0)
    return runtime_id


@pytest.mark.parametrize("code", PROVOKED)
def test_what_goes_wrong_has_its_class(client: RuntimeServerClient, code: str) -> None:
    with pytest.raises(CATALOGUE[code]) as caught:
        PROVOKED[code](client)
    assert caught.value.request_id


def test_a_wrong_key(shared_server: InMemoryServer) -> None:
    for wrong in ("", "wrong"):
        with pytest.raises(runtime_server.Unauthorized):
            shared_server.client(api_key=wrong).list_runtimes().__next__()


def test_an_engine_that_comes_back_is_waited_for(server: InMemoryServer) -> None:
    server.engine.away = True
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        server.engine.away = len(waits) < 2

    client = server.client(retry=RetryPolicy(sleep=sleep))
    assert client.start_runtime(image="busybox").status is RuntimeStatus.RUNNING
    assert len(waits) == 2


def test_how_a_runtime_ended_is_told(shared_server: InMemoryServer, client: RuntimeServerClient) -> None:
    runtime = client.start_runtime(image="busybox")
    shared_server.engine.exit(runtime.runtime_id, 137, oom=True)
    ended = client.wait_until(runtime.runtime_id, "error", 60)
    assert ended.exit is not None
    assert (ended.exit.exit_code, ended.exit.oom_killed) == (137, True)


def test_answers_show_the_last_events_only(client: RuntimeServerClient) -> None:
    runtime = client.start_runtime(image="busybox").runtime_id
    for _ in range(8):
        paused, resumed = client.pause_runtime(runtime), client.resume_runtime(runtime)
    assert [each.reason for each in resumed.events[-2:]] == [paused.events[-1].reason, resumed.events[-1].reason]
    assert len(resumed.events) == 10
    # What an action answers, and foresaw while the engine worked, is what is read afterwards.
    read = client.get_runtime(runtime)
    assert read.events == resumed.events
    assert read.model_dump() == {
        key: value for key, value in resumed.model_dump().items() if key in read.model_dump()
    }
