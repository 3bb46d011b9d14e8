"""Restarts and changes, each carried out once whatever becomes of an attempt, and what they may meet on their way."""

from __future__ import annotations

import pytest

from runtime_server.errors import EngineTimeout, InvalidState
from runtime_server.models import RestartRequest, UpdateRequest
from runtime_server.models import RuntimeStatus as S
from runtime_server.service import Service
from runtime_server.store.records import Record
from tests.unit.conftest import ALICE, DEADLINE, World, get, start, status

NOW = RestartRequest(timeout=0, wait=DEADLINE)


def record(service: Service, runtime_id: str) -> Record:
    found = service.store.get(runtime_id)
    assert found is not None
    return found


def too_slow() -> None:
    raise EngineTimeout("The engine takes too long.")


def test_a_key_ends_a_process_once(world: World, service: Service) -> None:
    made = start(service)
    began = world.engine.inspect(made.runtime_id).started_at
    assert service.inside.restarts.restart(ALICE, made.runtime_id, NOW, key="k").status is S.RUNNING
    once = world.engine.inspect(made.runtime_id).started_at
    assert once != began
    # Its answer was lost, and with it the record of the call: it is sent again.
    assert service.inside.restarts.restart(ALICE, made.runtime_id, NOW, key="k").status is S.RUNNING
    assert world.engine.inspect(made.runtime_id).started_at == once
    assert service.inside.restarts.restart(ALICE, made.runtime_id, NOW, key="other").status is S.RUNNING
    assert world.engine.inspect(made.runtime_id).started_at != once


def test_a_key_whose_first_attempt_did_nothing_still_counts(world: World, service: Service) -> None:
    made = start(service)
    began = world.engine.inspect(made.runtime_id).started_at
    world.engine.hook("stop", too_slow, times=1)
    with pytest.raises(EngineTimeout):
        service.inside.restarts.restart(ALICE, made.runtime_id, NOW, key="k")
    restart = service.store.operations.running("restart")[0]
    service.inside.restarts.take_over(record(service, made.runtime_id), restart)
    assert status(service, made.runtime_id) is S.RUNNING
    once = world.engine.inspect(made.runtime_id).started_at
    assert once != began
    service.inside.restarts.restart(ALICE, made.runtime_id, NOW, key="k")
    assert world.engine.inspect(made.runtime_id).started_at == once


def test_a_change_that_is_sent_again_reaches_the_engine(world: World, service: Service) -> None:
    made = start(service, memory="64m")
    wanted = UpdateRequest.model_validate({"memory": "128m", "cpus": 1})
    world.engine.hook("set_limits", too_slow, times=1)
    with pytest.raises(EngineTimeout):
        service.inside.changes.change(ALICE, made.runtime_id, wanted)
    # It counts from before the attempt on, which says nothing of the engine.
    assert record(service, made.runtime_id).memory == 128 * 2**20
    calls = world.engine.calls["set_limits"]
    assert service.inside.changes.change(ALICE, made.runtime_id, wanted).memory_bytes == 128 * 2**20
    assert world.engine.calls["set_limits"] == calls + 1
    (container,) = world.engine._world.containers.values()
    assert (container.spec.memory, container.spec.cpus) == (128 * 2**20, 1)


def test_an_ended_runtime_that_came_back_is_not_removed(world: World, service: Service) -> None:
    made = start(service)
    service.manager.stop(ALICE, made.runtime_id, timeout=0)
    seen = record(service, made.runtime_id)
    service.inside.restarts.restart(ALICE, made.runtime_id, NOW)
    # As retention would, which looked before the restart.
    service.reconciler._chores.remove_now(seen)
    assert status(service, made.runtime_id) is S.RUNNING
    service.manager.stop(ALICE, made.runtime_id, timeout=0)
    service.reconciler._chores.remove_now(record(service, made.runtime_id))
    assert status(service, made.runtime_id) is S.REMOVED


def test_a_pause_that_loses_to_a_restart_leaves_it_running(world: World, service: Service) -> None:
    made = start(service)

    def restarted() -> None:
        service.store.change(made.runtime_id, status=S.STARTING)

    world.engine.hook("pause", restarted, times=1)
    with pytest.raises(InvalidState):
        service.manager.pause(ALICE, made.runtime_id)
    assert world.engine.calls["resume"] == 1
    service.store.change(made.runtime_id, status=S.RUNNING)
    assert get(service, made.runtime_id).status is S.RUNNING
