"""The adapter on a real engine: each answer that can be provoked, and what only a real one shows."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from runtime_server.engine.base import (
    ContainerMissing,
    ContainerState,
    EngineEvent,
    EventStream,
    Mount,
    NameTaken,
    Publish,
    RuntimeSpec,
)
from runtime_server.engine.discovery import socket_path
from runtime_server.engine.docker import DockerEngine
from runtime_server.errors import (
    CommandNotExecutable,
    CommandNotFound,
    EngineUnreachable,
    ImageNotFound,
    ImagePullFailed,
    ImageReferenceInvalid,
    InvalidState,
    LimitOutOfRange,
    MountSourceMissing,
    NetworkNotFound,
    PortInUse,
    Problem,
    RuntimeClassUnknown,
    SpecRejected,
    UserUnknown,
)
from tests.engine import images

Specs = Callable[..., RuntimeSpec]

DEADLINE = 60.0


def eventually(what: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, "it didn't come about in time"
        time.sleep(0.05)


@pytest.fixture
def running(docker_engine: DockerEngine, spec: Specs) -> str:
    container = docker_engine.create(spec())
    docker_engine.start(container)
    return container


class TestLifecycle:
    def test_from_create_to_remove(self, docker_engine: DockerEngine, spec: Specs) -> None:
        wanted = spec(environment={"A": "b=c"}, image=images.EXPOSING, network="bridge")
        container = docker_engine.create(wanted)
        assert docker_engine.inspect(container).state is ContainerState.CREATED

        docker_engine.start(container)
        docker_engine.start(container)
        found = docker_engine.inspect(wanted.runtime_id)
        assert (found.container_id, found.name, found.state) == (container, wanted.runtime_id, ContainerState.RUNNING)
        assert found.environment["A"] == "b=c"
        assert found.ports == {"8000/tcp": []}
        assert found.labels == wanted.labels
        assert found.exit_code is None

        assert docker_engine.pause(container)
        assert not docker_engine.pause(container)
        assert docker_engine.inspect(container).state is ContainerState.PAUSED
        assert docker_engine.resume(container)
        assert not docker_engine.resume(container)

        assert docker_engine.stop(container, 10)
        assert not docker_engine.stop(container, 10)
        ended = docker_engine.inspect(container)
        assert (ended.state, ended.exit_code) == (ContainerState.EXITED, 143)
        assert ended.started_at is not None
        assert ended.finished_at is not None
        assert ended.started_at <= ended.finished_at

        assert docker_engine.remove(container)
        assert not docker_engine.remove(container)
        with pytest.raises(ContainerMissing):
            docker_engine.inspect(container)

    def test_quick_pauses_and_resumes_all_count(self, docker_engine: DockerEngine, running: str) -> None:
        for _ in range(10):
            assert docker_engine.pause(running)
            assert docker_engine.resume(running)

    def test_grace_reaches_the_process_of_a_paused_one(self, docker_engine: DockerEngine, spec: Specs) -> None:
        script = "trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
        container = docker_engine.create(spec(command=("/bin/sh", "-c", script)))
        docker_engine.start(container)
        eventually(lambda: "ready" in docker_engine.logs(container))
        docker_engine.pause(container)

        assert docker_engine.stop(container, 30)

        assert docker_engine.inspect(container).exit_code == 7
        assert docker_engine.logs(container, tail=1) == "asked\n"

    def test_no_grace_kills_what_ignores_being_asked(self, docker_engine: DockerEngine, spec: Specs) -> None:
        script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
        container = docker_engine.create(spec(command=("/bin/sh", "-c", script)))
        docker_engine.start(container)
        eventually(lambda: "ready" in docker_engine.logs(container))

        assert docker_engine.stop(container, 0)

        assert docker_engine.inspect(container).exit_code == 137

    def test_limits_and_rights_arrive_in_the_container(self, docker_engine: DockerEngine, spec: Specs) -> None:
        script = "grep -E 'NoNewPrivs|CapBnd|^Uid' /proc/self/status; hostname; pwd; cat /tmp/none || echo > /etc/x"
        wanted = spec(
            command=(
                "/bin/busybox",
                "sh",
                "-c",
                script,
            ),
            user="nobody",
            working_dir="/srv",
            cap_add=("KILL",),
            read_only=True,
            tmpfs={"/tmp": "size=1m"},
            memory=64 * 2**20,
            cpus=0.5,
            pids_limit=32,
        )
        container = docker_engine.create(wanted)
        docker_engine.start(container)
        eventually(lambda: docker_engine.inspect(container).state is ContainerState.EXITED)

        output = docker_engine.logs(container)
        assert "NoNewPrivs:\t1" in output
        assert "CapBnd:\t0000000000000020" in output
        assert "Uid:\t65534" in output
        assert wanted.runtime_id in output
        assert "/srv" in output
        assert "Read-only file system" in output

    def test_mounts(self, docker_engine: DockerEngine, spec: Specs, tmp_path: Path) -> None:
        (tmp_path / "in").write_text("from the host")
        script = "cat /data/in; echo no > /data/out; true"
        container = docker_engine.create(
            spec(command=("/bin/sh", "-c", script), mounts=(Mount(str(tmp_path), "/data", read_only=True),))
        )
        docker_engine.start(container)
        eventually(lambda: docker_engine.inspect(container).state is ContainerState.EXITED)

        assert "from the host" in docker_engine.logs(container)
        assert not (tmp_path / "out").exists()


AT_CREATE: list[tuple[dict[str, Any], type[Exception], dict[str, Any]]] = [
    ({"image": "runtime-server-test/none:1"}, ImageNotFound, {"image": "runtime-server-test/none:1"}),
    ({"image": "Not/Valid"}, ImageReferenceInvalid, {"image": "Not/Valid"}),
    ({"image": ""}, ImageReferenceInvalid, {"image": ""}),
    ({"runtime_class": "no-such-class"}, RuntimeClassUnknown, {"runtime_class": "no-such-class"}),
    ({"memory": 4096}, LimitOutOfRange, {}),
    ({"cpus": 4000.0}, LimitOutOfRange, {}),
    ({"mounts": (Mount("/no/such folder", "/x"),)}, MountSourceMissing, {"host_path": "/no/such folder"}),
    ({"cap_add": ("NO_SUCH",)}, SpecRejected, {}),
    ({"platform": "linux/s390x"}, ImageNotFound, {"image": images.BUSYBOX}),
]

AT_START: list[tuple[dict[str, Any], type[Exception], dict[str, Any]]] = [
    ({"network": "no-such-network"}, NetworkNotFound, {"network": "no-such-network"}),
    ({"command": ("no-such-command",), "init": False}, CommandNotFound, {}),
    ({"command": ("/no/such/command",), "init": False}, CommandNotFound, {}),
    ({"command": ("/etc/passwd",), "init": False}, CommandNotExecutable, {}),
    ({"user": "no-such-user"}, UserUnknown, {}),
    ({"group_add": ("no-such-group",)}, UserUnknown, {}),
    ({"gpus": "all"}, SpecRejected, {}),
    ({"tmpfs": {"/x": "no-such-option"}}, SpecRejected, {}),
]


@pytest.mark.parametrize(("changes", "error", "carried"), AT_CREATE, ids=[str(each[0]) for each in AT_CREATE])
def test_refused_at_create(
    docker_engine: DockerEngine, spec: Specs, changes: dict[str, Any], error: type[Exception], carried: dict[str, Any]
) -> None:
    with pytest.raises(Problem) as caught:
        docker_engine.create(spec(**changes))

    assert type(caught.value) is error
    assert caught.value.extensions == carried
    assert docker_engine.list() == []


@pytest.mark.parametrize(("changes", "error", "carried"), AT_START, ids=[str(each[0]) for each in AT_START])
def test_refused_at_start(
    docker_engine: DockerEngine, spec: Specs, changes: dict[str, Any], error: type[Exception], carried: dict[str, Any]
) -> None:
    # Some engines refuse a part of these at create already.
    with pytest.raises(Problem) as caught:
        docker_engine.start(docker_engine.create(spec(**changes)))

    assert type(caught.value) is error
    assert caught.value.extensions == carried


class TestConflicts:
    def test_a_name_that_is_taken(self, docker_engine: DockerEngine, spec: Specs) -> None:
        wanted = spec()
        docker_engine.create(wanted)

        with pytest.raises(NameTaken):
            docker_engine.create(wanted)

    def test_a_port_that_a_container_holds(self, docker_engine: DockerEngine, spec: Specs) -> None:
        holder = docker_engine.create(spec(network="bridge", ports=(Publish(80, "tcp", "127.0.0.1"),)))
        docker_engine.start(holder)
        taken = docker_engine.inspect(holder).ports["80/tcp"]
        assert [each.HostIp for each in taken] == ["127.0.0.1"]
        wanted = spec(network="bridge", ports=(Publish(80, "tcp", "127.0.0.1", int(taken[0].HostPort)),))

        with pytest.raises(PortInUse):
            docker_engine.start(docker_engine.create(wanted))

    def test_many_removes_at_once_all_return_when_it_is_gone(self, docker_engine: DockerEngine, running: str) -> None:
        def remove(_: int) -> bool:
            docker_engine.remove(running)
            with pytest.raises(ContainerMissing):
                docker_engine.inspect(running)
            return True

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(remove, range(6)))

    def test_pause_and_resume_of_what_does_not_run(self, docker_engine: DockerEngine, spec: Specs) -> None:
        container = docker_engine.create(spec())

        with pytest.raises(InvalidState):
            docker_engine.pause(container)
        with pytest.raises(InvalidState):
            docker_engine.resume(container)

    def test_start_of_a_paused_one(self, docker_engine: DockerEngine, running: str) -> None:
        docker_engine.pause(running)

        with pytest.raises(InvalidState):
            docker_engine.start(running)


MISSING: list[Callable[[DockerEngine, str], object]] = [
    lambda engine, name: engine.start(name),
    lambda engine, name: engine.inspect(name),
    lambda engine, name: engine.pause(name),
    lambda engine, name: engine.resume(name),
    lambda engine, name: engine.stop(name, 0),
    lambda engine, name: engine.logs(name),
]


@pytest.mark.parametrize("name", ["runtime-ffffffffffff", "../images/x", ""])
@pytest.mark.parametrize("call", MISSING)
def test_a_container_that_does_not_exist(
    docker_engine: DockerEngine, call: Callable[[DockerEngine, str], object], name: str
) -> None:
    with pytest.raises(ContainerMissing):
        call(docker_engine, name)


def test_a_foreign_container_is_neither_inspected_nor_listed(
    docker_engine: DockerEngine, docker_client: APIClient, spec: Specs
) -> None:
    foreign = docker_client.create_container(
        images.BUSYBOX, ["/bin/true"], labels={"runtime-server.instance": "other"}
    )
    try:
        own = docker_engine.create(spec())

        with pytest.raises(ContainerMissing):
            docker_engine.inspect(foreign["Id"])
        assert [each.container_id for each in docker_engine.list()] == [own]
    finally:
        docker_client.remove_container(foreign["Id"])


class TestImages:
    def test_present(self, docker_engine: DockerEngine) -> None:
        assert docker_engine.image_present(images.BUSYBOX)
        assert not docker_engine.image_present("runtime-server-test/none")
        with pytest.raises(ImageReferenceInvalid):
            docker_engine.image_present("../containers/x")

    def test_pull_from_a_registry_that_cannot_be_reached(self, docker_engine: DockerEngine) -> None:
        with pytest.raises(ImagePullFailed) as caught:
            docker_engine.pull("127.0.0.1:1/x:1")

        assert caught.value.extensions == {"image": "127.0.0.1:1/x:1"}
        with pytest.raises(ImageReferenceInvalid):
            docker_engine.pull("Not/Valid")


class Listener:
    """Reads a stream in a thread of its own."""

    def __init__(self, stream: EventStream) -> None:
        self.events: queue.Queue[EngineEvent] = queue.Queue()
        self.stream = stream
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        for each in self.stream:
            self.events.put(each)

    def until(self, action: str) -> list[EngineEvent]:
        found: list[EngineEvent] = []
        while not found or found[-1].action != action:
            found.append(self.events.get(timeout=DEADLINE))
        return found

    def close(self) -> None:
        self.stream.close()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


class TestEvents:
    def test_what_happens_to_our_containers_and_no_others(
        self, docker_engine: DockerEngine, docker_client: APIClient, spec: Specs
    ) -> None:
        listener = Listener(docker_engine.events())
        try:
            foreign = docker_client.create_container(images.BUSYBOX, ["/bin/true"])
            docker_client.remove_container(foreign["Id"])
            wanted = spec()
            container = docker_engine.create(wanted)
            docker_engine.start(container)
            docker_engine.pause(container)
            docker_engine.resume(container)
            docker_engine.stop(container, 0)
            docker_engine.remove(container)
            seen = listener.until("destroy")
        finally:
            listener.close()

        assert {(each.container_id, each.runtime_id) for each in seen} == {(container, wanted.runtime_id)}
        # Of the others, the order differs between engines; 20.10 may tell of a quick pause and resume twice.
        steps = list(dict.fromkeys(each.action for each in seen if each.action not in ("kill", "stop")))
        assert steps == ["create", "start", "pause", "unpause", "die", "destroy"]
        assert abs(seen[0].at - time.time()) < DEADLINE

    def test_what_happened_before_can_be_read_again(self, docker_engine: DockerEngine, spec: Specs) -> None:
        since = time.time()
        docker_engine.remove(docker_engine.create(spec()))

        listener = Listener(docker_engine.events(since))
        try:
            assert [each.action for each in listener.until("destroy")] == ["create", "destroy"]
        finally:
            listener.close()

    def test_close_ends_a_silent_stream_and_one_never_read(self, docker_engine: DockerEngine) -> None:
        silent = Listener(docker_engine.events())
        silent.close()

        unread = docker_engine.events()
        unread.close()
        assert list(unread) == []

    def test_silence_longer_than_the_timeout_of_calls(self, docker_engine: DockerEngine, spec: Specs) -> None:
        hasty = DockerEngine(docker_engine.instance, timeout=0.5)
        listener = Listener(hasty.events())
        try:
            listener.thread.join(1.0)
            docker_engine.create(spec())
            assert listener.until("create")
        finally:
            listener.close()
            hasty.close()


def test_ping_and_version(docker_engine: DockerEngine) -> None:
    docker_engine.ping()
    version = docker_engine.version()

    assert version.name in ("Docker Engine", "Podman Engine")
    assert version.version


def test_no_engine_and_one_that_comes_back(docker_client: APIClient, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    engine = DockerEngine("test", address=f"unix://{path}")
    with pytest.raises(EngineUnreachable) as caught:
        engine.ping()
    assert caught.value.retry_after
    assert str(path) not in caught.value.detail

    there = socket_path()
    assert there is not None, "this test needs an engine on a Unix socket"
    path.symlink_to(there)
    engine.ping()
    engine.close()
