"""What the service relies on, in any engine. Docker's answers were measured; the engine in memory follows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import Any

import pytest

from runtime_server.engine.base import (
    ContainerMissing,
    ContainerState,
    Engine,
    EngineEvent,
    EventStream,
    Mount,
    NameTaken,
    Publish,
)
from runtime_server.errors import (
    CommandNotFound,
    ImageNotFound,
    ImageReferenceInvalid,
    InvalidState,
    LimitOutOfRange,
    MountSourceMissing,
    NetworkNotFound,
    PortInUse,
    Problem,
    RuntimeClassUnknown,
)
from runtime_server.models import HostPort
from tests.conformance.conftest import DEADLINE, Bench

LOOPBACK = "127.0.0.1"

ACTIONS: dict[str, Callable[[Engine, str], object]] = {
    "start": lambda engine, container: engine.start(container),
    "pause": lambda engine, container: engine.pause(container),
    "resume": lambda engine, container: engine.resume(container),
    "stop": lambda engine, container: engine.stop(container, 5),
    "remove": lambda engine, container: engine.remove(container),
    "inspect": lambda engine, container: engine.inspect(container),
    "logs": lambda engine, container: engine.logs(container),
}

# In which state, what the action answers or raises, and the state that it leads to.
TABLE: list[tuple[str, str, object, str]] = [
    ("created", "start", None, "running"),
    ("created", "pause", InvalidState, "created"),
    ("created", "resume", InvalidState, "created"),
    ("created", "stop", False, "created"),
    ("created", "remove", True, "gone"),
    ("running", "start", None, "running"),
    ("running", "pause", True, "paused"),
    ("running", "resume", False, "running"),
    ("running", "stop", True, "exited"),
    ("running", "remove", True, "gone"),
    ("paused", "start", InvalidState, "paused"),
    ("paused", "pause", False, "paused"),
    ("paused", "resume", True, "running"),
    ("paused", "stop", True, "exited"),
    ("paused", "remove", True, "gone"),
    ("exited", "start", None, "running"),
    ("exited", "pause", InvalidState, "exited"),
    ("exited", "resume", InvalidState, "exited"),
    ("exited", "stop", False, "exited"),
    ("exited", "remove", True, "gone"),
    ("gone", "start", ContainerMissing, "gone"),
    ("gone", "pause", ContainerMissing, "gone"),
    ("gone", "resume", ContainerMissing, "gone"),
    ("gone", "stop", ContainerMissing, "gone"),
    ("gone", "remove", False, "gone"),
    ("gone", "inspect", ContainerMissing, "gone"),
    ("gone", "logs", ContainerMissing, "gone"),
]


def outcome(call: Callable[[], object]) -> object:
    """What a call answers, or the class of what it raises."""
    try:
        return call()
    except (Problem, ContainerMissing, NameTaken) as error:
        return type(error)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """The outcomes of calls that set out together."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        barrier.wait(DEADLINE)
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def follow(stream: EventStream, last: str) -> list[EngineEvent]:
    """The events up to the first whose action is ``last``."""
    seen: list[EngineEvent] = []

    def read() -> None:
        for event in stream:
            seen.append(event)
            if event.action == last:
                return

    thread = Thread(target=read)
    thread.start()
    thread.join(DEADLINE)
    stream.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    return seen


def actions(events: Iterable[EngineEvent]) -> list[str]:
    """The actions that all engines tell of, without the signals between them."""
    told = ("create", "start", "pause", "unpause", "die", "destroy")
    return [event.action for event in events if event.action in told]


@pytest.mark.parametrize(("state", "action", "expected", "after"), TABLE)
def test_state_table(bench: Bench, state: str, action: str, expected: object, after: str) -> None:
    container = bench.in_state(state)

    assert outcome(lambda: ACTIONS[action](bench.engine, container)) == expected
    assert bench.state(container) == after


def test_engine_answers(bench: Bench) -> None:
    bench.engine.ping()

    assert bench.engine.version().name


def test_image_presence(bench: Bench) -> None:
    assert bench.engine.image_present(bench.image)
    assert not bench.engine.image_present("runtime-server-test/absent:1")
    with pytest.raises(ImageNotFound):
        bench.create(image="runtime-server-test/absent:1")


def test_image_facts(bench: Bench) -> None:
    found = bench.engine.image_facts(bench.image)

    assert found is not None
    assert found.size > 0
    assert found.created_at is not None
    assert 0 < found.created_at <= time.time() + 60
    assert bench.engine.image_facts("runtime-server-test/absent:1") is None


@pytest.mark.parametrize("image", ["", "Upper", "two words", "name:", "name@sha256:12", "/name", "name:tag:tag"])
def test_malformed_reference(bench: Bench, image: str) -> None:
    for call in (
        bench.engine.image_present,
        bench.engine.image_facts,
        bench.engine.pull,
        lambda name: bench.create(image=name),
    ):
        with pytest.raises(ImageReferenceInvalid):
            call(image)


def test_created_container(bench: Bench) -> None:
    spec = bench.spec(environment={"COLOUR": "green"})
    container = bench.engine.create(spec)

    by_id, by_name = bench.engine.inspect(container), bench.engine.inspect(spec.runtime_id)
    assert by_id == by_name
    assert (by_id.container_id, by_id.name, by_id.state) == (container, spec.runtime_id, ContainerState.CREATED)
    assert spec.labels.items() <= by_id.labels.items()
    assert by_id.environment["COLOUR"] == "green"
    assert by_id.image == spec.image
    assert by_id.created_at is not None
    assert (by_id.started_at, by_id.finished_at, by_id.exit_code) == (None, None, None)


def test_name_taken(bench: Bench) -> None:
    spec = bench.spec()
    bench.engine.create(spec)

    with pytest.raises(NameTaken):
        bench.engine.create(spec)
    assert len(bench.engine.list()) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"runtime_class": "no-such-class"}, RuntimeClassUnknown),
        ({"memory": 1024 * 1024}, LimitOutOfRange),
        ({"cpus": 4096.0}, LimitOutOfRange),
        ({"mounts": (Mount("/no/such/folder", "/data"),)}, MountSourceMissing),
    ],
)
def test_refused_at_create(bench: Bench, changes: dict[str, Any], error: type[Problem]) -> None:
    with pytest.raises(error):
        bench.create(**changes)
    assert bench.engine.list() == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"network": "no-such-network"}, NetworkNotFound),
        ({"command": ("/no/such/command",), "init": False}, CommandNotFound),
    ],
)
def test_failed_start(bench: Bench, changes: dict[str, Any], error: type[Problem]) -> None:
    stream = bench.engine.events()
    container = bench.create(**changes)

    with pytest.raises(error):
        bench.engine.start(container)
    left = bench.engine.inspect(container)
    assert (left.state, left.exit_code) == (ContainerState.CREATED, None)
    assert left.error
    bench.engine.remove(container)
    assert actions(follow(stream, "destroy")) == ["create", "destroy"]


def test_missing_command_with_init_starts_and_ends(bench: Bench) -> None:
    stream = bench.engine.events()
    container = bench.run(command=("/no/such/command",), init=True)

    assert actions(follow(stream, "die")) == ["create", "start", "die"]
    bench.until_exited(container)
    assert bench.engine.inspect(container).exit_code == 127


def test_running_container(bench: Bench) -> None:
    container = bench.run()

    running = bench.engine.inspect(container)
    assert running.started_at is not None
    assert running.created_at is not None
    assert running.created_at <= running.started_at
    assert (running.finished_at, running.exit_code, running.error) == (None, None, "")


def test_something_else_is_done_while_the_engine_works(bench: Bench) -> None:
    container, done = bench.run(), []
    assert bench.engine.pause(container, lambda: done.append("pause"))
    assert bench.engine.resume(container, lambda: done.append("resume"))
    assert done == ["pause", "resume"]
    # At most once, however often the engine has to be asked.
    assert not bench.engine.resume(container, lambda: done.append("again"))
    assert done.count("again") <= 1
    # The connection is as good as before, after a refusal too.
    with pytest.raises(ContainerMissing):
        bench.engine.pause("runtime-ffffffffffff", lambda: done.append("missing"))
    assert bench.engine.pause(container)


def test_published_and_exposed_ports(bench: Bench) -> None:
    published = (Publish(9000, "tcp", LOOPBACK), Publish(9000, "udp", LOOPBACK))
    container = bench.run(image=bench.exposing_image, ports=published)

    ports = bench.engine.inspect(container).ports
    assert set(ports) == {"8000/tcp", "9000/tcp", "9000/udp"}
    assert ports["8000/tcp"] == []
    for key in ("9000/tcp", "9000/udp"):
        [binding] = ports[key]
        assert binding.HostIp == LOOPBACK
        assert int(binding.HostPort) >= 32768


def test_port_stays_over_pause(bench: Bench) -> None:
    container = bench.run(ports=(Publish(9000, "tcp", LOOPBACK),))
    before = bench.engine.inspect(container).ports

    bench.engine.pause(container)
    assert bench.engine.inspect(container).ports == before
    bench.engine.resume(container)
    assert bench.engine.inspect(container).ports == before


@pytest.mark.parametrize("state", ["created", "exited"])
def test_ports_are_bound_only_while_it_runs(bench: Bench, state: str) -> None:
    container = bench.create(image=bench.exposing_image, ports=(Publish(9000, "tcp", LOOPBACK),))
    if state == "exited":
        bench.engine.start(container)
        bench.engine.stop(container, 5)

    assert bench.engine.inspect(container).ports == {"8000/tcp": [], "9000/tcp": []}


def test_no_network_binds_no_port(bench: Bench) -> None:
    container = bench.run(image=bench.exposing_image, network="none", ports=(Publish(9000, "tcp", LOOPBACK),))

    assert bench.engine.inspect(container).ports == {"8000/tcp": [], "9000/tcp": []}


def test_port_in_use_until_it_is_free(bench: Bench) -> None:
    holder = bench.run(ports=(Publish(9000, "tcp", LOOPBACK),))
    [binding] = bench.engine.inspect(holder).ports["9000/tcp"]
    taken = int(binding.HostPort)
    second = bench.create(ports=(Publish(9000, "tcp", LOOPBACK, taken),))
    bench.engine.pause(holder)

    with pytest.raises(PortInUse):
        bench.engine.start(second)
    assert bench.state(second) == "created"
    bench.engine.remove(holder)
    bench.engine.start(second)
    assert bench.engine.inspect(second).ports["9000/tcp"] == [HostPort(HostIp=LOOPBACK, HostPort=str(taken))]


def test_stop_lets_the_process_end(bench: Bench) -> None:
    container = bench.run(init=True)
    bench.engine.stop(container, 20)

    ended = bench.engine.inspect(container)
    assert (ended.exit_code, ended.oom_killed) == (143, False)
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert ended.started_at <= ended.finished_at


def test_stop_reaches_a_paused_process_with_term(bench: Bench) -> None:
    container = bench.run(init=True)
    bench.engine.pause(container)
    bench.engine.stop(container, 20)

    assert bench.engine.inspect(container).exit_code == 143


def test_stop_kills_what_does_not_heed_term(bench: Bench) -> None:
    container = bench.run(init=False)
    bench.engine.stop(container, 1)

    assert bench.engine.inspect(container).exit_code == 137


def test_stop_without_grace(bench: Bench) -> None:
    container = bench.run(init=True)

    assert bench.engine.stop(container, 0) is True
    assert bench.engine.inspect(container).exit_code in (137, 143)


def test_start_again_forgets_how_it_ended(bench: Bench) -> None:
    container = bench.in_state("exited")
    bench.engine.start(container)

    again = bench.engine.inspect(container)
    assert (again.state, again.exit_code) == (ContainerState.RUNNING, None)


def test_process_that_ends_by_itself(bench: Bench) -> None:
    container = bench.run(command=("sh", "-c", "echo farewell; exit 3"))
    bench.until_exited(container)

    assert bench.engine.inspect(container).exit_code == 3
    assert bench.engine.logs(container) == "farewell\n"


def test_log_tail(bench: Bench) -> None:
    container = bench.run(command=("echo", "one\ntwo\nthree"))
    bench.until_exited(container)

    assert bench.engine.logs(container) == "one\ntwo\nthree\n"
    assert bench.engine.logs(container, tail=2) == "two\nthree\n"


def test_list_has_every_state(bench: Bench) -> None:
    made = {bench.in_state(state): state for state in ("created", "running", "paused", "exited")}

    listed = bench.engine.list()
    assert {each.container_id: str(each.state) for each in listed} == made
    assert {each.name for each in listed} == {bench.engine.inspect(container).name for container in made}
    assert all(each.labels["team"] == "blue" for each in listed)


def test_life_in_events(bench: Bench) -> None:
    stream = bench.engine.events()
    spec = bench.spec()
    container = bench.engine.create(spec)
    for action in ("start", "pause", "resume", "stop", "remove"):
        ACTIONS[action](bench.engine, container)

    events = follow(stream, "destroy")
    assert actions(events) == ["create", "start", "pause", "unpause", "die", "destroy"]
    assert {(event.container_id, event.runtime_id) for event in events} == {(container, spec.runtime_id)}
    assert {event.action: event.exit_code for event in events if event.exit_code is not None} == {"die": 143}
    times = [event.at for event in events]
    assert times == sorted(times)


def test_stop_of_a_paused_one_tells_of_the_thaw(bench: Bench) -> None:
    container = bench.in_state("paused")
    stream = bench.engine.events()
    bench.engine.stop(container, 5)

    assert "unpause" in actions(follow(stream, "die"))


def test_removal_of_a_running_one_tells_of_its_end(bench: Bench) -> None:
    container = bench.in_state("running")
    stream = bench.engine.events()
    bench.engine.remove(container)

    assert actions(follow(stream, "destroy")) == ["die", "destroy"]


def test_events_are_replayed_since(bench: Bench) -> None:
    container = bench.in_state("exited")
    finished_at = bench.engine.inspect(container).finished_at
    bench.engine.remove(container)
    assert finished_at is not None

    assert actions(follow(bench.engine.events(since=finished_at - 0.001), "destroy"))[-2:] == ["die", "destroy"]


def test_each_follower_gets_every_event(bench: Bench) -> None:
    first, second = bench.engine.events(), bench.connect().events()
    bench.engine.remove(bench.create())

    assert actions(follow(first, "destroy")) == actions(follow(second, "destroy")) == ["create", "destroy"]


def test_close_ends_a_stream_that_is_being_read(bench: Bench) -> None:
    stream = bench.engine.events()
    reader = Thread(target=lambda: list(stream))
    reader.start()
    stream.close()
    stream.close()
    reader.join(DEADLINE)

    assert not reader.is_alive()


def test_foreign_containers_do_not_exist(bench: Bench) -> None:
    stream = bench.engine.events()
    theirs = bench.connect("foreign-to-" + bench.instance)
    spec = bench.spec(instance=theirs.instance)
    container = theirs.create(spec)
    theirs.start(container)

    for name in (container, spec.runtime_id):
        with pytest.raises(ContainerMissing):
            bench.engine.inspect(name)
    assert bench.engine.list() == []
    with pytest.raises(NameTaken):
        bench.engine.create(bench.spec(runtime_id=spec.runtime_id))
    bench.engine.remove(bench.create())
    assert container not in {event.container_id for event in follow(stream, "destroy")}
    assert theirs.inspect(container).state is ContainerState.RUNNING


def test_another_client_of_the_instance_sees_the_same(bench: Bench) -> None:
    container = bench.in_state("paused")
    other = bench.connect()

    assert other.resume(container) is True
    assert bench.state(container) == "running"


@pytest.mark.parametrize(("state", "action"), [("running", "pause"), ("paused", "resume")])
def test_only_one_of_two_at_once_changes_it(bench: Bench, state: str, action: str) -> None:
    container = bench.in_state(state)
    act = ACTIONS[action]

    answers = at_once(*[lambda: act(bench.engine, container)] * 2)
    assert sorted(map(bool, answers)) == [False, True]
    assert InvalidState not in answers


@pytest.mark.parametrize(("action", "after"), [("stop", "exited"), ("remove", "gone")])
def test_ends_at_once(bench: Bench, action: str, after: str) -> None:
    container = bench.in_state("running")
    act = ACTIONS[action]

    answers = at_once(*[lambda: act(bench.engine, container)] * 4)
    assert set(answers) <= {True, False}
    assert True in answers
    assert bench.state(container) == after


def test_create_twice_at_once(bench: Bench) -> None:
    spec = bench.spec()

    answers = at_once(*[lambda: bench.engine.create(spec)] * 2)
    assert answers.count(NameTaken) == 1
    assert len(bench.engine.list()) == 1


def test_one_host_port_for_many_at_once(bench: Bench) -> None:
    probe = bench.run(ports=(Publish(9000, "tcp", LOOPBACK),))
    port = int(bench.engine.inspect(probe).ports["9000/tcp"][0].HostPort)
    bench.engine.remove(probe)
    rivals = [bench.create(ports=(Publish(9000, "tcp", LOOPBACK, port),)) for _ in range(3)]

    answers = at_once(*[lambda each=each: bench.engine.start(each) for each in rivals])
    assert sorted(map(str, answers)) == sorted(map(str, [None, PortInUse, PortInUse]))
    assert sorted(map(bench.state, rivals)) == ["created", "created", "running"]


def test_pause_against_stop_ends_stopped(bench: Bench) -> None:
    container = bench.in_state("running")

    paused, stopped = at_once(lambda: bench.engine.pause(container), lambda: bench.engine.stop(container, 5))
    assert paused in (True, InvalidState)
    assert stopped is True
    assert bench.state(container) == "exited"
