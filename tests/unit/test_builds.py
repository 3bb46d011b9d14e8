"""Builds on a service in memory: accepted once, worked on by whoever lives, ended clearly."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtime_server.builds import builds as builds_module
from runtime_server.builds import log, runs
from runtime_server.engine.building import BuildHalted, BuildSpec
from runtime_server.engine.memory_build import MemoryBuilder
from runtime_server.errors import (
    BuilderUnavailable,
    BuildNotFound,
    EngineFailed,
    IdempotencyKeyReused,
    PolicyRefused,
    ServerDraining,
    TooManyBuilds,
)
from runtime_server.models import BuildRequest, BuildState, BuildStatus
from runtime_server.runtimes.caller import Caller
from runtime_server.service import Service
from runtime_server.state import check
from tests.forms import archive
from tests.unit.conftest import ALICE, BOB, World, eventually

PREFIX = "registry.test/sandboxes"
IMAGE = f"{PREFIX}/alice/agent:1"
ROOT = Caller("root", admin=True)


class Gate(MemoryBuilder):
    """Builds that wait at a gate."""

    def __init__(self, world: World) -> None:
        super().__init__(world.engine)
        self.open = threading.Event()
        self.entered = 0
        self.halted = 0
        self.fails: Exception | None = None

    def build(self, spec: BuildSpec, log: Callable[[bytes], None], halted: Callable[[], bool]) -> None:
        self.entered += 1
        if self.fails is not None:
            raise self.fails
        while not self.open.wait(0.005):
            if halted():
                self.halted += 1
                raise BuildHalted
        super().build(spec, log, halted)


@pytest.fixture
def gate(world: World) -> Gate:
    made = Gate(world)
    world.builder = made
    return made


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LOOK", 0.01)


def serve(world: World, **changes: Any) -> Service:
    return world.service(**({"registry_prefix": PREFIX} | changes))


def build(
    service: Service,
    image: str = IMAGE,
    *tags: str,
    caller: Caller = ALICE,
    key: str | None = None,
    files: Mapping[str, str] | None = None,
) -> str:
    with service.builds.upload(caller, keyed=key is not None) as upload:
        upload.write(base64.b64encode(archive(files)))
        upload.finish()
        request = BuildRequest(context=upload.digest, target_image=image, tags=list(tags))
        return service.builds.submit(caller, request, upload, key=key).build_id


def _entered(gate: Gate, number: int) -> bool:
    return gate.entered == number


def ended(service: Service, build_id: str, caller: Caller = ALICE) -> BuildStatus:
    def look() -> BuildStatus | None:
        found = service.builds.status(caller, build_id)
        return found if found.status.final else None

    found = eventually(look)
    assert isinstance(found, BuildStatus)
    assert (found.error is None) == (found.status is BuildState.SUCCESS)
    return found


def kill(world: World, service: Service) -> None:
    """What the kernel does to a dead process, which takes no further build."""
    service.builds._runs.advance = lambda: None  # type: ignore[method-assign]
    world.kill(service)


def files(service: Service, suffix: str) -> list[Path]:
    return sorted(each for each in service.state.builds.iterdir() if each.suffix == suffix)


class TestLife:
    def test_from_queue_to_image(self, world: World, gate: Gate) -> None:
        service = serve(world)
        assert not service.builds.image_exists(ALICE, IMAGE)
        build_id = build(service, IMAGE, f"{PREFIX}/alice/agent")
        eventually(lambda: gate.entered)
        working = service.builds.status(ALICE, build_id)
        assert (working.status, working.image, working.error) == (BuildState.WORKING, IMAGE, None)
        assert working.tags == [f"{PREFIX}/alice/agent:latest"]
        assert working.started_at is not None
        assert len(files(service, ".context")) == 1
        gate.open.set()
        done = ended(service, build_id)
        assert done.finished_at is not None
        assert done.created_at <= done.started_at <= done.finished_at  # type: ignore[operator]
        eventually(lambda: files(service, ".context") == [])
        for image in (IMAGE, *done.tags):
            found = service.builds.image_exists(ALICE, image)
            assert found.image is not None
            assert found.image.upload_time is not None
            assert found.image.image_size_bytes > 0
        assert service.builds.log(ALICE, build_id).startswith(b"#1 FROM busybox\n")
        (spec,) = gate.specs
        assert (spec.tags, spec.network, spec.push) == ((IMAGE, *done.tags), "default", False)
        assert spec.labels == {
            "runtime-server-build.instance": world.state.instance,
            "runtime-server-build.owner": "alice",
            "runtime-server-build.id": build_id,
            "runtime-server.instance": "",
        }

    def test_a_build_that_fails_says_why(self, world: World) -> None:
        service = serve(world)
        done = ended(service, build(service, files={"Dockerfile": "FROM busybox\nRUN false\n"}))
        assert done.status is BuildState.FAILURE
        assert done.error == "false: exit status 1.\n#1 FROM busybox\n#2 RUN false"
        assert not service.builds.image_exists(ALICE, IMAGE)
        eventually(lambda: files(service, ".context") == [])

    def test_a_base_image_that_is_nowhere(self, world: World) -> None:
        service = serve(world)
        done = ended(service, build(service, files={"Dockerfile": "FROM no/such:image\n"}))
        assert done.status is BuildState.FAILURE

    def test_settings_reach_the_builder(self, world: World, gate: Gate) -> None:
        gate.open.set()
        service = serve(world, build_network="none", registry_push=True)
        ended(service, build(service))
        assert (gate.specs[0].network, gate.specs[0].push) == ("none", True)
        world.engine.remove_image(IMAGE)
        world.engine.pull(IMAGE)

    def test_without_egress_builds_have_no_network(self, world: World, gate: Gate) -> None:
        gate.open.set()
        service = serve(world, egress="none")
        ended(service, build(service))
        assert gate.specs[0].network == "none"

    @pytest.mark.parametrize(
        ("failure", "engine_away", "said"),
        [
            (BuilderUnavailable("No docker."), False, "No docker."),
            (ValueError("hush"), False, "Something unforeseen happened; the server's log has it."),
            (EngineFailed("It fails."), True, "It fails."),
        ],
    )
    def test_what_is_no_fault_of_the_build(
        self, world: World, gate: Gate, failure: Exception, engine_away: bool, said: str
    ) -> None:
        service = serve(world)
        gate.fails = failure
        done = ended(service, build(service))
        assert (done.status, done.error) == (BuildState.INTERNAL_ERROR, said)

    def test_a_build_that_fails_while_the_engine_is_away(self, world: World) -> None:
        service = serve(world)
        world.engine.away = True
        done = ended(service, build(service, files={"Dockerfile": "FROM busybox\nRUN false\n"}))
        assert done.status is BuildState.INTERNAL_ERROR

    def test_time_is_up(self, world: World, gate: Gate) -> None:
        service = serve(world, build_timeout=0.05)
        done = ended(service, build(service))
        assert done.status is BuildState.TIMEOUT
        assert done.error == "The build took longer than 0.05 s."
        assert gate.halted == 1

    def test_a_build_is_cancelled_while_it_waits_and_while_it_runs(self, world: World, gate: Gate) -> None:
        service = serve(world, max_builds=1)
        running = build(service)
        waiting = build(service)
        eventually(lambda: gate.entered)
        assert service.builds.status(ALICE, waiting).status is BuildState.QUEUED
        for each in (waiting, running, running):
            assert service.builds.cancel(ALICE, each).status is BuildState.CANCELLED
        eventually(lambda: gate.halted)
        gate.open.set()
        later = build(service)
        assert ended(service, later).status is BuildState.SUCCESS
        assert service.builds.cancel(ALICE, later).status is BuildState.SUCCESS
        assert service.builds.status(ALICE, running).status is BuildState.CANCELLED
        eventually(lambda: files(service, ".context") == [])


class TestQueue:
    def test_no_more_at_once_than_may(self, world: World, gate: Gate) -> None:
        services = [serve(world, max_builds=2), serve(world, max_builds=2)]
        made = [build(services[number % 2]) for number in range(4)]
        eventually(lambda: gate.entered == 2)
        states = [str(services[0].builds.status(ALICE, each).status) for each in made]
        assert states == ["WORKING", "WORKING", "QUEUED", "QUEUED"]
        assert services[0].builds.status(ALICE, made[3]).started_at is None
        gate.open.set()
        for each in made:
            assert ended(services[0], each).status is BuildState.SUCCESS

    def test_beyond_the_queue_nothing_is_received(self, world: World, gate: Gate) -> None:
        service = serve(world, max_builds=1, max_queued_builds=1)
        build(service)
        waiting = build(service, key="k")
        for key in (None, "other"):
            with pytest.raises(TooManyBuilds):
                build(service, key=key)
        assert build(service, key="k") == waiting, "one that was accepted before"
        assert len(files(service, ".context")) == 2
        build(service, f"{PREFIX}/bob/agent", caller=BOB)
        gate.open.set()

    def test_what_waits_too_long_expires(self, world: World, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        service = serve(world, max_builds=1)
        running, waiting = build(service), build(service)
        monkeypatch.setattr(builds_module, "QUEUE_TTL", -1.0)
        service.builds.tick()
        assert service.builds.status(ALICE, waiting).status is BuildState.EXPIRED
        assert service.builds.status(ALICE, running).status is BuildState.WORKING
        gate.open.set()
        ended(service, running)


class TestCrashes:
    def test_a_dead_workers_build_is_done_by_another(self, world: World, gate: Gate) -> None:
        first = serve(world)
        build_id = build(first)
        eventually(lambda: gate.entered == 1)
        second = serve(world)
        second.builds.tick()
        assert gate.entered == 1, "its worker lives"
        kill(world, first)
        second.builds.tick()
        eventually(lambda: gate.entered == 2)
        eventually(lambda: gate.halted == 1)  # the dead one's, which sees that it lost it
        gate.open.set()
        assert ended(second, build_id).status is BuildState.SUCCESS
        assert b"The worker that ran this build has ended; it begins again." in second.builds.log(ALICE, build_id)
        assert len(gate.specs) == 1
        eventually(lambda: files(second, ".context") == [])

    def test_a_build_that_outlives_no_worker_ends(self, world: World, gate: Gate) -> None:
        services = [serve(world)]
        build_id = build(services[0])
        for number in range(1, runs.MAX_DEATHS + 1):
            eventually(partial(_entered, gate, number))
            kill(world, services[-1])
            services.append(serve(world))
            services[-1].builds.tick()
        done = ended(services[-1], build_id)
        assert (done.status, done.error) == (BuildState.INTERNAL_ERROR, "The build's worker has ended 3 times.")
        gate.open.set()

    def test_a_service_that_closes_hands_its_builds_on(self, world: World, gate: Gate) -> None:
        first = serve(world, max_builds=1)
        running, waiting = build(first), build(first)
        eventually(lambda: gate.entered == 1)
        first.builds.close()
        assert gate.halted == 1
        gate.open.set()
        second = serve(world, max_builds=1)
        second.builds.tick()
        for each in (running, waiting):
            assert ended(second, each).status is BuildState.SUCCESS
        assert b"has ended" not in second.builds.log(ALICE, running)

    def test_the_reconciler_looks_after_builds(self, world: World, gate: Gate) -> None:
        gate.open.set()
        first = serve(world)
        first.builds._runs._closing.set()  # its queue stands still
        build_id = build(first)
        second = serve(world)
        second.start_background()
        assert ended(second, build_id).status is BuildState.SUCCESS

    def test_two_attempts_of_one_call_are_one_build(self, world: World, gate: Gate) -> None:
        services = [serve(world), serve(world)]
        made = {build(services[number % 2], key="k") for number in range(4)}
        assert len(made) == 1
        assert len(files(services[0], ".context")) == 1
        assert build(services[0], f"{PREFIX}/bob/agent", caller=BOB, key="k") not in made
        with pytest.raises(IdempotencyKeyReused):
            build(services[0], key="k", files={"Dockerfile": "FROM scratch\n"})
        gate.open.set()

    def test_files_that_nothing_needs_are_removed(self, world: World, gate: Gate) -> None:
        service = serve(world)
        build_id = build(service)
        folder = service.state.builds
        eventually(lambda: files(service, ".log"))
        old = time.time() - builds_module.ORPHANED - 10
        for name in ("left.context", "build-000000000000.log", "coming.context"):
            (folder / name).touch(mode=0o600)
        os.utime(folder / "left.context", (old, old))
        for each in files(service, ".context"):
            if each.stem != "coming":
                os.utime(each, (old, old))
        service.builds.tidy()
        assert [each.name for each in files(service, ".log")] == [f"{build_id}.log"]
        assert {each.name for each in files(service, ".context")} > {"coming.context"}
        assert len(files(service, ".context")) == 2
        check(service.settings)  # nobody else can read what lies there
        gate.open.set()
        ended(service, build_id)
        service.store.operations.expire(time.time() + 10**6)
        service.builds.tidy()
        assert files(service, ".log") == []
        with pytest.raises(BuildNotFound):
            service.builds.status(ALICE, build_id)

    def test_a_results_time_is_an_hour_at_least(self, world: World) -> None:
        service = serve(world, retention=0.0)
        build_id = build(service)
        ended(service, build_id)
        service.store.operations.expire(time.time() + 3000)
        assert service.builds.status(ALICE, build_id).status is BuildState.SUCCESS


class TestCallers:
    def test_nobody_sees_anothers_build(self, world: World) -> None:
        service = serve(world)
        build_id = build(service)
        for ask in (service.builds.status, service.builds.log, service.builds.cancel):
            with pytest.raises(BuildNotFound):
                ask(BOB, build_id)
        assert service.builds.status(ROOT, build_id).build_id == build_id
        ended(service, build_id)
        assert service.builds.image_exists(ALICE, IMAGE)
        assert service.builds.image_exists(ROOT, IMAGE)
        assert not service.builds.image_exists(BOB, IMAGE)
        assert service.builds.image_exists(BOB, "busybox")

    @pytest.mark.parametrize("changes", [{"registry_prefix": ""}, {"builds": "off"}])
    def test_without_a_prefix_nothing_is_received(self, world: World, changes: dict[str, str]) -> None:
        service = serve(world, **changes)
        with pytest.raises(PolicyRefused), service.builds.upload(ALICE, keyed=False):
            pass
        assert list(service.state.builds.iterdir()) == []

    def test_while_it_drains_no_new_build_is_accepted(self, world: World, gate: Gate) -> None:
        service = serve(world)
        before = build(service, key="k")
        service.state.draining.touch()
        with pytest.raises(ServerDraining):
            build(service)
        assert build(service, key="k") == before
        gate.open.set()
        assert ended(service, before).status is BuildState.SUCCESS


class TestLog:
    def test_it_is_cut_and_its_last_lines_are_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "MAX_BYTES", 1000)
        for attempt in range(2):
            written = log.BuildLog(tmp_path / "log")
            for number in range(500):
                written.write(f"line {attempt} {number}\n\n".encode())
            assert written.tail().splitlines() == [f"line {attempt} {number}" for number in range(480, 500)]
            written.close()
        kept = (tmp_path / "log").read_bytes()
        assert len(kept) < 1100
        assert kept.startswith(b"line 0 0\n")
        assert kept.endswith(b"[the log is cut here]\n")

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        written = log.BuildLog(tmp_path / "log")
        written.write(b"\xff\xfe\n")
        assert written.tail() == "\ufffd\ufffd"
        written.close()

    def test_without_a_file_the_build_goes_on(self, tmp_path: Path) -> None:
        written = log.BuildLog(tmp_path / "none" / "log")
        written.write(b"said\n")
        assert written.tail() == "said"
        written.close()
