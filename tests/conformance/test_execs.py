"""Commands in containers, in any engine."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import ExecSession, ExecSpec
from runtime_server.errors import CommandNotExecutable, CommandNotFound, InvalidState
from tests.conformance.conftest import DEADLINE, Bench


def spec(*command: str, **changes: Any) -> ExecSpec:
    return ExecSpec(command, f"marker-{time.monotonic_ns()}", **changes)


def outputs(session: ExecSession) -> dict[str, bytes]:
    """All that a command writes, up to its end."""
    found = {"stdout": b"", "stderr": b""}
    ends = time.monotonic() + DEADLINE
    try:
        while True:
            assert time.monotonic() < ends, f"it wrote {found} and goes on"
            piece = session.receive(0.5)
            if piece is not None:
                found[piece.stream] += piece.data
    except FeedEnded:
        return found


def ran(bench: Bench, container: str, made: ExecSpec) -> tuple[bytes, bytes, int | None]:
    session = bench.engine.exec(container, made)
    try:
        found = outputs(session)
        assert bench.engine.exec_state(session.exec_id) == (False, session.exit_code())
        return found["stdout"], found["stderr"], session.exit_code()
    finally:
        session.close()


def test_outputs_and_exit_codes(bench: Bench) -> None:
    container = bench.run()
    assert ran(bench, container, spec("echo", "one", "two")) == (b"one two\n", b"", 0)
    assert ran(bench, container, spec("/bin/sh", "-c", "echo wrong >&2; exit 7")) == (b"", b"wrong\n", 7)
    assert ran(bench, container, spec("true")) == (b"", b"", 0)
    assert bench.state(container) == "running"


def test_input_comes_and_ends(bench: Bench) -> None:
    session = bench.engine.exec(bench.run(), spec("cat", stdin=True))
    session.send(b"first ")
    found = session.receive(DEADLINE)
    assert found is not None
    assert found.data == b"first "
    assert session.receive(0.05) is None
    session.send(b"x" * 300_000)
    session.end_input()
    assert outputs(session) == {"stdout": b"x" * 300_000, "stderr": b""}
    assert session.exit_code() == 0
    session.close()


def test_without_input_there_is_none(bench: Bench) -> None:
    assert ran(bench, bench.run(), spec("cat")) == (b"", b"", 0)


@pytest.mark.parametrize("tty", [True, False])
def test_kill_ends_it_and_not_the_container(bench: Bench, tty: bool) -> None:
    container = bench.run()
    session = bench.engine.exec(container, spec("sleep", "600", tty=tty))
    assert session.receive(0.1) is None
    assert bench.engine.exec_state(session.exec_id) == (True, None)
    assert session.kill()
    outputs(session)
    assert session.exit_code() == 137
    assert bench.state(container) == "running"
    session.close()
    assert session.kill()


@pytest.mark.parametrize("state", ["created", "paused", "exited"])
def test_only_a_running_container_runs_commands(bench: Bench, state: str) -> None:
    container = bench.in_state(state)
    with pytest.raises(InvalidState):
        bench.engine.exec(container, spec("true"))
    assert bench.state(container) == state


def test_no_container_no_command(bench: Bench) -> None:
    with pytest.raises(ContainerMissing):
        bench.engine.exec(bench.in_state("gone"), spec("true"))
    assert bench.engine.exec_state("0" * 64) is None


@pytest.mark.parametrize(
    ("command", "error"), [("/no/such/command", CommandNotFound), ("/etc/passwd", CommandNotExecutable)]
)
def test_what_cannot_be_started(bench: Bench, command: str, error: type[Exception]) -> None:
    session = bench.engine.exec(bench.run(), spec(command))
    with pytest.raises(error):
        outputs(session)
    session.close()


def test_a_command_ends_with_the_container(bench: Bench) -> None:
    container = bench.run()
    session = bench.engine.exec(container, spec("sleep", "600"))
    assert session.receive(0.05) is None
    bench.engine.stop(container, 0)
    outputs(session)
    assert session.exit_code() == 137
    session.close()


def test_a_terminal_has_one_output_and_a_size(bench: Bench) -> None:
    container = bench.run()
    session = bench.engine.exec(container, spec("/bin/sh", "-c", "echo wrong >&2; exit 3", tty=True))
    found = outputs(session)
    assert (found["stdout"].replace(b"\r", b""), found["stderr"]) == (b"wrong\n", b"")
    session.resize(10, 20)  # of one that has ended: nothing
    session.close()
    running = bench.engine.exec(container, spec("sleep", "600", tty=True))
    running.resize(40, 132)
    running.kill()
    running.close()
