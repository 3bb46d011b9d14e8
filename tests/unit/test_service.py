from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from runtime_server.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    NameConflict,
    RuntimeNotFound,
    StorageUnavailable,
)
from runtime_server.models import RuntimeStatus as S
from runtime_server.service import Service
from tests.unit.conftest import ALICE, BOB, DEADLINE, World, eventually, get, start, status


class TestSessions:
    def test_a_running_one_is_returned_and_differences_are_told(self, service: Service) -> None:
        first = start(service, session_id="s", environment={"A": "1"})
        assert first.session_api_key
        again = start(service, session_id="s", environment={"A": "2"}, memory="64m")
        assert (again.runtime_id, again.created) == (first.runtime_id, False)
        assert [each.split()[0] for each in again.warnings] == ["environment", "memory"]
        same = start(service, session_id="s", environment={"A": "1"}, wait=1)
        assert (same.warnings, same.session_api_key) == ([], first.session_api_key)

    def test_a_paused_one_is_resumed(self, service: Service) -> None:
        first = start(service, session_id="s")
        service.manager.pause(ALICE, first.runtime_id)
        again = start(service, session_id="s")
        assert (again.runtime_id, again.created, again.status) == (first.runtime_id, False, S.RUNNING)

    @pytest.mark.parametrize("code", [0, 3])
    def test_an_ended_one_gives_way_with_its_alias(self, world: World, service: Service, code: int) -> None:
        first = start(service, session_id="s", name="agent")
        world.engine.exit(first.runtime_id, code)
        second = start(service, session_id="s", name="agent")
        assert (second.created, second.name) == (True, "agent")
        assert second.runtime_id != first.runtime_id
        assert second.session_api_key != first.session_api_key

    def test_a_stopping_one_is_waited_for(self, world: World, service: Service) -> None:
        first = start(service, session_id="s")
        begun, go_on = Event(), Event()

        def hold() -> None:
            begun.set()
            assert go_on.wait(DEADLINE)

        world.engine.hook("stop", hold, times=1)
        with ThreadPoolExecutor(2) as pool:
            stop = pool.submit(service.manager.stop, ALICE, first.runtime_id)
            assert begun.wait(DEADLINE)
            second = pool.submit(start, service, session_id="s")
            go_on.set()
            assert second.result(DEADLINE).created
            assert stop.result(DEADLINE).status is S.STOPPED

    def test_a_failed_one_starts_afresh(self, world: World, service: Service) -> None:
        world.engine.fail_next("start", EngineFailed("no"))
        failed = start(service, session_id="s")
        assert (failed.status, failed.pod_status, failed.status_detail) == (
            S.ERROR,
            "Failed",
            "CreateContainerError: no",
        )
        world.engine.fail_next("start", EngineTimeout())
        with pytest.raises(EngineTimeout):
            start(service, session_id="s")  # which a retry can cure
        again = start(service, session_id="s")
        assert again.created
        assert again.runtime_id != failed.runtime_id

    def test_twins_meet_over_processes(self, world: World) -> None:
        services = [world.service(), world.service()]
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda number: start(services[number % 2], session_id="s"), range(8)))
        assert len({each.runtime_id for each in made}) == 1
        assert [each.created for each in made].count(True) == 1
        assert len(world.engine.list()) == 1

    def test_owners_do_not_meet(self, service: Service) -> None:
        one, other = start(service, session_id="s"), start(service, session_id="s", caller=BOB)
        assert one.runtime_id != other.runtime_id


class TestOwners:
    def test_nobody_sees_anothers(self, service: Service) -> None:
        made = start(service, name="agent")
        for name in (made.runtime_id, "agent", made.container_id or ""):
            for act in (service.manager.get, service.manager.pause, service.manager.stop, service.manager.remove):
                with pytest.raises(RuntimeNotFound):
                    act(BOB, name)
        assert service.manager.list(BOB).runtimes == []
        assert start(service, name="agent", caller=BOB).name == "agent"
        assert get(service, "agent").status is S.RUNNING

    def test_an_alias_that_is_held_is_a_conflict(self, service: Service) -> None:
        made = start(service, name="agent")
        with pytest.raises(NameConflict) as caught:
            start(service, name="agent")
        assert caught.value.extensions["runtime_id"] == made.runtime_id


class TestLists:
    def test_removed_ones_are_hidden_unless_asked_for(self, service: Service) -> None:
        made = [start(service, labels={"n": str(number)}).runtime_id for number in range(3)]
        service.manager.remove(ALICE, made[1])
        assert [each.runtime_id for each in service.manager.list(ALICE).runtimes] == [made[2], made[0]]
        asked = service.manager.list(ALICE, statuses=[S.REMOVED]).runtimes
        assert [each.runtime_id for each in asked] == [made[1]]
        assert get(service, made[1]).status is S.REMOVED
        labelled = service.manager.list(ALICE, labels={"n": "2"}).runtimes
        assert [each.runtime_id for each in labelled] == [made[2]]

    def test_cursors_lead_through_all(self, service: Service) -> None:
        made = [start(service).runtime_id for _ in range(5)]
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = service.manager.list(ALICE, limit=2, cursor=cursor)
            seen += [each.runtime_id for each in page.runtimes]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == made[::-1]


class TestWaits:
    def test_a_wait_ends_with_what_it_is_for(self, world: World, service: Service) -> None:
        made = start(service)
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(service.manager.get, ALICE, made.runtime_id, wait_for=S.STOPPED, timeout=DEADLINE)
            service.manager.stop(ALICE, made.runtime_id)
            assert waits.result(DEADLINE).status is S.STOPPED

    def test_what_cannot_come_is_not_waited_for(self, world: World, service: Service) -> None:
        made = start(service)
        world.engine.exit(made.runtime_id, 3)
        assert get(service, made.runtime_id).status is S.ERROR
        found = service.manager.get(ALICE, made.runtime_id, wait_for=S.STOPPED, timeout=DEADLINE * 2)
        assert found.status is S.ERROR

    def test_time_is_up(self, service: Service) -> None:
        made = start(service)
        assert service.manager.get(ALICE, made.runtime_id, wait_for=S.PAUSED, timeout=0.01).status is S.RUNNING


class TestWithoutEngine:
    def test_reads_go_on_and_the_rest_says_why(self, world: World, service: Service) -> None:
        made = start(service)
        assert service.manager.readiness().ready
        world.engine.away = True
        assert get(service, made.runtime_id).status is S.RUNNING
        ready = service.manager.readiness()
        assert not ready.ready
        assert ready.reason
        assert service.manager.version().engine is None
        for act in (service.manager.pause, service.manager.stop):
            with pytest.raises(EngineUnreachable):
                act(ALICE, made.runtime_id)
        with pytest.raises(EngineUnreachable):
            start(service)
        world.engine.away = False
        assert service.manager.stop(ALICE, made.runtime_id).status is S.STOPPED


def test_while_records_are_rebuilt_nobody_starts(world: World, service: Service) -> None:
    world.state.rebuilding.touch()
    for act in (lambda: start(service), lambda: service.manager.list(ALICE), lambda: get(service, "agent")):
        with pytest.raises(StorageUnavailable):
            act()
    assert not service.manager.readiness().ready


def test_background_work_ends_with_the_service(world: World) -> None:
    service = world.service()
    service.start_background()
    made = start(service)
    eventually(service.reconciler._liveness.live)
    service.close()
    assert not world.state.beat.exists()
    assert list(world.state.holders.iterdir()) == []
    other = world.service()
    assert status(other, made.runtime_id) is S.RUNNING
