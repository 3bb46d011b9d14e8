"""Runtimes that sleep behind the gateway: woken by whatever calls them, put to sleep when nobody does."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runtime_server.models import StartResponse
from tests.gateway.conftest import Answer, Gateway, Open, eventually
from tests.gateway.image import IMAGE, PYTHON


@pytest.fixture(scope="module")
def site(subdomain: Gateway) -> Gateway:
    return subdomain


@pytest.fixture
def own(site: Gateway) -> Iterator[Callable[..., StartResponse]]:
    """Starts runtimes that are removed after the test."""
    made = []

    def start(**fields: Any) -> StartResponse:
        made.append(site.runtime(**fields))
        return made[-1]

    yield start
    for each in made:
        site.client.remove_runtime(each.runtime_id)


def test_a_request_wakes(gateway: Gateway, runtime: StartResponse) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        gateway.client.pause_runtime(runtime.runtime_id)
        assert gateway.call(runtime, "/x", method=method).json["method"] == method
        assert gateway.status(runtime) == "running"


def test_a_hundred_requests_wake_once(gateway: Gateway, runtime: StartResponse) -> None:
    gateway.call(runtime)
    gateway.client.pause_runtime(runtime.runtime_id)
    before = time.time()
    ready = threading.Barrier(100)

    def call(_: int) -> Answer:
        ready.wait()
        return gateway.call(runtime)

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(call, range(100)))
    assert [(each.status, each.body) for each in answers] == [(200, b"fine")] * 100
    assert gateway.engine_events(runtime, before).count("unpause") == 1
    events = [each.reason for each in gateway.client.get_runtime(runtime.runtime_id).events]
    assert events[-2:] == ["Paused", "Started"], events


def test_a_websocket_wakes(gateway: Gateway, runtime: StartResponse) -> None:
    gateway.client.pause_runtime(runtime.runtime_id)
    websocket = gateway.websocket(runtime)
    assert websocket.status == 101
    assert websocket.echo("awake") == "awake"
    websocket.close()


def test_an_upload_is_held_and_then_whole(gateway: Gateway, runtime: StartResponse) -> None:
    body = bytes(range(256)) * 40_000
    gateway.client.pause_runtime(runtime.runtime_id)
    seen = gateway.call(runtime, "/up", method="POST", body=body).json
    assert (seen["size"], seen["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_a_message_over_a_websocket_that_stayed_open_wakes(site: Gateway, own: Callable[..., StartResponse]) -> None:
    runtime = own()
    websocket = site.websocket(runtime)
    assert websocket.echo("before") == "before"
    site.client.pause_runtime(runtime.runtime_id)
    assert site.status(runtime) == "paused"
    assert websocket.echo("after") == "after"
    eventually(lambda: site.status(runtime) == "running", "it is known to run")
    websocket.close()


def test_a_runtime_whose_waking_is_off(site: Gateway, own: Callable[..., StartResponse]) -> None:
    runtime = own(wake=False)
    assert site.call(runtime).status == 200
    site.client.pause_runtime(runtime.runtime_id)
    answer = site.call(runtime)
    assert (answer.status, answer.headers["Retry-After"], answer.json["code"]) == (503, "5", "runtime-unavailable")
    websocket = site.websocket(runtime)
    websocket.close()
    assert websocket.status == 503
    assert site.status(runtime) == "paused"
    site.client.resume_runtime(runtime.runtime_id)
    eventually(lambda: site.call(runtime).status == 200, "it is served again")


def test_a_stopped_runtime_never_wakes(site: Gateway, own: Callable[..., StartResponse]) -> None:
    runtime = own()
    assert site.call(runtime).status == 200
    site.client.stop_runtime(runtime.runtime_id, timeout=0)
    answer = site.call(runtime)
    assert (answer.status, answer.json["code"]) == (502, "runtime-unanswered")
    assert site.status(runtime) == "stopped"
    site.client.remove_runtime(runtime.runtime_id)
    assert site.call(runtime).status == 404


def test_frozen_behind_the_services_back(site: Gateway, own: Callable[..., StartResponse]) -> None:
    # The kept look-up leads there for a second or two more, and the kernel accepts what is sent.
    runtime = own()
    for _ in range(3):
        assert site.call(runtime).status == 200
        site.docker.pause(runtime.runtime_id)
        assert site.call(runtime).status == 200


def test_pauses_between_requests_that_never_end(gateway: Gateway, runtime: StartResponse) -> None:
    """Whatever comes between look-up and proxying, each request is served: now, or once it has woken the runtime."""
    over = threading.Event()
    found: list[int] = []

    def call() -> None:
        while not over.is_set():
            found.append(gateway.call(runtime).status)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for each in callers:
        each.start()
    try:
        for _ in range(12):
            gateway.client.pause_runtime(runtime.runtime_id)
            time.sleep(0.05)
    finally:
        over.set()
        for each in callers:
            each.join()
    assert set(found) == {200}
    assert len(found) > 12


def test_pauses_of_a_runtime_that_nothing_wakes_leave_no_request_hanging(
    site: Gateway, own: Callable[..., StartResponse]
) -> None:
    runtime = own(wake=False)
    over = threading.Event()
    found: list[int] = []

    def call() -> None:
        while not over.is_set():
            found.append(site.call(runtime).status)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for each in callers:
        each.start()
    try:
        for _ in range(3):
            assert site.client.pause_runtime(runtime.runtime_id).status == "paused"
            eventually(lambda: found[-1] == 503, "requests are refused")
            site.client.resume_runtime(runtime.runtime_id)
            eventually(lambda: found[-1] == 200, "requests are served")
    finally:
        over.set()
        for each in callers:
            each.join()
    assert set(found) == {200, 503}


def test_stopped_between_look_up_and_proxying(site: Gateway, own: Callable[..., StartResponse]) -> None:
    runtime = own()
    over = threading.Event()
    found: list[int] = []

    def call() -> None:
        while not over.is_set():
            try:
                found.append(site.call(runtime).status)
            except ConnectionError:
                found.append(0)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for each in callers:
        each.start()
    eventually(lambda: len(found) > 20, "requests are served")
    site.client.stop_runtime(runtime.runtime_id, timeout=0)
    eventually(lambda: found[-1] == 502, "requests are refused")
    over.set()
    for each in callers:
        each.join()
    # An answer that had begun ends with its sender.
    assert set(found) <= {200, 502, 0}


def test_a_restarted_runtime_is_found_where_it_is_now(site: Gateway, own: Callable[..., StartResponse]) -> None:
    first, second = own(), own()
    assert site.call(first).status == 200
    addresses = [site.docker.inspect_container(each.runtime_id) for each in (first, second)]
    # They swap places behind the service's back.
    for each in (first, second):
        site.docker.stop(each.runtime_id, timeout=0)
    for each in (second, first):
        site.docker.start(each.runtime_id)
    for runtime in (first, second):
        eventually(lambda runtime=runtime: site.status(runtime) == "running", "it runs")  # type: ignore[misc]
        eventually(lambda runtime=runtime: site.call(runtime).status == 200, "it is found")  # type: ignore[misc]
        seen = site.call(runtime, "/echo").json
        names = {value for name, value in seen["headers"] if name.lower() == "host"}
        assert runtime.runtime_id in str(names)
    assert len({each["NetworkSettings"]["Networks"].popitem()[1]["IPAddress"] for each in addresses}) == 2


@pytest.fixture(scope="module")
def small(open_gateway: Open) -> Gateway:
    return open_gateway("subdomain", WORKERS="1", MAX_RUNNING_PER_OWNER="8", IDLE_TIMEOUT="2")


def test_idle_runtimes_sleep_and_busy_ones_dont(small: Gateway) -> None:
    """All at once, since each waits for the same seconds to pass."""
    busy: list[dict[str, Any]] = [{"idle_timeout": 4} for _ in range(5)]
    busy[3] |= {"session_id": "agent", "ports": []}
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda fields: small.runtime(**fields), [*busy, {"idle_timeout": 0}]))
        called, connected, executing, agent, requested, never = made
        over = threading.Event()

        def call() -> None:
            while not over.wait(0.3):
                small.call(called)

        caller = pool.submit(call)
        try:
            websocket = small.websocket(connected)
            command = [PYTHON, "-c", "import time; time.sleep(1000)"]
            begun = small.docker.exec_create(executing.runtime_id, command)
            small.docker.exec_start(begun["Id"], detach=True)
            small.call(agent, "/work?seconds=1000")
            slow = pool.submit(small.call, requested, "/slow?seconds=9")
            idle, stopping = pool.map(lambda fields: small.runtime(**fields), ({}, {"idle_action": "stop"}))
            eventually(lambda: small.status(idle) == "paused", "what is idle sleeps")
            eventually(lambda: small.status(stopping) == "stopped", "what is idle is stopped")
            assert slow.result().body == b"at last"
            for each in (called, connected, executing, agent, requested, never):
                assert small.status(each) == "running"
            assert websocket.echo("still there") == "still there"
        finally:
            over.set()
        caller.result()
        assert "not used for 2 s" in str(small.client.get_runtime(idle.runtime_id).status_detail)
        assert small.call(stopping).status == 502
        websocket.close()
        for each in (connected, requested):
            eventually(lambda each=each: small.status(each) == "paused", "what was busy sleeps")  # type: ignore[misc]
        assert small.call(idle).status == 200
        list(pool.map(lambda each: small.client.remove_runtime(each.runtime_id), [*made, idle, stopping]))


def test_a_wake_beyond_a_quota_waits_for_it(small: Gateway) -> None:
    asleep = small.runtime(idle_timeout=0)
    small.client.pause_runtime(asleep.runtime_id)
    sleeping: dict[str, Any] = {
        "image": IMAGE, "command": [PYTHON, "-c", "import time; time.sleep(1000)"], "idle_timeout": 0
    }  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        sleepers = list(pool.map(lambda _: small.client.start_runtime(sleeping), range(8)))
        answer = small.call(asleep)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        assert small.status(asleep) == "paused"
        small.client.pause_runtime(sleepers[0].runtime_id)
        assert small.call(asleep).status == 200
        list(pool.map(lambda each: small.client.remove_runtime(each.runtime_id), [asleep, *sleepers]))


def test_without_the_service_nothing_is_sent_anywhere(small: Gateway) -> None:
    """The last one here: the service ends."""
    runtime = small.runtime()
    process = small.processes.pop("gunicorn")
    process.terminate()
    process.wait()
    eventually(lambda: small.call(runtime).status == 503, "requests are refused")
