from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from runtime_server.engine.base import ContainerState
from runtime_server.engine.memory_images import Program
from runtime_server.errors import EngineFailed, EngineTimeout, EngineUnreachable, Problem, StorageUnavailable
from runtime_server.models import RuntimeStatus as S
from runtime_server.service import Service
from tests.unit.conftest import ALICE, DEADLINE, Killed, World, eventually, get, start, status, sweep


def full(*_: Any, **__: Any) -> None:
    raise StorageUnavailable


def test_a_stop_keeps_the_container_and_tells_how_it_ended(world: World, service: Service) -> None:
    made = start(service, ports=[{"container_port": 80}])
    world.engine.write(made.runtime_id, "last words\n")
    answer = service.manager.stop(ALICE, made.runtime_id, timeout=7)
    assert (answer.status, answer.changed, answer.container_id) == (S.STOPPED, True, made.container_id)
    found = get(service, made.runtime_id)
    assert found.exit is not None
    assert (found.exit.exit_code, found.exit.signal, found.logs) == (143, "SIGTERM", "last words\n")
    assert found.stopped_at
    assert [each.state for each in world.engine.list()] == [ContainerState.EXITED]
    again = service.manager.stop(ALICE, made.runtime_id)
    assert (again.status, again.changed) == (S.STOPPED, False)

    gone = service.manager.remove(ALICE, made.runtime_id)
    assert (gone.status, gone.changed) == (S.REMOVED, True)
    assert service.manager.remove(ALICE, made.runtime_id).changed is False
    assert world.engine.list() == []
    kept = get(service, made.runtime_id)
    assert (kept.exit, kept.logs, kept.stopped_at, kept.ports) == (found.exit, found.logs, found.stopped_at, {})
    assert service.store.operations.running("start", "stop") == []


def test_without_grace_it_is_killed(world: World, service: Service) -> None:
    made = start(service)
    service.manager.stop(ALICE, made.runtime_id, timeout=0)
    found = get(service, made.runtime_id)
    assert found.exit is not None
    assert found.exit.signal == "SIGKILL"


def test_a_paused_one_gets_its_grace(world: World, service: Service) -> None:
    made = start(service)
    service.manager.pause(ALICE, made.runtime_id)
    assert service.manager.stop(ALICE, made.runtime_id).status is S.STOPPED
    found = get(service, made.runtime_id)
    assert found.exit is not None
    assert found.exit.signal == "SIGTERM"


def test_an_ended_one_can_be_removed_after_its_alias_and_session_went_on(world: World, service: Service) -> None:
    wanted: dict[str, Any] = {"name": "agent", "session_id": "s"}
    first = start(service, **wanted)
    service.manager.stop(ALICE, first.runtime_id)
    second = start(service, **wanted)
    assert second.runtime_id != first.runtime_id
    assert service.manager.remove(ALICE, first.runtime_id).status is S.REMOVED
    world.engine.exit(second.runtime_id, 1)
    sweep(service)
    third = start(service, **wanted)
    assert service.manager.remove(ALICE, second.runtime_id).status is S.REMOVED
    assert get(service, "agent").runtime_id == third.runtime_id
    assert len(world.engine.list()) == 1


def test_a_failed_start_can_be_removed(world: World, service: Service) -> None:
    world.engine.fail_next("start", EngineFailed("no"))
    with pytest.raises(EngineFailed):
        start(service, name="agent")
    assert service.manager.remove(ALICE, "agent").status is S.REMOVED
    found = get(service, "agent")
    assert found.error is not None


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("at", ["create", "start", "inspect"])
def test_a_stop_during_a_start_wins(world: World, at: str, remove: bool) -> None:
    service, other = world.service(), world.service()
    begun, go_on = Event(), Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(DEADLINE)

    world.engine.hook(at, hold, times=1)
    made = start(service, wait=0)
    assert begun.wait(DEADLINE)
    with ThreadPoolExecutor(1) as pool:
        stop = pool.submit(other.manager.stop, ALICE, made.runtime_id, remove=remove)
        eventually(lambda: status(other, made.runtime_id) is S.STOPPING)
        go_on.set()
        assert stop.result(DEADLINE).status is (S.REMOVED if remove else S.STOPPED)
    assert world.engine.list() == []
    assert service.store.operations.running("start", "stop") == []
    assert get(service, made.runtime_id).container_id is None


def test_twins_stop_once(world: World) -> None:
    services = [world.service(), world.service()]
    made = start(services[0])
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: services[n % 2].manager.stop(ALICE, made.runtime_id, remove=True), range(8))
        )
    assert {each.status for each in answers} == {S.REMOVED}
    assert [each.changed for each in answers].count(True) == 1
    assert world.engine.calls["remove"] == 1


def test_one_that_waits_for_anothers_stop_goes_further_where_asked(world: World) -> None:
    service, other = world.service(), world.service()
    made = start(service)
    begun, go_on = Event(), Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(DEADLINE)

    world.engine.hook("stop", hold, times=1)
    with ThreadPoolExecutor(2) as pool:
        stop = pool.submit(service.manager.stop, ALICE, made.runtime_id)
        assert begun.wait(DEADLINE)
        remove = pool.submit(other.manager.remove, ALICE, made.runtime_id)
        go_on.set()
        assert stop.result(DEADLINE).status in (S.STOPPED, S.STOPPING, S.REMOVED)
        assert remove.result(DEADLINE).status is S.REMOVED
    assert world.engine.list() == []


@pytest.mark.parametrize("method", ["stop", "inspect", "logs", "remove"])
@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("by", ["caller", "reconciler"])
def test_a_crash_in_any_call_is_taken_over(world: World, method: str, acted: bool, by: str) -> None:
    first, second = world.service(), world.service()
    made = start(first)

    def die() -> None:
        raise Killed

    world.engine.hook(method, die, after=acted, times=1)
    with pytest.raises(Killed):
        first.manager.remove(ALICE, made.runtime_id)
    assert status(second, made.runtime_id) is S.STOPPING
    world.kill(first)
    if by == "caller":
        assert second.manager.remove(ALICE, made.runtime_id).status is S.REMOVED
    else:
        sweep(second)
    assert status(second, made.runtime_id) is S.REMOVED
    assert world.engine.list() == []
    assert second.store.operations.running("stop") == []


@pytest.mark.parametrize("method", ["stop", "inspect", "remove"])
@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("error", [EngineTimeout(), EngineUnreachable(), EngineFailed("no")])
def test_a_stop_that_the_engine_fails_is_finished_later(
    world: World, service: Service, method: str, acted: bool, error: Problem
) -> None:
    made = start(service)
    world.engine.fail_next(method, error, after=acted)
    with pytest.raises(type(error)):
        service.manager.remove(ALICE, made.runtime_id)
    assert get(service, made.runtime_id).status is S.STOPPING
    sweep(service)
    assert get(service, made.runtime_id).status is S.REMOVED
    assert world.engine.list() == []


def test_an_auto_removed_one_goes_with_its_stop(world: World, service: Service) -> None:
    made = start(service, auto_remove=True)
    assert service.manager.stop(ALICE, made.runtime_id).status is S.REMOVED
    assert world.engine.list() == []


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("fails_at", ["begin", "end"])
def test_a_stop_works_on_a_full_disk(
    world: World, service: Service, monkeypatch: pytest.MonkeyPatch, remove: bool, fails_at: str
) -> None:
    made = start(service)
    change: Callable[..., Any] = service.store.change

    def fail(*args: Any, **values: Any) -> Any:
        if fails_at == "begin" or values["status"] is not S.STOPPING:
            raise StorageUnavailable
        return change(*args, **values)

    with monkeypatch.context() as patch:
        patch.setattr(service.store, "change", fail)
        patch.setattr(service.store.operations, "drop", full)
        answer = service.manager.stop(ALICE, made.runtime_id, remove=remove)
    expected = S.REMOVED if remove else S.STOPPED
    assert (answer.status, answer.changed) == (expected, True)
    assert [each.state for each in world.engine.list()] == ([] if remove else [ContainerState.EXITED])
    other = world.service()
    world.kill(service)
    sweep(other)
    assert status(other, made.runtime_id) is expected


def test_one_whose_container_is_gone_is_removed(world: World, service: Service) -> None:
    made = start(service)
    world.engine.vanish(made.runtime_id)
    assert service.manager.stop(ALICE, made.runtime_id).status is S.REMOVED


def test_one_that_heeds_no_term_is_killed_after_the_grace(world: World, service: Service) -> None:
    world.engine.add_image("deaf", other=Program(heeds_term=False))
    made = start(service, image="deaf")
    service.manager.stop(ALICE, made.runtime_id)
    found = get(service, made.runtime_id)
    assert found.exit is not None
    assert found.exit.signal == "SIGKILL"
