from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import ContainerState, EngineEvent, Listed
from runtime_server.errors import EngineFailed, EngineTimeout, InvalidState, RuntimeNotFound, StorageUnavailable
from runtime_server.models import RuntimeStatus as S
from runtime_server.models import StartRequest
from runtime_server.runtimes.holders import runtime_lock
from runtime_server.runtimes.sync import Liveness
from runtime_server.service import Service
from runtime_server.store.database import Database
from runtime_server.store.store import Store
from tests.unit.conftest import ALICE, DEADLINE, World, eventually, get, start, status, sweep


@pytest.fixture
def following(world: World) -> Service:
    """A service whose reconciler follows the engine."""
    service = world.service(sweep_interval=3600.0)
    service.start_background()
    eventually(service.reconciler._liveness.live)
    return service


def becomes(service: Service, runtime: str, wanted: S) -> None:
    eventually(lambda: status(service, runtime) is wanted)


class TestEvents:
    def test_what_happens_behind_its_back_is_written(self, world: World, following: Service) -> None:
        made = start(following)
        acts: list[tuple[Callable[[str], object], S]] = [
            (world.engine.pause, S.PAUSED),
            (world.engine.resume, S.RUNNING),
            (lambda name: world.engine.stop(name, 1.0), S.STOPPED),
            (world.engine.start, S.RUNNING),
        ]
        for act, wanted in acts:
            act(made.runtime_id)
            becomes(following, made.runtime_id, wanted)

    @pytest.mark.parametrize(
        ("code", "oom", "wanted", "signal"),
        [(0, False, S.STOPPED, None), (3, False, S.ERROR, None), (137, True, S.ERROR, "SIGKILL")],
    )
    def test_an_end_is_told_with_its_reason(
        self, world: World, following: Service, code: int, oom: bool, wanted: S, signal: str | None
    ) -> None:
        made = start(following)
        world.engine.write(made.runtime_id, "last words\n")
        world.engine.exit(made.runtime_id, code, oom=oom)
        becomes(following, made.runtime_id, wanted)
        found = get(following, made.runtime_id)
        assert found.exit is not None
        assert (found.exit.exit_code, found.exit.oom_killed, found.exit.signal) == (code, oom, signal)
        assert found.logs == "last words\n"

    def test_a_vanished_one_is_told_with_its_exit_code(self, world: World, following: Service) -> None:
        made = start(following)
        world.engine.vanish(made.runtime_id)
        becomes(following, made.runtime_id, S.REMOVED)
        found = get(following, made.runtime_id)
        assert found.exit is not None
        assert found.exit.exit_code == 137
        assert found.status_detail == "The container was removed by somebody else."

    def test_restarts_are_counted(self, world: World, following: Service) -> None:
        made = start(following, restart_policy={"Name": "always"})
        world.engine.exit(made.runtime_id, 1)
        eventually(lambda: get(following, made.runtime_id).restart_count == 1)
        assert get(following, made.runtime_id).status is S.RUNNING

    def test_an_auto_removed_one_goes_when_it_ends_and_its_exit_stays(self, world: World, following: Service) -> None:
        made = start(following, auto_remove=True)
        world.engine.write(made.runtime_id, "last words\n")
        world.engine.exit(made.runtime_id, 3)
        becomes(following, made.runtime_id, S.REMOVED)
        assert world.engine.list() == []
        found = get(following, made.runtime_id)
        assert found.exit is not None
        assert (found.exit.exit_code, found.logs) == (3, "last words\n")

    def test_a_gap_is_closed(self, world: World, following: Service) -> None:
        made = [start(following).runtime_id for _ in range(3)]
        world.engine.away = True
        eventually(lambda: not following.reconciler._liveness.live())
        sibling = world.engine.sibling()
        sibling._world.away = False  # what happens while nobody follows
        sibling.exit(made[0], 0)
        sibling.vanish(made[1])
        eventually(following.reconciler._liveness.live)
        for runtime, wanted in zip(made, [S.STOPPED, S.REMOVED, S.RUNNING], strict=True):
            becomes(following, runtime, wanted)


class TestHandling:
    """Single events, in the orders that engines send them in."""

    def handle(self, service: Service, runtime: str, **changes: Any) -> None:
        record = service.store.get(runtime)
        assert record is not None
        event = EngineEvent(record.container_id or "", runtime, "die", record.seen_at - 5, 3)
        service.reconciler._handle(dataclasses.replace(event, **changes))
        service._chores.settle()

    def test_an_end_that_overtook_an_answer_counts(self, world: World, service: Service) -> None:
        made = start(service)
        world.engine.exit(made.runtime_id, 3)
        self.handle(service, made.runtime_id)
        assert status(service, made.runtime_id) is S.ERROR

    @pytest.mark.parametrize("changes", [{"action": "pause"}, {"container_id": "another"}])
    def test_old_news_and_other_containers_cost_nothing(
        self, world: World, service: Service, changes: dict[str, str]
    ) -> None:
        made = start(service)
        asked = world.engine.calls["inspect"]
        self.handle(service, made.runtime_id, **{"exit_code": None, **changes})
        assert world.engine.calls["inspect"] == asked

    def test_an_unknown_runtime_costs_nothing(self, world: World, service: Service) -> None:
        service.reconciler._handle(EngineEvent("c", "runtime-none", "die", time.time()))
        assert world.engine.calls["inspect"] == 0

    def test_a_look_during_a_chore_is_made_afterwards(self, world: World, service: Service) -> None:
        made = start(service)
        begun, go_on = Event(), Event()

        def work() -> None:
            begun.set()
            assert go_on.wait(DEADLINE)

        service._chores.submit(made.runtime_id, work)
        assert begun.wait(DEADLINE)
        world.engine.vanish(made.runtime_id)
        record = service.store.get(made.runtime_id)
        assert record is not None
        service.reconciler._look(record, None)
        go_on.set()
        service._chores.settle()
        assert status(service, made.runtime_id) is S.REMOVED


class TestSweeps:
    def test_records_follow_containers(self, world: World, service: Service) -> None:
        made = [start(service).runtime_id for _ in range(4)]
        world.engine.exit(made[0], 3)
        world.engine.vanish(made[1])
        world.engine.pause(made[2])
        sweep(service)
        assert [status(service, each) for each in made] == [S.ERROR, S.REMOVED, S.PAUSED, S.RUNNING]
        asked = world.engine.calls["inspect"]
        sweep(service)
        assert world.engine.calls["inspect"] == asked, "what agrees costs one listing"

    def test_a_start_between_list_and_records_is_left_alone(
        self, world: World, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = start(service)
        monkeypatch.setattr(world.engine, "list", list)
        sweep(service)
        assert status(service, made.runtime_id) is S.RUNNING

    def test_a_created_orphan_goes_and_a_foreign_one_stays(self, world: World, service: Service) -> None:
        made = start(service)
        world.fresh_database()
        other = world.service()
        world.engine.remove(made.runtime_id)
        request = StartRequest.model_validate({"image": "busybox"})
        record, _ = other.starts._new(ALICE, request, "runtime-0")
        spec = other.starts._launch.spec(record, request, "an attempt")
        world.engine.create(spec)
        foreign = world.engine.sibling("another")
        theirs = dict(spec.labels) | {"runtime-server.instance": "another"}
        foreign.create(dataclasses.replace(spec, runtime_id="runtime-1", labels=theirs))
        bell = other.store.slots.bell
        bell.wait(0)
        sweep(other)
        assert bell.wait(60), "its claim took a place, for which others may wait"
        bell.close()
        assert world.engine.list() == []
        assert [each.state for each in foreign.list()] == [ContainerState.CREATED]

    @pytest.mark.parametrize("final", [S.REMOVED, S.ERROR, S.STOPPED])
    def test_a_container_that_no_record_stands_for_goes(self, world: World, service: Service, final: S) -> None:
        made = start(service)
        container = made.container_id if final is S.REMOVED else None
        service.store.change(made.runtime_id, status=final, container_id=container, stopped_at=1.0)
        sweep(service)
        assert world.engine.list() == []

    def test_a_full_disk_is_survived(self, world: World, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        made = start(service)
        world.engine.exit(made.runtime_id, 3)

        def full(*_: Any, **__: Any) -> None:
            raise StorageUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(service.store, "change", full)
            patch.setattr(service.store.operations, "claim", full)
            sweep(service)
        sweep(service)
        assert status(service, made.runtime_id) is S.ERROR


def adopting(world: World, old: Service) -> Service:
    """A new server on a new database."""
    world.kill(old)
    old.store.database.close()
    world.fresh_database()
    service = world.service()
    sweep(service)
    return service


class TestAdoption:
    def test_they_answer_as_before(self, world: World, service: Service) -> None:
        wanted: dict[str, Any] = {
            "name": "agent",
            "session_id": "s",
            "labels": {"team": "x"},
            "environment": {"COLOUR": "green", "EMPTY": ""},
            "ttl": 60,
            "retention": 7,
        }
        made = start(service, **wanted, ports=[{"container_port": 80}], auto_remove=True)
        before = get(service, made.runtime_id)
        service = adopting(world, service)
        # Its history is gone with the records.
        assert get(service, "agent").model_copy(update={"events": before.events}) == before
        assert before.session_api_key
        values = service.manager.get(ALICE, "agent", values=True).environment
        assert values == {"COLOUR": "green", "EMPTY": ""}
        again = start(service, **wanted)
        assert (again.runtime_id, again.created, again.session_api_key) == (
            made.runtime_id, False, made.session_api_key,
        )  # fmt: skip
        record = service.store.get(made.runtime_id)
        assert record is not None
        assert (record.auto_remove, record.retention) == (True, 7.0)
        other = start(service, **wanted, working_dir="/tmp").warnings
        assert [each.partition(" ")[0] for each in other] == ["auto_remove", "ports", "working_dir"]

    def test_what_a_start_asked_for_is_in_its_label_without_values(self, world: World, service: Service) -> None:
        made = start(service, environment={"TOKEN": "secret"}, labels={"team": "x"}, working_dir="/tmp")
        told = json.loads(world.engine.inspect(made.runtime_id).labels[labels.SPEC])
        assert told == {"image": "busybox", "environment": ["TOKEN"], "labels": ["team"], "working_dir": "/tmp"}

    def test_a_container_of_an_older_server_is_adopted_too(self, world: World, service: Service) -> None:
        made = start(service, labels={"team": "x"})
        container = world.engine._own(made.runtime_id)
        kept = {key: value for key, value in container.spec.labels.items() if key != labels.SPEC}
        container.spec = dataclasses.replace(container.spec, labels=kept)
        service = adopting(world, service)
        found = get(service, made.runtime_id)
        assert (found.status, found.labels, found.environment) == (S.RUNNING, {"team": "x"}, None)

    @pytest.mark.parametrize("ttl", [3600.0, None])
    def test_a_renewed_end_holds(self, world: World, service: Service, ttl: float | None) -> None:
        made = start(service, ttl=60)
        renewed = service.manager.renew(ALICE, made.runtime_id, ttl)
        service = adopting(world, service)
        assert get(service, made.runtime_id).expires_at == renewed.expires_at

    def test_a_key_leads_to_it(self, world: World, service: Service) -> None:
        made = start(service, key="k")
        service = adopting(world, service)
        assert start(service, key="k").runtime_id == made.runtime_id
        assert len(world.engine.list()) == 1

    def test_states_are_seen(self, world: World, service: Service) -> None:
        made = [start(service).runtime_id for _ in range(4)]
        world.engine.pause(made[1])
        world.engine.exit(made[2], 0)
        world.engine.exit(made[3], 3)
        service = adopting(world, service)
        assert [status(service, each) for each in made] == [S.RUNNING, S.PAUSED, S.STOPPED, S.ERROR]

    def test_an_alias_or_session_that_went_on_loses_no_runtime(self, world: World, service: Service) -> None:
        first = start(service, name="agent", session_id="s")
        service.manager.stop(ALICE, first.runtime_id)
        second = start(service, name="agent", session_id="s")
        world.engine.start(first.runtime_id)  # by hand: now two live ones bear the labels
        service = adopting(world, service)
        found = {each.runtime_id: (each.name, each.session_id) for each in service.manager.list(ALICE).runtimes}
        assert set(found) == {first.runtime_id, second.runtime_id}
        assert sorted(found.values(), key=str) == [("agent", "s"), (None, None)]

    def test_a_container_that_goes_meanwhile_is_not_adopted(self, world: World, service: Service) -> None:
        service._chores.unlisted(Listed("gone", "runtime-0", ContainerState.RUNNING, {}), "runtime-0")
        service._chores.settle()
        with pytest.raises(RuntimeNotFound):
            get(service, "runtime-0")


class TestExpiry:
    def expire(self, service: Service, now: float) -> None:
        service._chores.expire(now)
        service._chores.settle()

    @pytest.mark.parametrize("paused", [False, True])
    def test_what_is_over_goes_and_can_be_read(self, world: World, service: Service, paused: bool) -> None:
        made, stays = start(service, ttl=60), start(service)
        if paused:
            service.manager.pause(ALICE, made.runtime_id)
        self.expire(service, time.time() + 59)
        assert status(service, made.runtime_id) is not S.REMOVED
        self.expire(service, time.time() + 61)
        assert get(service, made.runtime_id).status is S.REMOVED
        assert status(service, stays.runtime_id) is S.RUNNING
        with pytest.raises(InvalidState):
            service.manager.renew(ALICE, made.runtime_id, 60)

    @pytest.mark.parametrize("ttl", [600.0, None])
    def test_a_renewal_wins_against_an_expiry_that_has_seen_it_due(
        self, world: World, service: Service, ttl: float | None
    ) -> None:
        made = start(service, ttl=60)
        now = time.time() + 61
        due = service.store.due(now)
        assert [each.runtime_id for each in due] == [made.runtime_id]
        renewed = service.manager.renew(ALICE, made.runtime_id, ttl)
        service._chores._expire(due[0], now)
        assert status(service, made.runtime_id) is S.RUNNING
        assert (renewed.expires_at is None) is (ttl is None)

    def test_a_renewal_after_an_expiry_has_begun_is_refused(self, world: World, service: Service) -> None:
        made = start(service, ttl=60)
        record = service.store.get(made.runtime_id)
        assert record is not None
        begun = service.stops.begin(record, timeout=0, remove=True, due_at=time.time() + 61)
        assert begun is not None
        with pytest.raises(InvalidState) as caught:
            service.manager.renew(ALICE, made.runtime_id, 600)
        assert caught.value.extensions["runtime_status"] == "stopping"
        assert service.stops.finish(*begun).status is S.REMOVED


class TestRetention:
    def tidy(self, service: Service, now: float) -> None:
        service._chores.tidy(now)
        service._chores.settle()

    def test_stopped_ones_are_removed_then_forgotten(self, world: World) -> None:
        service = world.service(retention=100.0)
        made = {each: start(service, retention=each).runtime_id for each in (None, 10.0, 1000.0)}
        for runtime in made.values():
            service.manager.stop(ALICE, runtime)
            with runtime_lock(world.state.locks, runtime, wait=0):
                pass
        now = time.time()
        self.tidy(service, now + 9)
        assert {status(service, each) for each in made.values()} == {S.STOPPED}
        self.tidy(service, now + 50)
        assert status(service, made[10.0]) is S.REMOVED
        self.tidy(service, now + 500)
        assert status(service, made[None]) is S.REMOVED
        assert status(service, made[1000.0]) is S.STOPPED
        assert get(service, made[None]).exit is not None
        assert len(world.engine.list()) == 1
        self.tidy(service, time.time() + 101)
        for forgotten in (made[None], made[10.0]):
            with pytest.raises(RuntimeNotFound):
                get(service, forgotten)
            assert not (world.state.locks / forgotten).exists()
        assert (world.state.locks / made[1000.0]).exists()

    def test_one_that_the_engine_keeps_is_tried_again(self, world: World) -> None:
        service = world.service(retention=100.0)
        made = start(service)
        service.manager.stop(ALICE, made.runtime_id)
        world.engine.fail_next("remove", EngineFailed("device busy"))
        self.tidy(service, time.time() + 101)
        assert status(service, made.runtime_id) is S.STOPPING
        sweep(service)
        assert status(service, made.runtime_id) is S.REMOVED


class TestLeadership:
    def test_one_leads_and_another_takes_over(self, world: World) -> None:
        first, second = world.service(), world.service()
        first.start_background()
        eventually(first.reconciler._liveness.live)
        second.start_background()
        made = start(second)
        world.engine.exit(made.runtime_id, 3)
        becomes(second, made.runtime_id, S.ERROR)
        assert world.engine.calls["events"] == 1
        first.close()
        other = start(second)
        eventually(lambda: world.engine.calls["events"] == 2)
        world.engine.exit(other.runtime_id, 3)
        becomes(second, other.runtime_id, S.ERROR)

    def test_interrupted_work_is_finished_by_whoever_leads(self, world: World, following: Service) -> None:
        dead = world.service()
        record, operation = dead.starts._new(ALICE, StartRequest.model_validate({"image": "busybox"}), "runtime-0")
        dead.store.add(record, operation)
        world.kill(dead)
        becomes(following, "runtime-0", S.RUNNING)
        assert following.store.operations.running("start") == []

    def test_it_starts_without_an_engine_and_recovers(self, world: World) -> None:
        world.engine.away = True
        service = world.service()
        service.start_background()
        eventually(lambda: world.engine.calls["events"] > 0)
        assert not service.reconciler._liveness.live()
        world.engine.away = False
        eventually(service.reconciler._liveness.live)
        assert start(service).status is S.RUNNING

    def test_an_error_in_between_is_survived(self, world: World) -> None:
        world.engine.fail_next("list", EngineTimeout())
        world.engine.fail_next("events", ZeroDivisionError())
        service = world.service()
        service.start_background()
        eventually(service.reconciler._liveness.live)

    def test_lost_records_are_rebuilt_before_anybody_is_let_in(self, world: World, service: Service) -> None:
        made = start(service, session_id="s")
        world.kill(service)
        service.store.database.close()
        world.fresh_database()
        world.state.rebuilding.touch()
        other = world.service()
        with pytest.raises(StorageUnavailable):
            start(other, session_id="s")
        other.start_background()
        eventually(lambda: not world.state.rebuilding.exists())
        assert start(other, session_id="s").runtime_id == made.runtime_id


def test_a_beat_outlives_no_reconciler(world: World, service: Service) -> None:
    Liveness(world.state.beat).touch()
    os.utime(world.state.beat, (1.0, 1.0))
    made = start(service)
    world.engine.exit(made.runtime_id, 3)
    assert get(service, made.runtime_id).status is S.ERROR


def test_a_store_can_be_read_beside_a_server(world: World, service: Service) -> None:
    made = start(service)
    other = Store(Database(Path(world.state.database)))
    assert other.get(made.runtime_id) == service.store.get(made.runtime_id)
    other.database.close()
