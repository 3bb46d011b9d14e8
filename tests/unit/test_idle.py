"""Who is put to sleep, and who isn't; who is woken by what was sent to it, on the engine in memory."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runtime_server.engine.base import Connections
from runtime_server.errors import EngineTimeout
from runtime_server.models import RuntimeStatus, StartResponse
from runtime_server.runtimes import idle, nginx_cache
from runtime_server.service import Service
from tests.unit.conftest import ALICE, World, get, start, status
from tests.unit.test_gateway import look, service_of, session

LONG_AGO = 1000.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx_cache, "LONGEST", 0.0)
    monkeypatch.setattr(idle, "LOOK", 0.0)


def sleepy(world: World, **settings: Any) -> Service:
    return service_of(world, **{"idle_timeout": 600.0, **settings})


def age(service: Service, runtime: StartResponse) -> None:
    """Let its start be long ago."""
    service.store.change(runtime.runtime_id, seen_at=time.time() - LONG_AGO)


def tick(service: Service) -> None:
    assert service.idle is not None
    service.idle.tick()
    service._chores.settle()


def is_asleep(service: Service, runtime: StartResponse) -> bool:
    age(service, runtime)
    tick(service)
    return status(service, runtime.runtime_id) is RuntimeStatus.PAUSED


def test_what_nobody_uses_sleeps(world: World) -> None:
    service = sleepy(world)
    runtime = start(service)
    tick(service)
    assert status(service, runtime.runtime_id) is RuntimeStatus.RUNNING
    assert is_asleep(service, runtime)
    found = get(service, runtime.runtime_id)
    assert found.status_detail == "Asleep: not used for 600 s."
    assert look(service, runtime) == (502, None)  # it runs, and has no main service
    tick(service)
    found = get(service, runtime.runtime_id)
    assert (found.status, found.status_detail) == (RuntimeStatus.RUNNING, None)


@pytest.mark.parametrize(
    ("settings", "fields", "asleep"),
    [
        ({"idle_timeout": 0.0}, {}, False),
        ({"idle_timeout": 0.0}, {"idle_timeout": 60}, True),
        ({}, {"idle_timeout": 0}, False),
        ({}, {"idle_timeout": 2000}, False),
        ({}, {"idle_timeout": 60}, True),
    ],
)
def test_who_sleeps_when(world: World, settings: dict[str, Any], fields: dict[str, Any], asleep: bool) -> None:
    service = sleepy(world, **settings)
    assert is_asleep(service, start(service, **fields)) is asleep


@pytest.mark.parametrize(("settings", "fields"), [({"idle_action": "stop"}, {}), ({}, {"idle_action": "stop"})])
def test_it_can_be_stopped_instead(world: World, settings: dict[str, Any], fields: dict[str, Any]) -> None:
    service = sleepy(world, **settings)
    runtime = start(service, **fields)
    assert not is_asleep(service, runtime)
    assert status(service, runtime.runtime_id) is RuntimeStatus.STOPPED
    record = service.store.get(runtime.runtime_id)
    assert record is not None
    assert not record.pausing
    assert look(service, runtime) == (502, None)


def test_what_is_called_does_not_sleep(world: World) -> None:
    service = sleepy(world)
    runtime = start(service, ports=[{"container_port": 8000}])
    assert look(service, runtime) == "192.0.2.1:8000"
    assert not is_asleep(service, runtime)


def test_what_somebody_is_connected_to_does_not_sleep(world: World) -> None:
    service = sleepy(world)
    runtime = start(service)
    world.engine.connect(runtime.runtime_id, Connections(open=1))
    assert not is_asleep(service, runtime)
    # It was in use up to now, which the next process to reconcile knows as well.
    world.engine.connect(runtime.runtime_id, Connections())
    assert not is_asleep(service, runtime)
    assert not is_asleep(sleepy(world), runtime)
    service.store.change(runtime.runtime_id, active_at=time.time() - LONG_AGO)
    assert is_asleep(sleepy(world), runtime)


def test_where_connections_cannot_be_seen_nothing_sleeps(world: World) -> None:
    service = sleepy(world)
    runtime = start(service)
    world.engine.connect(runtime.runtime_id, None)
    assert not is_asleep(service, runtime)


def test_what_has_a_command_executed_does_not_sleep(world: World) -> None:
    service = sleepy(world)
    runtime = start(service)
    world.engine.execute(runtime.runtime_id, 1)
    assert not is_asleep(service, runtime)


@pytest.mark.parametrize(
    ("told", "asleep"),
    [
        (None, True),
        ({"idle_time": 700, "uptime": 1}, True),
        ({"idle_time": 5.5}, False),
        ({"idle_time": -5}, False),
        ({"idle_time": "5"}, True),
        (["idle_time"], True),
    ],
)
def test_what_an_agent_server_says_of_itself(world: World, told: object, asleep: bool) -> None:
    service = sleepy(world)
    runtime = session(service)
    world.engine.answer_with(runtime.runtime_id, told)
    assert is_asleep(service, runtime) is asleep


def test_an_agent_server_that_is_too_busy_to_say_does_not_sleep(world: World) -> None:
    service = sleepy(world)
    runtime = session(service)
    world.engine.fail_next("http_json", EngineTimeout())
    assert not is_asleep(service, runtime)


def test_whoever_calls_during_the_freeze_is_served(world: World) -> None:
    service = sleepy(world)
    runtime = start(service, ports=[{"container_port": 8000}])
    world.engine.hook("pause", lambda: world.engine.connect(runtime.runtime_id, Connections(1, 1)), times=1)
    assert not is_asleep(service, runtime)
    assert world.engine.inspect(runtime.runtime_id).state == "running"
    world.engine.connect(runtime.runtime_id, Connections())
    assert look(service, runtime) == "192.0.2.1:8000"


def test_whoever_calls_right_before_it_keeps_it_awake(world: World) -> None:
    service = sleepy(world)
    runtime = start(service, ports=[{"container_port": 8000}])
    found: list[Any] = []
    # Between the last question and the mark.
    world.engine.hook("commands", lambda: found.append(look(service, runtime)), after=True, times=1)
    assert not is_asleep(service, runtime)
    assert found == ["192.0.2.1:8000"]
    assert world.engine.calls["pause"] == 0


def test_what_was_sent_to_a_frozen_runtime_wakes_it(world: World) -> None:
    service = service_of(world)
    runtime, another, stubborn = session(service), start(service), start(service, wake=False)
    for each in (runtime, another, stubborn):
        service.manager.pause(ALICE, each.runtime_id)
    world.engine.connect(runtime.runtime_id, Connections(2, 1))
    world.engine.connect(another.runtime_id, Connections(2, 0))
    world.engine.connect(stubborn.runtime_id, Connections(1, 1))
    tick(service)
    states = [status(service, each.runtime_id) for each in (runtime, another, stubborn)]
    assert states == [RuntimeStatus.RUNNING, RuntimeStatus.PAUSED, RuntimeStatus.PAUSED]
    # A message over a WebSocket that stayed open, long after.
    age(service, another)
    world.engine.connect(another.runtime_id, Connections(2, 1))
    service.idle = None
    tick(_again(service))
    assert status(service, another.runtime_id) is RuntimeStatus.RUNNING


def _again(service: Service) -> Service:
    """Another process on the same state."""
    return Service(service.settings, service.state, service.engine)


def test_a_mark_that_a_crash_left_goes_away(world: World) -> None:
    service = service_of(world, wake=False)
    runtime = start(service, ports=[{"container_port": 8000}])
    service.store.change(runtime.runtime_id, pausing=True)
    assert look(service, runtime) == (503, 5.0)
    tick(service)
    assert look(service, runtime) == "192.0.2.1:8000"


def test_the_end_comes_all_the_same(world: World) -> None:
    service = sleepy(world)
    runtime = start(service, ttl=3600)
    assert is_asleep(service, runtime)
    service.store.change(runtime.runtime_id, expires_at=time.time() - 1)
    service._chores.expire(time.time())
    service._chores.settle()
    assert status(service, runtime.runtime_id) is RuntimeStatus.REMOVED
