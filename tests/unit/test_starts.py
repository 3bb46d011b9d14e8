from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import ContainerState
from runtime_server.engine.memory_images import Program
from runtime_server.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    InternalError,
    NameConflict,
    PolicyRefused,
    Problem,
    RegistryCredentialsLost,
    ServerDraining,
    StorageUnavailable,
)
from runtime_server.models import RuntimeStatus as S
from runtime_server.models import StartRequest
from runtime_server.runtimes import ids, steps
from runtime_server.service import Service
from tests.unit.conftest import ALICE, BOB, DEADLINE, Killed, World, eventually, get, start, status, sweep

KEY = "one-key"


def containers(world: World) -> list[ContainerState]:
    return [each.state for each in world.engine.list()]


def crash(world: World, service: Service, step: str, **wanted: Any) -> None:
    """Start, and end the process at that step."""
    died = Event()

    def die(reached: str, _: str) -> None:
        if reached == step:
            steps.hooks.remove(die)
            died.set()
            raise Killed

    steps.hooks.append(die)
    with suppress(Killed):
        start(service, **{"wait": 0, **wanted})
    assert died.wait(DEADLINE)
    eventually(lambda: not service.starts._futures)
    world.kill(service)


def test_a_start_is_a_container_and_a_record(world: World, service: Service) -> None:
    made = start(service, name="agent", labels={"team": "x"}, ports=[{"container_port": 80}], ttl=60, retention=7)
    assert (made.status, made.created, made.warnings, made.owner) == (S.RUNNING, True, [], "alice")
    assert made.ports["80/tcp"][0].HostIp == "127.0.0.1"
    assert made.session_api_key is None
    record = service.store.get(made.runtime_id)
    assert record is not None
    assert record.expires_at == record.created_at + 60
    snapshot = world.engine.inspect(made.runtime_id)
    assert snapshot.container_id == made.container_id
    assert snapshot.labels["team"] == "x"
    ours = {key: value for key, value in snapshot.labels.items() if key.startswith("runtime-server.")}
    assert ours.pop(labels.ATTEMPT)
    assert ours.pop(labels.SPEC)
    assert ours == {
        labels.INSTANCE: world.state.instance, labels.RUNTIME_ID: made.runtime_id, labels.NAME: "agent",
        labels.OWNER: "alice", labels.IMAGE: "busybox", labels.RETENTION: "7.0",
        labels.CREATED_AT: str(record.created_at), labels.EXPIRES_AT: str(record.expires_at),
    }  # fmt: skip
    assert service.store.operations.running("start") == []
    assert {name: count for name, count in world.engine.calls.items() if count and name != "list"} == {
        "ensure_network": 1, "create": 1, "start": 1, "inspect": 2,
    }  # fmt: skip


@pytest.mark.parametrize("step", steps.STEPS)
@pytest.mark.parametrize("session", [None, "s"])
def test_a_crash_at_any_step_ends_with_one_container_and_one_record(
    world: World, step: str, session: str | None
) -> None:
    world.engine.add_pullable("registry.test/agent:1")
    wanted: dict[str, Any] = {"key": KEY, "session_id": session, "image": "registry.test/agent:1", "name": "agent"}
    first, second = world.service(), world.service()
    crash(world, first, step, **wanted, wait=DEADLINE if step == "answered" else 0)
    second._chores.interrupted()
    made = start(second, **wanted)
    assert made.runtime_id == ids.derived(world.state.instance, "alice", KEY)
    assert (made.status, made.created, made.warnings) == (S.RUNNING, True, [])
    second._chores.settle()
    assert containers(world) == [ContainerState.RUNNING]
    assert len(second.store.present()) == 1
    assert second.store.operations.running("start", "stop", "pull") == []
    assert world.engine.calls["start"] == 1
    assert [each.status for each in second.store.history(made.runtime_id)] == ["starting", "running"]


@pytest.mark.parametrize("method", ["create", "start", "inspect"])
@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("error", [EngineTimeout(), EngineUnreachable(), EngineFailed("no")])
def test_a_failed_start_leaves_nothing(
    world: World, service: Service, method: str, acted: bool, error: Problem
) -> None:
    world.engine.fail_next(method, error, after=acted)
    with pytest.raises(Problem) as caught:
        start(service, key=KEY, name="agent")
    assert type(caught.value) is type(error)
    assert containers(world) == []
    failed = get(service, "agent")
    assert failed.status is S.ERROR
    assert failed.error is not None
    assert failed.error.code == caught.value.code
    assert failed.container_id is None
    assert service.store.operations.running("start") == []
    if caught.value.retryable:
        again = start(service, key=KEY, name="agent")
        assert (again.runtime_id, again.status) == (failed.runtime_id, S.RUNNING)
        assert again.error is None
    else:
        with pytest.raises(type(caught.value)):
            start(service, key=KEY, name="agent")
        assert start(service, name="agent").status is S.RUNNING, "the alias is free again"


def test_what_is_unforeseen_leaves_nothing_and_tells_nothing(world: World, service: Service) -> None:
    world.engine.fail_next("start", ZeroDivisionError("secret"))
    with pytest.raises(InternalError) as caught:
        start(service)
    assert "secret" not in caught.value.detail
    assert containers(world) == []


def test_a_retry_keeps_to_its_record(world: World, service: Service) -> None:
    world.engine.fail_next("start", EngineTimeout())
    with pytest.raises(EngineTimeout):
        start(service, key=KEY)
    again = start(service, key=KEY)
    label = world.engine.inspect(again.runtime_id).labels[labels.CREATED_AT]
    record = service.store.get(again.runtime_id)
    assert record is not None
    assert float(label) == record.created_at


def test_a_retry_whose_alias_has_gone_is_a_conflict(world: World, service: Service) -> None:
    world.engine.fail_next("create", EngineTimeout())
    with pytest.raises(EngineTimeout):
        start(service, key=KEY, name="agent")
    other = start(service, name="agent")
    with pytest.raises(NameConflict) as caught:
        start(service, key=KEY, name="agent")
    assert caught.value.extensions == {"name": "agent", "runtime_id": other.runtime_id}


def test_an_engine_that_creates_late_is_cleaned_up_after(world: World, service: Service) -> None:
    world.engine.fail_next("create", EngineTimeout(), after=True)
    world.engine.fail_next("remove", EngineTimeout())
    with pytest.raises(EngineTimeout):
        start(service, key=KEY)
    assert containers(world) == [ContainerState.CREATED]
    sweep(service)
    assert containers(world) == []


@pytest.mark.parametrize("method", ["create", "start", "inspect"])
def test_a_removal_that_is_carried_out_late_spares_the_retry(
    world: World, service: Service, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine may do what a call asked whose caller has given up, and then the retry's container has the name."""
    asked: list[str] = []

    def times_out(container: str) -> bool:
        asked.append(container)
        raise EngineTimeout

    world.engine.fail_next(method, EngineTimeout(), after=True)
    with monkeypatch.context() as patch:
        patch.setattr(world.engine, "remove", times_out)
        with pytest.raises(EngineTimeout):
            start(service, key=KEY)
    again = start(service, key=KEY)
    assert len(asked) == 1
    world.engine.remove(asked[0])
    assert world.engine.inspect(again.runtime_id).container_id == again.container_id
    assert containers(world) == [ContainerState.RUNNING]


def test_a_container_that_is_created_late_is_replaced(world: World, service: Service) -> None:
    world.engine.fail_next("create", EngineTimeout())
    with pytest.raises(EngineTimeout):
        start(service, key=KEY)
    record = service.store.get(ids.derived(world.state.instance, "alice", KEY))
    assert record is not None
    late = service.starts._launch.spec(record, StartRequest.model_validate(record.spec), "the first attempt")

    def create_late() -> None:
        world.engine.sibling().create(late)

    world.engine.hook("create", create_late, times=1)
    assert start(service, key=KEY).status is S.RUNNING
    assert containers(world) == [ContainerState.RUNNING]
    assert world.engine.inspect(record.runtime_id).labels[labels.ATTEMPT] != "the first attempt"


def test_a_retry_keeps_the_container_that_a_sweep_would_clear(world: World, service: Service) -> None:
    world.engine.fail_next("create", EngineTimeout(), after=True)
    world.engine.fail_next("remove", EngineTimeout())
    with pytest.raises(EngineTimeout):
        start(service, key=KEY)
    listed = world.engine.list()[0]
    assert start(service, key=KEY).status is S.RUNNING
    service._chores._clear(listed)  # decided before the retry, done after it
    assert containers(world) == [ContainerState.RUNNING]

    claimed: list[Any] = []
    world.engine.fail_next("start", EngineTimeout())
    world.engine.fail_next("remove", EngineTimeout())
    with pytest.raises(EngineTimeout):
        start(service, key="another")

    def retry() -> None:
        with pytest.raises(EngineTimeout):
            start(service, key="another")  # while it is cleared: not begun
        claimed.append(True)

    world.engine.hook("remove", retry, times=1)
    sweep(service)
    assert claimed
    assert containers(world) == [ContainerState.RUNNING]
    assert start(service, key="another").status is S.RUNNING


def test_who_lost_the_lease_undoes_nothing(world: World) -> None:
    """A worker that was frozen comes back when another has finished its start."""
    first, second = world.service(), world.service()

    def taken(reached: str, runtime_id: str) -> None:
        steps.hooks.clear()
        operation = first.store.operations.find("start", "alice", runtime_id)
        record = first.store.get(runtime_id)
        assert operation
        assert record
        assert first.store.operations.take_over(operation, second.holder.id, second.holder.lease())
        mine = first.store.operations.find("start", "alice", runtime_id)
        assert mine
        second.starts.take_up(record, mine)
        eventually(lambda: status(second, runtime_id) is S.RUNNING)

    steps.hooks.append(taken)
    made = start(first)
    assert made.status is S.RUNNING
    assert containers(world) == [ContainerState.RUNNING]
    world.engine.fail_next("inspect", EngineTimeout())
    assert status(first, made.runtime_id) is S.RUNNING


def test_a_failing_worker_that_lost_the_lease_removes_nothing(world: World) -> None:
    first, second = world.service(), world.service()
    begun, go_on = Event(), Event()

    def hang() -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        raise EngineTimeout

    world.engine.hook("inspect", hang, times=1)
    made = start(first, wait=0)
    assert begun.wait(DEADLINE)
    operation = first.store.operations.find("start", "alice", made.runtime_id)
    record = first.store.get(made.runtime_id)
    assert operation
    assert record
    second.store.operations.take_over(operation, second.holder.id, second.holder.lease())
    mine = second.store.operations.find("start", "alice", made.runtime_id)
    assert mine
    second.starts.take_up(record, mine)
    eventually(lambda: status(second, made.runtime_id) is S.RUNNING)
    go_on.set()
    first.starts.close()
    assert status(second, made.runtime_id) is S.RUNNING
    assert containers(world) == [ContainerState.RUNNING]


def test_twins_with_one_key_meet(world: World) -> None:
    services = [world.service(), world.service()]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: start(services[number % 2], key=KEY), range(8)))
    assert len({each.runtime_id for each in made}) == 1
    assert {each.status for each in made} == {S.RUNNING}
    assert containers(world) == [ContainerState.RUNNING]
    assert world.engine.calls["create"] == 1


def test_owners_with_one_key_do_not_meet(service: Service) -> None:
    assert start(service, key=KEY).runtime_id != start(service, key=KEY, caller=BOB).runtime_id


def test_an_answer_comes_soon(world: World, service: Service) -> None:
    go_on = Event()
    world.engine.hook("start", lambda: assert_set(go_on), times=1)
    made = start(service, wait=0)
    assert (made.status, made.container_id) == (S.STARTING, None)
    go_on.set()
    found = service.manager.get(ALICE, made.runtime_id, wait_for=S.RUNNING, timeout=DEADLINE)
    assert found.status is S.RUNNING


def assert_set(event: Event) -> None:
    assert event.wait(DEADLINE)


def test_lost_credentials_are_told(world: World) -> None:
    world.engine.add_pullable("registry.test/agent:1")
    first, second = world.service(), world.service()
    wanted: dict[str, Any] = {
        "image": "registry.test/agent:1",
        "registry_auth": {"username": "u", "password": "p"},
        "key": KEY,
    }
    crash(world, first, "recorded", **wanted)
    second._chores.interrupted()
    with pytest.raises(RegistryCredentialsLost) as caught:
        second.starts.await_start(ids.derived(world.state.instance, "alice", KEY), DEADLINE)
    assert caught.value.retryable
    assert start(second, **wanted).status is S.RUNNING


def test_policy_refuses_before_anything_is_written(world: World, service: Service) -> None:
    with pytest.raises(PolicyRefused):
        start(service, network="host")
    assert service.store.present() == []


def test_draining_refuses_what_is_new(world: World, service: Service) -> None:
    made = start(service, key=KEY)
    world.state.draining.touch()
    with pytest.raises(ServerDraining):
        start(service)
    assert start(service, key=KEY).runtime_id == made.runtime_id


def test_a_full_disk_refuses_a_start_and_leaves_nothing(
    world: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(service.store, "add", full)
        with pytest.raises(StorageUnavailable):
            start(service)
    assert containers(world) == []
    assert start(service).status is S.RUNNING


def test_a_start_whose_outcome_cannot_be_written_is_finished_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = world.service(), world.service()
    with monkeypatch.context() as patch:

        def full(*_: Any, **__: Any) -> None:
            raise StorageUnavailable

        patch.setattr(first.store, "change", full)
        made = start(first, wait=1)
    assert made.status is S.STARTING
    world.kill(first)
    second._chores.interrupted()
    assert second.starts.await_start(made.runtime_id, DEADLINE).status is S.RUNNING
    assert containers(world) == [ContainerState.RUNNING]
    assert world.engine.calls["start"] == 1


def test_a_command_that_ends_is_seen(world: World, service: Service) -> None:
    world.engine.add_image("once", programs={"fine": Program(exit_code=0), "bad": Program(exit_code=3)})
    fine, bad = start(service, image="once", command="fine"), start(service, image="once", command="bad")
    assert (fine.status, bad.status) == (S.STOPPED, S.ERROR)
    assert bad.exit is not None
    assert (bad.exit.exit_code, bad.exit.signal) == (3, None)
    assert bad.status_detail == "The process ended with exit code 3."


def test_closing_leaves_queued_starts_to_others(world: World) -> None:
    first, second = world.service(), world.service()
    begun, go_on = Event(), Event()

    def hold(step: str, _: str) -> None:
        if step == "created":
            begun.set()
            assert_set(go_on)

    steps.hooks.append(hold)
    made = [start(first, wait=0) for _ in range(10)]  # two more than it works on at once
    assert begun.wait(DEADLINE)
    first._closing.set()
    first.starts._launch.closing.set()
    go_on.set()
    steps.hooks.clear()
    first.starts.close()
    assert {status(second, each.runtime_id) for each in made} == {S.STARTING}
    world.kill(first)
    second._chores.interrupted()
    for each in made:
        assert second.starts.await_start(each.runtime_id, DEADLINE).status is S.RUNNING
    assert len(containers(world)) == 10
