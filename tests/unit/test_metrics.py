"""What the parts count: starts by outcome and phase, the slow lane, the reconciler, and the store at a scrape."""

from __future__ import annotations

import contextlib
import threading
import time
from contextvars import copy_context

import pytest

from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.measured import measured, outcome
from runtime_server.errors import EngineTimeout, ImageNotFound, TooManyWaiting
from runtime_server.metrics.timings import PHASES, Timings, current, server_timing, spent, timed
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes.waits import SlowLane
from runtime_server.service import Service
from tests.unit.conftest import ALICE, BOB, World, eventually, start, sweep


def value(service: Service, name: str, **labels: str) -> float:
    found = service.metrics.registry.get_sample_value(f"runtime_server_{name}", labels)
    return 0.0 if found is None else found


def told(service: Service, *, owners: bool = True) -> list[str]:
    text, _ = service._scrape(None).text("", owners=owners)
    return text.decode().splitlines()


def test_a_start_is_counted_with_its_phases(service: Service) -> None:
    timings = Timings()
    token = current.set(timings)
    try:
        start(service, name="one")
    finally:
        current.reset(token)
    assert {"policy", "store", "create", "start"} <= set(timings.seconds)
    assert "pull" not in timings.seconds
    count = "lifecycle_duration_seconds_count"
    eventually(lambda: value(service, count, action="start", phase="total") == 1)
    assert value(service, "starts_total", outcome="ok") == 1
    for phase in ("policy", "store", "create", "start", "total"):
        assert value(service, count, action="start", phase=phase) == 1


def test_a_failed_start_is_counted_by_its_code(world: World, service: Service) -> None:
    with pytest.raises(ImageNotFound):
        start(service, image="nobody/has-this", image_pull_policy="Never")
    eventually(lambda: value(service, "starts_total", outcome="image-not-found") == 1)
    assert value(service, "starts_total", outcome="ok") == 0


def test_runtimes_are_counted_by_state_and_owner_at_the_scrape(service: Service) -> None:
    start(service, caller=ALICE)
    paused = start(service, caller=ALICE)
    start(service, caller=BOB)
    service.manager.pause(ALICE, paused.runtime_id)
    lines = told(service)
    assert 'runtime_server_runtimes{owner="alice",state="running"} 1.0' in lines
    assert 'runtime_server_runtimes{owner="alice",state="paused"} 1.0' in lines
    assert 'runtime_server_runtimes{owner="bob",state="running"} 1.0' in lines
    assert 'runtime_server_runtimes{owner="bob",state="paused"} 0.0' in lines
    nameless = told(service, owners=False)
    assert 'runtime_server_runtimes{state="running"} 2.0' in nameless
    assert not any("alice" in line or "bob" in line for line in nameless)


def test_the_store_tells_the_queue_and_the_pulls(service: Service) -> None:
    lines = told(service)
    for name in ("starts_queued", "starts_in_progress", "starts_readying", "stops_in_progress", "pulls_in_progress"):
        assert f"runtime_server_{name} 0.0" in lines
    assert "runtime_server_draining 0.0" in lines
    service.state.draining.touch(mode=0o600)
    assert "runtime_server_draining 1.0" in told(service)


def test_a_scrape_goes_on_without_the_database(service: Service) -> None:
    service.store.database.close()
    service.state.database.write_bytes(b"not a database" * 100)
    lines = told(service)
    assert "runtime_server_reconciler_up 0.0" in lines
    assert not any(line.startswith("runtime_server_runtimes{") for line in lines)


def test_the_beat_has_an_age_while_there_is_one(service: Service) -> None:
    assert not any("beat_age" in line for line in told(service))
    service.reconciler._liveness.touch()
    (age,) = [line for line in told(service) if line.startswith("runtime_server_reconciler_beat_age_seconds ")]
    assert 0 <= float(age.split()[1]) < 60
    assert "runtime_server_reconciler_up 1.0" in told(service)


def test_orphans_and_sweeps_are_counted(world: World, service: Service) -> None:
    one = start(service)
    service.store.change(one.runtime_id, status=RuntimeStatus.REMOVED, removed_at=time.time())
    sweep(service)
    assert value(service, "reconciler_sweeps_total") == 1
    assert value(service, "reconciler_sweep_duration_seconds_count") == 1
    assert value(service, "reconciler_orphans_removed_total") == 1


def test_an_expiry_is_counted(service: Service) -> None:
    start(service, ttl=60)
    service._chores.expire(time.time() + 61)
    service._chores.settle()
    assert value(service, "reconciler_expired_total") == 1


def test_containers_without_records_are_counted_as_adopted(world: World, service: Service) -> None:
    start(service)
    service.close()
    world.fresh_database()
    second = world.service()
    sweep(second)
    assert value(second, "reconciler_adopted_total") == 1


def test_places_of_the_slow_lane_in_use() -> None:
    in_use = 0

    def changed(by: int) -> None:
        nonlocal in_use
        in_use += by

    lane = SlowLane(1, changed=changed)
    with lane.place():
        assert in_use == 1
        with pytest.raises(TooManyWaiting), lane.place():
            pass
        assert in_use == 1
    with pytest.raises(KeyError), lane.place():
        raise KeyError
    assert in_use == 0


def test_a_services_lane_is_its_gauge(service: Service) -> None:
    with service.lane.place():
        assert value(service, "slow_lane_places_in_use") == 1
    assert value(service, "slow_lane_places_in_use") == 0
    assert value(service, "slow_lane_places") == service.settings.slow_lane


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "ok"),
        (EngineTimeout(), "engine-timeout"),
        (ContainerMissing("x"), "container-missing"),
        (KeyboardInterrupt(), "keyboard-interrupt"),
    ],
)
def test_an_engine_call_is_told_with_its_outcome(error: BaseException | None, said: str) -> None:
    seen = []
    timings = Timings()

    def call() -> None:
        current.set(timings)
        with contextlib.suppress(BaseException), measured("pause", lambda *what: seen.append(what)):
            if error is not None:
                raise error

    copy_context().run(call)
    ((operation, became, seconds),) = seen
    assert (operation, became) == ("pause", said) == ("pause", outcome(error))
    assert timings.seconds == {"engine": seconds}


def test_nobody_need_be_timing() -> None:
    def work() -> None:
        current.set(None)
        spent("store", 1.0)

    copy_context().run(work)


def test_phases_add_up_and_are_told_in_order() -> None:
    timings = Timings()

    def work() -> None:
        current.set(timings)
        spent("engine", 0.02)
        spent("store", 0.001)
        spent("store", 0.0025)
        with timed("policy"):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    told = timings.whole()
    assert list(told) == ["policy", "store", "engine", "total"] == [each for each in PHASES if each in told]
    assert server_timing({"store": 0.0035, "total": 1.0}) == "store;dur=3.50, total;dur=1000.00"
    assert told["store"] == pytest.approx(0.0035)
