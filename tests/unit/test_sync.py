from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runtime_server.errors import EngineTimeout, EngineUnreachable, InvalidState
from runtime_server.models import RuntimeStatus as S
from runtime_server.runtimes.holders import runtime_lock
from runtime_server.runtimes.sync import FRESH, Liveness
from runtime_server.service import Service
from tests.unit.conftest import ALICE, World, get, start, status


def test_a_beat_counts_while_it_is_fresh(tmp_path: Path) -> None:
    liveness = Liveness(tmp_path / "beat")
    assert not liveness.live()
    liveness.touch()
    assert liveness.live()
    old = time.time() - FRESH - 1
    os.utime(tmp_path / "beat", (old, old))
    assert not liveness.live()
    liveness.touch()
    liveness.end()
    liveness.end()
    assert not liveness.live()
    Liveness(tmp_path / "missing" / "beat").touch()  # a full disk: not an error, but not live


def live(service: Service) -> None:
    Liveness(service.state.beat).touch()


def test_reads_come_from_the_store_while_it_is_live_and_from_the_engine_else(world: World, service: Service) -> None:
    made = start(service)
    world.engine.exit(made.runtime_id, 3)
    live(service)
    asked = world.engine.calls["inspect"]
    assert get(service, made.runtime_id).status is S.RUNNING
    assert world.engine.calls["inspect"] == asked
    Liveness(service.state.beat).end()
    assert get(service, made.runtime_id).status is S.ERROR
    assert status(service, made.runtime_id) is S.ERROR, "what was seen is written"


@pytest.mark.parametrize("error", [EngineTimeout(), EngineUnreachable()])
def test_a_listing_asks_a_failing_engine_once(world: World, service: Service, error: Exception) -> None:
    for _ in range(3):
        start(service)

    def fail() -> None:
        raise error

    asked = world.engine.calls["inspect"]
    world.engine.hook("inspect", fail)
    page = service.manager.list(ALICE)
    assert [each.status for each in page.runtimes] == [S.RUNNING] * 3
    assert world.engine.calls["inspect"] == asked + 1


def test_a_listing_shows_what_fits_after_the_look(world: World, service: Service) -> None:
    gone, stays = start(service), start(service)
    world.engine.vanish(gone.runtime_id)
    assert [each.runtime_id for each in service.manager.list(ALICE).runtimes] == [stays.runtime_id]
    removed = service.manager.list(ALICE, statuses=[S.REMOVED]).runtimes
    assert [each.runtime_id for each in removed] == [gone.runtime_id]
    assert removed[0].status_detail == "The container was removed by somebody else."


def test_one_that_is_worked_on_is_left_alone(world: World, service: Service) -> None:
    made = start(service)
    world.engine.exit(made.runtime_id, 3)
    with runtime_lock(service.state.locks, made.runtime_id, wait=0):
        assert get(service, made.runtime_id).status is S.RUNNING
    assert get(service, made.runtime_id).status is S.ERROR


def test_one_that_came_back_does_without_what_another_holds(world: World, service: Service) -> None:
    first = start(service, name="agent", session_id="s")
    world.engine.exit(first.runtime_id, 3)
    assert get(service, first.runtime_id).status is S.ERROR
    second = start(service, name="agent", session_id="s")
    world.engine.start(first.runtime_id)  # by hand
    found = get(service, first.runtime_id)
    assert (found.status, found.name, found.session_id) == (S.RUNNING, None, None)
    assert get(service, "agent").runtime_id == second.runtime_id


def test_an_action_that_the_engine_contradicts_mends_the_record(world: World, service: Service) -> None:
    made = start(service)
    live(service)
    world.engine.exit(made.runtime_id, 0)
    with pytest.raises(InvalidState) as caught:
        service.manager.pause(ALICE, made.runtime_id)
    assert caught.value.extensions["runtime_status"] == "stopped"
    assert status(service, made.runtime_id) is S.STOPPED


def test_repeats_change_nothing(world: World, service: Service) -> None:
    made = start(service)
    manager, name = service.manager, made.runtime_id
    steps = [manager.resume, manager.pause, manager.pause, manager.resume, manager.resume]
    assert [each(ALICE, name).changed for each in steps] == [False, True, False, True, False]


def test_a_dead_session_is_not_joined(world: World, service: Service) -> None:
    first = start(service, session_id="s")
    world.engine.exit(first.runtime_id, 0)
    second = start(service, session_id="s")
    assert (second.created, second.status) == (True, S.RUNNING)
    assert second.runtime_id != first.runtime_id
