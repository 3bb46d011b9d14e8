"""What the engine in memory has beyond an engine: the ways to make it misbehave, and what users lean on."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import (
    ContainerMissing,
    ContainerState,
    Engine,
    Publish,
    RegistryLogin,
    RuntimeSpec,
    Snapshot,
)
from runtime_server.engine.files import PathMissing
from runtime_server.engine.inside import ExecSpec, LogQuery
from runtime_server.engine.limits import NewLimits
from runtime_server.engine.memory import METHODS, MemoryEngine
from runtime_server.engine.memory_images import Program, normalise
from runtime_server.engine.stock import PullState
from runtime_server.errors import (
    CommandNotExecutable,
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    ImageNotFound,
    ImageReferenceInvalid,
    InvalidState,
    PortInUse,
)

DEADLINE = 60.0
NOW = 1_700_000_000.0


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine("tests", clock=lambda: NOW)


def spec(**changes: Any) -> RuntimeSpec:
    runtime_id = changes.pop("runtime_id", "runtime-0")
    return RuntimeSpec(
        runtime_id=runtime_id,
        image=changes.pop("image", "busybox"),
        labels={labels.INSTANCE: "tests", labels.RUNTIME_ID: runtime_id},
        **changes,
    )


def run(engine: Engine, **changes: Any) -> str:
    container = engine.create(spec(**changes))
    engine.start(container)
    return container


def drain(engine: MemoryEngine) -> list[str]:
    """The actions of all events so far."""
    stream = engine.events(since=0)
    stream.close()
    return [event.action for event in stream]


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("me/agent:1", "docker.io/me/agent:1"),
        ("localhost/agent", "localhost/agent:latest"),
        ("registry:5000/agent", "registry:5000/agent:latest"),
        ("r.example/a/b@sha256:" + "0" * 64, "r.example/a/b@sha256:" + "0" * 64),
    ],
)
def test_references_in_full(reference: str, full: str) -> None:
    assert normalise(reference) == full


@pytest.mark.parametrize("reference", ["a" * 256, "-a", "a//b", "a:" + "t" * 129, "ä", "a\n"])
def test_malformed_references(reference: str) -> None:
    with pytest.raises(ImageReferenceInvalid):
        normalise(reference)


def test_image_that_has_to_be_pulled(engine: MemoryEngine) -> None:
    engine.add_pullable("me/agent:1", exposed=["8000/tcp"])
    steps: list[PullState] = []

    assert not engine.image_present("me/agent:1")
    engine.pull("me/agent:1", login=RegistryLogin("me", "secret"), progress=steps.append)
    assert engine.image_present("docker.io/me/agent:1")
    assert [[(each.phase, each.current) for each in step.layers] for step in steps] == [
        [("Downloading", 500_000)],
        [("Pull complete", 1_000_000)],
    ]
    assert engine.inspect(run(engine, image="me/agent:1")).ports == {"8000/tcp": []}
    with pytest.raises(ImageNotFound):
        engine.pull("me/agent:2")


def test_image_that_no_registry_has(engine: MemoryEngine) -> None:
    engine.add_image("local", environment={"PATH": "/bin"}, labels={"maker": "me"})

    snapshot = engine.inspect(run(engine, image="local"))
    assert snapshot.environment == {"PATH": "/bin"}
    assert snapshot.labels["maker"] == "me"
    with pytest.raises(ImageNotFound):
        engine.pull("local")
    engine.remove_image("local")
    assert not engine.image_present("local")


def test_programs_say_what_commands_do(engine: MemoryEngine) -> None:
    engine.add_image("tool", programs={"build": Program(exit_code=2, output="no rule\n")})

    built = run(engine, image="tool", command=("build", "all"))
    assert (engine.inspect(built).exit_code, engine.logs(built)) == (2, "no rule\n")
    assert engine.inspect(run(engine, image="tool", runtime_id="runtime-1", command=("serve",))).exit_code is None
    stubborn = MemoryEngine("tests")
    stubborn.add_image("stubborn", other=Program(heeds_term=False))
    container = run(stubborn, image="stubborn")
    stubborn.stop(container, 5)
    assert stubborn.inspect(container).exit_code == 137


def test_command_that_is_not_executable(engine: MemoryEngine) -> None:
    container = engine.create(spec(command=("/etc/passwd",), init=False))

    with pytest.raises(CommandNotExecutable):
        engine.start(container)
    started = run(engine, runtime_id="runtime-1", command=("/etc/passwd",), init=True)
    assert engine.inspect(started).exit_code == 126


def test_entrypoint_drops_the_images_command(engine: MemoryEngine) -> None:
    container = run(engine, entrypoint=("echo",))

    assert engine.logs(container) == "\n"


def test_ports_are_handed_out_in_a_circle(engine: MemoryEngine) -> None:
    ports = []
    for number in range(3):
        container = run(engine, runtime_id=f"runtime-{number}", ports=(Publish(80, "tcp", "127.0.0.1"),))
        ports.append(engine.inspect(container).ports["80/tcp"][0].HostPort)
        engine.remove(container)

    assert ports == ["32768", "32769", "32770"]


@pytest.mark.parametrize(
    ("other", "conflict"),
    [
        (Publish(80, "tcp", "127.0.0.1", 5000), True),
        (Publish(80, "tcp", "0.0.0.0", 5000), True),
        (Publish(80, "tcp", "127.0.0.2", 5000), False),
        (Publish(80, "udp", "127.0.0.1", 5000), False),
        (Publish(80, "tcp", "127.0.0.1", 5001), False),
    ],
)
def test_what_makes_ports_collide(engine: MemoryEngine, other: Publish, conflict: bool) -> None:
    run(engine, ports=(Publish(80, "tcp", "127.0.0.1", 5000),))
    second = engine.create(spec(runtime_id="runtime-1", ports=(other,)))

    if conflict:
        with pytest.raises(PortInUse):
            engine.start(second)
    else:
        engine.start(second)
    assert engine.inspect(second).state == ("created" if conflict else "running")


def test_exit_for_lack_of_memory(engine: MemoryEngine) -> None:
    container = run(engine)
    engine.exit("runtime-0", 137, oom=True)

    ended = engine.inspect(container)
    assert (ended.state, ended.exit_code, ended.oom_killed) == (ContainerState.EXITED, 137, True)
    assert ended.finished_at == NOW
    assert drain(engine) == ["create", "start", "oom", "die"]
    with pytest.raises(InvalidState):
        engine.exit(container, 0)


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [
        (("always", 0), 0, 3),
        (("unless-stopped", 0), 0, 3),
        (("on-failure", 2), 1, 2),
        (("on-failure", 0), 1, 3),
        (("on-failure", 0), 0, 0),
        (("no", 0), 1, 0),
    ],
)
def test_restart_policy(engine: MemoryEngine, policy: tuple[str, int], code: int, restarts: int) -> None:
    container = run(engine, restart_policy=policy)
    for _ in range(3):
        if engine.inspect(container).state is ContainerState.RUNNING:
            engine.exit(container, code)

    assert engine.inspect(container).restart_count == restarts


def test_stop_holds_against_a_restart_policy(engine: MemoryEngine) -> None:
    container = run(engine, restart_policy=("always", 0))
    engine.stop(container, 5)

    assert engine.inspect(container).state is ContainerState.EXITED


def test_vanished(engine: MemoryEngine) -> None:
    container = run(engine)
    engine.vanish("runtime-0")

    assert drain(engine)[-2:] == ["die", "destroy"]
    with pytest.raises(ContainerMissing):
        engine.inspect(container)


def test_failures_come_in_order_and_once(engine: MemoryEngine) -> None:
    engine.fail_next("ping", EngineFailed("first"))
    engine.fail_next("ping", EngineFailed("second"))

    for text in ("first", "second"):
        with pytest.raises(EngineFailed, match=text):
            engine.ping()
    engine.ping()
    assert engine.calls["ping"] == 3


@pytest.mark.parametrize(("after", "state"), [(False, "created"), (True, "running")])
def test_failure_before_or_after_acting(engine: MemoryEngine, after: bool, state: str) -> None:
    container = engine.create(spec())
    engine.fail_next("start", EngineTimeout(), after=after)

    with pytest.raises(EngineTimeout):
        engine.start(container)
    assert engine.inspect(container).state == state


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w"):
        pass
    return out.getvalue()


def absent(call: Callable[[], object]) -> None:
    with suppress(PathMissing):
        call()


SEEN = Snapshot("runtime-0", "runtime-0", ContainerState.RUNNING, "busybox", {})
CALLS: dict[str, Callable[[MemoryEngine], object]] = {
    "ping": lambda engine: engine.ping(),
    "version": lambda engine: engine.version(),
    "image_facts": lambda engine: engine.image_facts("busybox"),
    "image_present": lambda engine: engine.image_present("busybox"),
    "pull": lambda engine: engine.pull("busybox"),
    "create": lambda engine: engine.create(spec(runtime_id="runtime-1")),
    "start": lambda engine: engine.start("runtime-0"),
    "inspect": lambda engine: engine.inspect("runtime-0"),
    "pause": lambda engine: engine.pause("runtime-0"),
    "resume": lambda engine: engine.resume("runtime-0"),
    "stop": lambda engine: engine.stop("runtime-0", 5),
    "remove": lambda engine: engine.remove("runtime-0"),
    "list": lambda engine: engine.list(),
    "logs": lambda engine: engine.logs("runtime-0"),
    "http_status": lambda engine: engine.http_status(SEEN, 80, "/health", 1),
    "http_json": lambda engine: engine.http_json(SEEN, 80, "/server_info", 1),
    "connections": lambda engine: engine.connections("runtime-0", None),
    "commands": lambda engine: engine.commands("runtime-0"),
    "command_status": lambda engine: engine.command_status("runtime-0", ("true",), 1),
    "log_entries": lambda engine: engine.log_entries("runtime-0", LogQuery()),
    "exec": lambda engine: engine.exec("runtime-0", ExecSpec(("true",), "m")),
    "exec_state": lambda engine: engine.exec_state("none"),
    "sample": lambda engine: engine.sample("runtime-0"),
    "set_limits": lambda engine: engine.set_limits("runtime-0", NewLimits(cpus=1.5)),
    "file_entry": lambda engine: engine.file_entry("runtime-0", "/"),
    "read_archive": lambda engine: engine.read_archive("runtime-0", "/").close(),
    "write_archive": lambda engine: engine.write_archive("runtime-0", "/", [tar()]),
    "list_folder": lambda engine: engine.list_folder("runtime-0", "/", 10),
    "delete_path": lambda engine: absent(lambda: engine.delete_path("runtime-0", "/none", recursive=False)),
    "file_owner": lambda engine: engine.file_owner("runtime-0", None),
    "list_images": lambda engine: engine.list_images(),
    "delete_image": lambda engine: engine.delete_image("none"),
    "build_cache": lambda engine: engine.build_cache(0),
    "prune_build_cache": lambda engine: engine.prune_build_cache(0),
    "events": lambda engine: engine.events().close(),
    "ensure_network": lambda engine: engine.ensure_network("ours"),
    "find_network": lambda engine: engine.find_network("ours"),
    "remove_network": lambda engine: engine.remove_network("ours"),
    "ensure_volume": lambda engine: engine.ensure_volume("ours", {labels.INSTANCE: "tests"}),
    "find_volume": lambda engine: engine.find_volume("ours"),
    "list_volumes": lambda engine: engine.list_volumes(labels.INSTANCE),
    "volume_sizes": lambda engine: engine.volume_sizes(),
    "remove_volume": lambda engine: engine.remove_volume("ours"),
    "give_folder": lambda engine: engine.give_folder("runtime-0", "/workspace"),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_call_can_fail_is_counted_and_knows_absence(engine: MemoryEngine, method: str) -> None:
    run(engine)
    engine.calls.clear()
    engine.fail_next(method, EngineFailed())
    with pytest.raises(EngineFailed):
        CALLS[method](engine)
    engine.away = True
    with pytest.raises(EngineUnreachable):
        CALLS[method](engine)
    engine.away = False
    CALLS[method](engine)

    assert engine.calls == {method: 3}


def test_going_away_ends_streams_and_nothing_else(engine: MemoryEngine) -> None:
    container = run(engine)
    stream, other = engine.events(), engine.sibling().events()
    engine.away = True

    assert (list(stream), list(other)) == ([], [])
    engine.away = False
    assert engine.inspect(container).state is ContainerState.RUNNING


def test_hook_holds_up_its_call_alone(engine: MemoryEngine) -> None:
    container = engine.create(spec())
    reached, go_on = Event(), Event()

    def hold() -> None:
        reached.set()
        assert go_on.wait(DEADLINE)

    engine.hook("start", hold)
    starter = Thread(target=engine.start, args=(container,))
    starter.start()
    assert reached.wait(DEADLINE)
    assert engine.inspect(container).state is ContainerState.CREATED
    go_on.set()
    starter.join(DEADLINE)
    assert engine.inspect(container).state is ContainerState.RUNNING


def test_delay_and_the_end_of_hooks(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("runtime_server.engine.memory.time.sleep", slept.append)
    engine.delay("ping", 0.25)
    engine.ping()
    engine.clear_hooks()
    engine.ping()

    assert slept == [0.25]
    with pytest.raises(ValueError, match="pnig"):
        engine.delay("pnig", 1)


def test_written_output(engine: MemoryEngine) -> None:
    container = run(engine)
    engine.write(container, "one\ntwo\n")

    assert engine.logs(container, tail=1) == "two\n"
    assert engine.logs(container, tail=0) == ""


def test_network_added(engine: MemoryEngine) -> None:
    engine.add_network("agents")

    assert engine.inspect(run(engine, network="agents")).state is ContainerState.RUNNING
