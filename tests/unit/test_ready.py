"""Readiness: a runtime is `starting` until its service answers, over crashes, stops and restarts."""

from __future__ import annotations

from threading import Event, Timer
from typing import Any

import pytest

from runtime_server.engine.memory_images import Program
from runtime_server.errors import EngineTimeout, ImageNotFound, ImagePullFailed
from runtime_server.models import Runtime
from runtime_server.models import RuntimeStatus as S
from runtime_server.runtimes import fetch, ids, pods, steps
from runtime_server.service import Service
from runtime_server.store.slots import READYING
from tests.unit.conftest import ALICE, DEADLINE, World, eventually, get, start, status
from tests.unit.test_starts import crash

HTTP: dict[str, Any] = {"readiness": {"type": "http", "port": 80, "path": "/up"}}


def ready(service: Service, runtime: str) -> Runtime:
    return service.manager.get(ALICE, runtime, wait_for=S.RUNNING, timeout=DEADLINE)


@pytest.fixture
def silent(world: World) -> World:
    """An engine whose image `agent` has a service that doesn't answer yet."""
    world.engine.add_image("agent", exposed=("80/tcp",), http=None)
    return world


@pytest.mark.parametrize("fields", [{"session_id": "s"}, HTTP, {"name": "oh-remote-runtime-s"}])
def test_it_is_starting_until_its_service_answers(silent: World, service: Service, fields: dict[str, Any]) -> None:
    made = start(service, image="agent", wait=0.2, **fields)
    assert (made.status, made.pod_status) == (S.STARTING, "Running")
    assert made.container_id is not None
    assert made.started_at is not None
    for answer in (None, 404, 500):
        silent.engine.serve(made.runtime_id, answer)
        seen = silent.engine.calls["http_status"]
        eventually(lambda seen=seen: silent.engine.calls["http_status"] > seen + 1)  # type: ignore[misc]
        assert status(service, made.runtime_id) is S.STARTING
    silent.engine.serve(made.runtime_id, 200)
    found = ready(service, made.runtime_id)
    assert (found.status, found.pod_status, found.status_detail) == (S.RUNNING, "Ready", None)
    assert service.store.operations.running("start") == []
    eventually(lambda: not service.starts._futures)
    assert not service.holder._active


def test_a_start_answers_as_soon_as_it_is_ready(silent: World, service: Service) -> None:
    silent.engine.hook("http_status", lambda: silent.engine.serve(only(silent), 204), times=1)
    assert start(service, image="agent", session_id="s").status is S.RUNNING


def only(world: World) -> str:
    return world.engine.list()[0].container_id


def test_a_command_and_a_line_make_it_ready(world: World, service: Service) -> None:
    programs = {"check": Program(exit_code=1)}
    world.engine.add_image("agent", programs=programs)
    made = start(service, image="agent", wait=0.2, readiness={"type": "command", "command": ["check"]})
    assert made.status is S.STARTING
    programs["check"] = Program(exit_code=0)
    assert ready(service, made.runtime_id).status is S.RUNNING
    told = start(service, image="agent", wait=0.2, readiness={"type": "log", "text": "listening on"})
    assert told.status is S.STARTING
    world.engine.write(told.runtime_id, "warming up\nnow listening on 80\n")
    assert ready(service, told.runtime_id).status is S.RUNNING


def test_the_images_healthcheck_counts_where_nothing_is_declared(world: World, service: Service) -> None:
    world.engine.add_image("agent", health="starting")
    made = start(service, image="agent", wait=0.2)
    assert made.status is S.STARTING
    world.engine.serve(made.runtime_id, 200, "unhealthy")
    eventually(lambda: "unhealthy" in (get(service, made.runtime_id).status_detail or ""))
    world.engine.serve(made.runtime_id, 200, "healthy")
    assert ready(service, made.runtime_id).status is S.RUNNING
    for declared in ({"type": "running"}, {"type": "http", "port": 80}):
        assert start(service, image="agent", readiness=declared).status is S.RUNNING


def test_running_alone_can_be_enough_for_a_session(silent: World, service: Service) -> None:
    assert start(service, image="agent", session_id="s", readiness={"type": "running"}).status is S.RUNNING


@pytest.mark.parametrize(("code", "wanted"), [(0, S.STOPPED), (3, S.ERROR)])
def test_one_that_ends_before_it_is_ready(silent: World, service: Service, code: int, wanted: S) -> None:
    made = start(service, image="agent", session_id="s", wait=0)
    eventually(lambda: get(service, made.runtime_id).container_id)
    silent.engine.write(made.runtime_id, "no such module\n")
    silent.engine.exit(made.runtime_id, code)
    eventually(lambda: status(service, made.runtime_id) is wanted)
    found = service.manager.session(ALICE, "s")
    assert found.pod_logs == "no such module\n"
    assert found.exit is not None
    assert found.exit.exit_code == code
    assert found.pod_status == ("Failed" if code else "Not Found")
    assert service.store.operations.running("start") == []


def test_one_that_runs_out_of_memory(silent: World, service: Service) -> None:
    made = start(service, image="agent", session_id="s", wait=0)
    eventually(lambda: get(service, made.runtime_id).container_id)
    silent.engine.exit(made.runtime_id, 137, oom=True)
    eventually(lambda: status(service, made.runtime_id) is S.ERROR)
    found = get(service, made.runtime_id)
    assert (found.pod_status, found.container_statuses[0].reason) == ("CrashLoopBackOff", "OOMKilled")


def test_a_session_has_its_address_from_the_first_answer_on(silent: World, service: Service) -> None:
    silent.engine.delay("create", 0.3)
    first = start(service, image="agent", session_id="s", wait=0)
    assert (first.status, first.container_id) == (S.STARTING, None)
    assert first.url is not None
    eventually(lambda: get(service, first.runtime_id).container_id)
    found = get(service, first.runtime_id)
    assert found.url == first.url
    assert found.ports["60000/tcp"][0].HostPort == first.url.rpartition(":")[2]
    service.manager.stop(ALICE, first.runtime_id)
    assert get(service, first.runtime_id).url == first.url
    assert start(service).url is None
    assert start(service, image="agent", session_id="t", network="none", wait=0).url is None


def test_its_output_is_shown_while_it_starts(silent: World, service: Service) -> None:
    made = start(service, image="agent", session_id="s", wait=0)
    eventually(lambda: get(service, made.runtime_id).container_id)
    silent.engine.write(made.runtime_id, "booting\n")
    assert service.manager.session(ALICE, "s").pod_logs == "booting\n"


def test_one_that_is_removed_behind_its_back(silent: World, service: Service) -> None:
    made = start(service, image="agent", session_id="s", wait=0)
    eventually(lambda: get(service, made.runtime_id).container_id)
    silent.engine.vanish(made.runtime_id)
    eventually(lambda: status(service, made.runtime_id) is S.ERROR)
    assert "removed by somebody else" in (get(service, made.runtime_id).status_detail or "")


def test_a_stop_ends_the_wait(silent: World, service: Service) -> None:
    made = start(service, image="agent", session_id="s", wait=0)
    eventually(lambda: get(service, made.runtime_id).container_id)
    assert service.manager.stop(ALICE, made.runtime_id, timeout=0).status is S.STOPPED
    eventually(lambda: not service.starts._futures)
    assert service.store.operations.running("start", "stop") == []
    assert status(service, made.runtime_id) is S.STOPPED


def test_waiting_for_a_service_takes_no_place(silent: World) -> None:
    service = silent.service(max_starting=1)
    made = [start(service, image="agent", session_id=f"s{n}", wait=0).runtime_id for n in range(5)]
    eventually(lambda: [each.stage for each in service.store.operations.running("start")] == [READYING] * 5)
    assert start(service).status is S.RUNNING
    for each in made:
        silent.engine.serve(each, 200)
        assert ready(service, each).status is S.RUNNING


def test_another_process_goes_on_where_one_dies(silent: World) -> None:
    first, second = silent.service(), silent.service()
    made = start(first, image="agent", session_id="s", wait=0)
    eventually(lambda: [each.stage for each in first.store.operations.running("start")] == [READYING])
    silent.kill(first)
    first.starts.close()
    second._chores.interrupted()
    silent.engine.serve(made.runtime_id, 200)
    assert ready(second, made.runtime_id).status is S.RUNNING
    assert silent.engine.calls["start"] == 1
    assert second.store.operations.running("start") == []


def test_an_engine_that_is_away_for_a_moment_changes_nothing(silent: World, service: Service) -> None:
    made = start(service, image="agent", session_id="s", wait=0)
    eventually(lambda: get(service, made.runtime_id).container_id)
    silent.engine.fail_next("inspect", EngineTimeout())
    silent.engine.fail_next("http_status", EngineTimeout())
    silent.engine.serve(made.runtime_id, 200)
    assert ready(service, made.runtime_id).status is S.RUNNING


def test_closing_leaves_it_to_others(silent: World, service: Service) -> None:
    made = start(service, image="agent", session_id="s", wait=0)
    eventually(lambda: [each.stage for each in service.store.operations.running("start")] == [READYING])
    service.starts.close()
    assert status(service, made.runtime_id) is S.STARTING
    assert [each.key for each in service.store.operations.running("start")] == [made.runtime_id]


class TestPulls:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetch, "PULL_AGAIN", 0.3)

    def test_what_cannot_be_pulled_is_told_twice(self, world: World, service: Service) -> None:
        made = start(service, image="registry.test/nothing:1", session_id="s")
        assert (made.status, made.pod_status, made.created) == (S.ERROR, "Failed", True)
        assert (made.status_detail or "").startswith("ImagePullBackOff: ")
        assert [each.reason for each in made.events] == ["Scheduled", "ErrImagePull", "ImagePullBackOff"]
        assert made.container_statuses[0].reason == "ImagePullBackOff"
        assert world.engine.calls["pull"] == 2
        assert made.url is not None

    def test_it_is_pending_in_between(self, world: World, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetch, "PULL_AGAIN", DEADLINE)
        made = start(service, image="registry.test/nothing:1", session_id="s", wait=0)
        eventually(lambda: (get(service, made.runtime_id).status_detail or "").startswith("ErrImagePull: "))
        found = get(service, made.runtime_id)
        assert (found.status, found.pod_status) == (S.STARTING, "Pending")
        assert service.manager.stop(ALICE, made.runtime_id).status is S.STOPPED

    def test_a_second_try_may_do(self, world: World, service: Service) -> None:
        world.engine.add_pullable("registry.test/agent:1")
        world.engine.fail_next("pull", ImagePullFailed("The registry is away"))
        made = start(service, image="registry.test/agent:1", session_id="s")
        assert (made.status, made.pod_status) == (S.RUNNING, "Ready")

    def test_another_start_is_refused_at_once(self, world: World, service: Service) -> None:
        with pytest.raises(ImageNotFound):
            start(service, image="registry.test/nothing:1")
        assert world.engine.calls["pull"] == 1

    def test_an_address_is_known_while_it_is_pulled(self, world: World, service: Service) -> None:
        world.engine.add_pullable("registry.test/agent:1")
        go_on = Event()
        world.engine.hook("pull", lambda: wait_for(go_on), times=1)
        made = start(service, image="registry.test/agent:1", session_id="s", wait=0.3)
        assert (made.status, made.pod_status) == (S.STARTING, "Pending")
        assert made.url is not None
        go_on.set()
        found = ready(service, made.runtime_id)
        assert (found.status, found.url) == (S.RUNNING, made.url)

    def test_a_port_that_was_taken_meanwhile_is_another_then(self, world: World, service: Service) -> None:
        world.engine.add_pullable("registry.test/agent:1")
        go_on = Event()
        world.engine.hook("pull", lambda: wait_for(go_on), times=1)
        made = start(service, image="registry.test/agent:1", session_id="s", wait=0.3)
        assert made.url is not None
        port = int(made.url.rpartition(":")[2])
        start(service, ports=[{"container_port": 80, "host_port": port}])
        go_on.set()
        found = ready(service, made.runtime_id)
        assert found.status is S.RUNNING
        assert found.url != made.url
        assert len(world.engine.list()) == 2


def wait_for(event: Event) -> None:
    assert event.wait(DEADLINE)


def test_a_session_that_finds_no_place_waits_for_one(world: World) -> None:
    service = world.service(max_running=1)
    first = start(service)
    blocked = Event()

    def free() -> None:
        blocked.set()
        service.manager.pause(ALICE, first.runtime_id)

    timer = Timer(0.5, free)
    timer.start()
    try:
        assert start(service, session_id="s").status is S.RUNNING
        assert blocked.is_set()
    finally:
        timer.join()


@pytest.mark.parametrize("step", ["started", "inspected"])
def test_a_crash_before_it_is_watched_is_made_up_for(silent: World, step: str) -> None:
    first, second = silent.service(), silent.service()
    crash(silent, first, step, image="agent", session_id="s", key="k")
    second._chores.interrupted()
    runtime_id = ids.derived(silent.state.instance, "alice", "k")
    eventually(lambda: get(second, runtime_id).container_id)
    silent.engine.serve(runtime_id, 200)
    assert ready(second, runtime_id).status is S.RUNNING
    assert silent.engine.calls["start"] == 1


def test_restarts_are_told_with_their_reasons(world: World, service: Service) -> None:
    service.start_background()
    eventually(service.reconciler._liveness.live)
    made = start(service, restart_policy={"Name": "always"}, session_id="s")
    world.engine.exit(made.runtime_id, 3)
    eventually(lambda: get(service, made.runtime_id).restart_count == 1)
    world.engine.exit(made.runtime_id, 137, oom=True)
    eventually(lambda: get(service, made.runtime_id).restart_count == 2)
    found = get(service, made.runtime_id)
    assert found.restart_reasons == ["Error: exit code 3", "OOMKilled"]
    assert found.pod_status == "Ready"
    assert pods.MOST_REASONS == 10
    assert steps.hooks == []
