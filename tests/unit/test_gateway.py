"""What nginx is told of runtimes, and how they are frozen and woken behind it, on the engine in memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime_server.engine.base import Connections
from runtime_server.errors import EngineTimeout
from runtime_server.models import RestartRequest, RuntimeStatus, StartResponse
from runtime_server.runtimes import access, nginx_cache, switches
from runtime_server.runtimes.gateway import Asked, Asleep, Gateway, Refused, Routed
from runtime_server.runtimes.sync import Liveness
from runtime_server.service import Service
from tests.unit.conftest import ALICE, DEADLINE, World, eventually, get, start, status

MAIN = "192.0.2.1:60000"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx_cache, "LONGEST", 0.1)
    monkeypatch.setattr(switches, "DRAIN", 0.1)


def service_of(world: World, **settings: Any) -> Service:
    folder = world.state.directory.parent / "gateway"
    (folder / "lookups").mkdir(parents=True, exist_ok=True)
    return world.service(
        **{
            "routing": "subdomain",
            "domain": "box.example",
            "gateway_scheme": "https",
            "gateway_dir": folder,
            "retention": 3600.0,
        }
        | settings
    )


@pytest.fixture
def behind(world: World) -> Service:
    return service_of(world)


def gateway(service: Service) -> Gateway:
    assert service.gateway is not None
    return service.gateway


def asked(runtime: StartResponse, name: str = "", **presented: Any) -> Asked:
    return Asked(runtime.runtime_id, name, f"|{runtime.runtime_id}|{name}|", access.Presented(**presented))


def look(service: Service, runtime: StartResponse, name: str = "", **presented: Any) -> Any:
    """The upstream, ``asleep``, or the status and ``Retry-After`` of the refusal."""
    try:
        return gateway(service).look_up(asked(runtime, name, **presented)).upstream
    except Asleep:
        return "asleep"
    except Refused as refused:
        return refused.status, refused.retry_after


def wake(service: Service, runtime: StartResponse) -> Any:
    try:
        return gateway(service).wake(asked(runtime)).upstream
    except Refused as refused:
        return refused.status, refused.retry_after


def session(service: Service, **fields: Any) -> StartResponse:
    return start(service, **{"session_id": "s", **fields})


def test_where_a_sessions_services_are(behind: Service) -> None:
    runtime = session(behind)
    assert runtime.url == f"https://{runtime.runtime_id}.box.example"
    assert runtime.ports == {f"{port}/tcp": [] for port in (60000, 60001, 12000, 12001)}
    found = [look(behind, runtime, name) for name in ("", "vscode", "work-1", "work-2", "p8080")]
    assert found == [f"192.0.2.1:{port}" for port in (60000, 60001, 12000, 12001, 8080)]
    assert look(behind, runtime, "p0") == (502, None)


def test_the_main_service_of_any_other_runtime(behind: Service) -> None:
    one = start(behind, ports=[{"container_port": 8000}])
    assert (one.url, look(behind, one)) == (f"https://{one.runtime_id}.box.example", "192.0.2.1:8000")
    two = start(behind, ports=[{"container_port": 8000}, {"container_port": 9000}])
    assert (two.url, look(behind, two), look(behind, two, "p9000")) == (None, (502, None), "192.0.2.1:9000")
    three = start(behind, ports=[{"container_port": 8000}, {"container_port": 9000}], main_port=9000)
    assert look(behind, three) == "192.0.2.1:9000"
    unreachable = start(behind, ports=[{"container_port": 8000}], network="none")
    assert look(behind, unreachable) == (502, None)


def test_a_running_runtime_costs_no_engine_call(behind: Service, world: World) -> None:
    runtime = session(behind)
    Liveness(world.state.beat).touch()
    world.engine.calls.clear()
    assert look(behind, runtime) == MAIN
    assert not world.engine.calls


def test_a_record_of_before_the_gateway_is_completed(behind: Service, world: World) -> None:
    runtime = session(behind)
    behind.store.change(runtime.runtime_id, address=None)
    Liveness(world.state.beat).touch()
    assert look(behind, runtime) == MAIN


def test_what_is_not_there_or_has_ended(behind: Service) -> None:
    runtime = session(behind)
    behind.manager.stop(ALICE, runtime.runtime_id)
    assert (look(behind, runtime), wake(behind, runtime)) == ((502, None), (502, None))
    # A session's stays; its clients read no state of a runtime that has no address.
    assert get(behind, runtime.runtime_id).url == runtime.url
    behind.manager.remove(ALICE, runtime.runtime_id)
    assert (look(behind, runtime), wake(behind, runtime)) == ((404, None), (404, None))
    behind.state.rebuilding.touch()
    assert look(behind, runtime) == (503, 1.0)


def test_a_paused_runtime_is_woken_once(behind: Service, world: World) -> None:
    runtime = session(behind)
    behind.manager.pause(ALICE, runtime.runtime_id)
    world.engine.calls.clear()
    world.engine.delay("resume", 0.05)

    def ask(_: int) -> Any:
        found = look(behind, runtime)
        return wake(behind, runtime) if found == "asleep" else found

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [MAIN] * 40
    assert world.engine.calls["resume"] == 1
    assert status(behind, runtime.runtime_id) is RuntimeStatus.RUNNING
    assert look(behind, runtime) == MAIN


@pytest.mark.parametrize(("settings", "fields"), [({"wake": False}, {}), ({}, {"wake": False})])
def test_waking_can_be_off(world: World, settings: dict[str, Any], fields: dict[str, Any]) -> None:
    behind = service_of(world, **settings)
    runtime = session(behind, **fields)
    behind.manager.pause(ALICE, runtime.runtime_id)
    assert (look(behind, runtime), wake(behind, runtime)) == ((503, 5.0), (503, 5.0))
    assert status(behind, runtime.runtime_id) is RuntimeStatus.PAUSED


def test_a_wake_beyond_the_quota(world: World) -> None:
    behind = service_of(world, max_running_per_owner=1)
    asleep = session(behind)
    behind.manager.pause(ALICE, asleep.runtime_id)
    start(behind)
    assert (look(behind, asleep), wake(behind, asleep)) == ((503, 30.0), (503, 30.0))
    assert status(behind, asleep.runtime_id) is RuntimeStatus.PAUSED


def test_a_wake_that_the_engine_does_not_answer(behind: Service, world: World) -> None:
    runtime = session(behind)
    behind.manager.pause(ALICE, runtime.runtime_id)
    world.engine.fail_next("resume", EngineTimeout())
    assert wake(behind, runtime) == (503, 1.0)
    assert wake(behind, runtime) == MAIN


def test_no_request_is_sent_to_what_is_being_frozen(behind: Service, world: World) -> None:
    runtime = session(behind)
    assert look(behind, runtime) == MAIN
    seen: list[Any] = []
    kept = behind.settings.gateway_lookups / next((behind.state.lookups / runtime.runtime_id).iterdir()).name

    def freezing() -> None:
        seen.extend((look(behind, runtime), kept.exists()))

    kept.write_text("200")
    world.engine.hook("pause", freezing, times=1)
    behind.manager.pause(ALICE, runtime.runtime_id)
    assert seen == ["asleep", False]
    assert wake(behind, runtime) == MAIN


def test_a_request_during_a_freeze_wakes_the_runtime_after_it(behind: Service, world: World) -> None:
    runtime = session(behind)
    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(wake(behind, runtime)))
    world.engine.hook("pause", caller.start, times=1)
    behind.manager.pause(ALICE, runtime.runtime_id)
    caller.join(DEADLINE)
    assert found == [MAIN]
    assert status(behind, runtime.runtime_id) is RuntimeStatus.RUNNING


def test_a_freeze_that_fails_leaves_no_mark(behind: Service, world: World) -> None:
    runtime = session(behind)
    world.engine.fail_next("pause", EngineTimeout())
    with pytest.raises(EngineTimeout):
        behind.manager.pause(ALICE, runtime.runtime_id)
    assert look(behind, runtime) == MAIN


def test_a_mark_that_a_crash_left_is_seen_to_by_the_next_request(behind: Service, world: World) -> None:
    runtime = session(behind)
    behind.store.change(runtime.runtime_id, pausing=True)
    assert look(behind, runtime) == MAIN
    record = behind.store.get(runtime.runtime_id)
    assert record is not None
    assert not record.pausing
    # Frozen by then, and nobody has written it down.
    behind.store.change(runtime.runtime_id, pausing=True)
    world.engine.pause(runtime.runtime_id)
    assert wake(behind, runtime) == MAIN
    assert world.engine.inspect(runtime.runtime_id).state == "running"


def test_who_got_through_wakes_the_runtime_at_once(behind: Service, world: World) -> None:
    runtime = session(behind)
    world.engine.hook("pause", lambda: world.engine.connect(runtime.runtime_id, Connections(1, 1)), after=True)
    answer = behind.manager.pause(ALICE, runtime.runtime_id)
    assert (answer.status, answer.changed) == (RuntimeStatus.RUNNING, False)
    assert "woken" in answer.message
    assert world.engine.inspect(runtime.runtime_id).state == "running"
    assert look(behind, runtime) == MAIN


def test_connections_that_wait_for_nothing_do_not_keep_a_runtime_from_a_pause(behind: Service, world: World) -> None:
    runtime = session(behind)
    world.engine.connect(runtime.runtime_id, Connections(open=2))
    assert behind.manager.pause(ALICE, runtime.runtime_id).status is RuntimeStatus.PAUSED
    world.engine.connect(runtime.runtime_id, None)
    behind.manager.resume(ALICE, runtime.runtime_id)
    assert behind.manager.pause(ALICE, runtime.runtime_id).status is RuntimeStatus.PAUSED


def test_where_nothing_wakes_it_who_got_through_is_served_first(world: World) -> None:
    behind = service_of(world, wake=False)
    runtime = session(behind)
    states: list[Any] = []

    def served() -> None:
        states.append(look(behind, runtime))
        world.engine.connect(runtime.runtime_id, Connections())

    world.engine.hook(
        "pause", lambda: world.engine.connect(runtime.runtime_id, Connections(1, 1)), after=True, times=1
    )
    world.engine.hook("resume", served, after=True, times=1)
    before = world.engine.calls["pause"]
    answer = behind.manager.pause(ALICE, runtime.runtime_id)
    assert (answer.status, answer.changed) == (RuntimeStatus.PAUSED, True)
    assert states == [(503, 5.0)]
    assert world.engine.calls["pause"] - before == 2


def test_where_nothing_wakes_it_kept_look_ups_run_out_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx_cache, "LONGEST", 0.5)
    behind = service_of(world, wake=False)
    runtime = session(behind)
    look(behind, runtime)
    began = time.monotonic()
    behind.manager.pause(ALICE, runtime.runtime_id)
    assert time.monotonic() - began > 0.4
    assert status(behind, runtime.runtime_id) is RuntimeStatus.PAUSED


def _write(path: Path) -> None:
    path.write_text("200")


def test_what_has_ended_is_no_longer_kept(behind: Service, world: World) -> None:
    runtime = session(behind)
    look(behind, runtime)
    kept = behind.settings.gateway_lookups / next((behind.state.lookups / runtime.runtime_id).iterdir()).name
    # A look-up that was under way is kept after the stop has begun.
    world.engine.hook("stop", lambda: _write(kept), times=1)
    behind.manager.stop(ALICE, runtime.runtime_id)
    assert not kept.exists()

    another = session(behind)
    look(behind, another)
    kept = behind.settings.gateway_lookups / next((behind.state.lookups / another.runtime_id).iterdir()).name
    kept.write_text("200")
    behind.reconciler.start()
    eventually(lambda: Liveness(world.state.beat).live())
    world.engine.exit(another.runtime_id, 1)
    eventually(lambda: status(behind, another.runtime_id) is RuntimeStatus.ERROR)
    eventually(lambda: not kept.exists())


def test_what_is_restarted_is_asked_for_anew(behind: Service, world: World) -> None:
    runtime = session(behind)
    assert look(behind, runtime) == MAIN
    kept = behind.settings.gateway_lookups / next((behind.state.lookups / runtime.runtime_id).iterdir()).name
    seen: list[Any] = []

    def while_its_process_ends() -> None:
        _write(kept)
        seen.append(look(behind, runtime))

    world.engine.hook("stop", while_its_process_ends, times=1)
    behind.inside.restarts.restart(ALICE, runtime.runtime_id, RestartRequest(timeout=0, wait=DEADLINE))
    assert seen == [(502, None)]
    assert not kept.exists()
    assert look(behind, runtime) == MAIN


def test_private_runtimes_want_their_key(world: World) -> None:
    behind = service_of(world, access="private")
    runtime = start(behind, ports=[{"container_port": 8000}])
    key = runtime.session_api_key
    assert key is not None
    world_environment = world.engine.inspect(runtime.runtime_id).environment
    assert world_environment["SESSION_API_KEY"] == key
    assert look(behind, runtime) == (401, None)
    assert look(behind, runtime, header=key) == "192.0.2.1:8000"
    assert look(behind, runtime, cookie=access.cookie(key, runtime.runtime_id)) == "192.0.2.1:8000"
    assert look(behind, runtime, preflight=True) == "192.0.2.1:8000"
    given = gateway(behind).look_up(asked(runtime, "p9000", query=key))
    address = f"p9000-{runtime.runtime_id}"
    assert given == Routed("192.0.2.1:9000", keep=False, cookie=access.cookie(key, address))
    behind.manager.pause(ALICE, runtime.runtime_id)
    assert (look(behind, runtime), wake(behind, runtime)) == ((401, None), (401, None))
    # A preflight is let through without a key, and wakes nobody.
    assert look(behind, runtime, preflight=True) == (503, 5.0)
    assert status(behind, runtime.runtime_id) is RuntimeStatus.PAUSED
    assert look(behind, runtime, header=key) == "192.0.2.1:8000"
    assert status(behind, runtime.runtime_id) is RuntimeStatus.RUNNING
    open_to_all = start(behind, ports=[{"container_port": 8000}], access="public")
    assert (open_to_all.session_api_key, look(behind, open_to_all)) == (None, "192.0.2.1:8000")


def test_a_runtime_that_is_removed_and_forgotten_leaves_no_notes(world: World) -> None:
    behind = service_of(world, retention=0.0)
    runtime = session(behind)
    look(behind, runtime)
    notes: Path = behind.state.lookups / runtime.runtime_id
    assert notes.exists()
    behind.manager.remove(ALICE, runtime.runtime_id)
    behind._chores.tidy(time.time() + 1)
    assert not notes.exists()


def test_in_published_mode_there_is_no_gateway(service: Service) -> None:
    assert service.gateway is None
    assert service.wsgi is service.app
    runtime = start(service, wake=True, access="private", idle_timeout=5)
    assert runtime.session_api_key is None
    assert "wake, access, idle_timeout without effect" in runtime.warnings[0]
