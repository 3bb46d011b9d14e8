"""Commands in runtimes, on the engine in memory: their rules, limits and times, and once for each key."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import ExecOutput
from runtime_server.engine.memory_commands import MemoryExec
from runtime_server.engine.memory_images import Program
from runtime_server.errors import (
    CommandNotFound,
    EngineTimeout,
    EngineUnreachable,
    ExecOutcomeUnknown,
    InvalidState,
    PolicyRefused,
    RuntimeNotFound,
    TooManyWaiting,
    ValidationFailed,
)
from runtime_server.models import ExecRequest, ExecResult
from runtime_server.runtimes import execs
from runtime_server.service import Service
from tests.unit.conftest import ALICE, BOB, DEADLINE, World, eventually, start

TALKER = "talker"


@pytest.fixture
def runtime(service: Service, world: World) -> str:
    """One with programs that write much, and none of whose commands ends by itself unless it says so."""
    programs = {
        "talk": Program(0, "x" * 5000, errors="y" * 10),
        "umlauts": Program(0, "ä" * 100),
        "fail": Program(3),
        "cat": Program(echoes=True),
        "missing": Program(exec_error=127),
    }
    world.engine.add_image(TALKER, programs=programs)
    return start(service, image=TALKER).runtime_id


def request(command: Any = ("talk",), **fields: Any) -> ExecRequest:
    words = command if isinstance(command, str) else list(command)
    return ExecRequest.model_validate({"command": words, **fields})


def run(service: Service, runtime: str, *command: str, key: str | None = None, **fields: Any) -> ExecResult:
    return service.inside.execs.run(ALICE, runtime, request(command, **fields), key=key)


def commands(world: World) -> list[MemoryExec]:
    return list(world.engine._world.execs.values())


def test_what_it_wrote_and_how_it_ended(service: Service, runtime: str, world: World) -> None:
    result = run(service, runtime, "talk", environment={"A": "b"}, working_dir="/tmp", user="nobody:1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "x" * 5000, "y" * 10)
    assert (result.timed_out, result.killed, result.truncated) == (False, None, False)
    assert run(service, runtime, "fail").exit_code == 3
    (first, _) = commands(world)
    assert (first.exec_id, first.spec.user, first.spec.working_dir) == (result.exec_id, "nobody:1", "/tmp")
    assert first.spec.environment == {"A": "b"}
    assert len(first.spec.marker) == 32
    assert service.inside.execs.run(ALICE, runtime, request("echo a b; exit 4")).exit_code == 4


def test_input_as_text_and_as_bytes(service: Service, runtime: str) -> None:
    assert run(service, runtime, "cat", stdin="grüße").stdout == "grüße"
    data = base64.b64encode(bytes(range(256))).decode()
    assert run(service, runtime, "cat", stdin=data, encoding="base64").stdout == data
    assert run(service, runtime, "cat", stdin="").stdout == ""
    with pytest.raises(ValidationFailed):
        run(service, runtime, "cat", stdin="not base64!", encoding="base64")


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (1, 1), (4999, 4999), (5000, 5000), (10**9, 5000)])
def test_the_beginning_of_much_output_is_kept(service: Service, runtime: str, limit: int, kept: int) -> None:
    result = run(service, runtime, "talk", output_limit=limit)
    assert (result.stdout, result.stderr) == ("x" * kept, "y" * min(10, limit))
    assert result.truncated is (limit < 5000)


def test_the_servers_limit_is_the_most(world: World) -> None:
    service = world.service(max_exec_output=1024)
    world.engine.add_image(TALKER, programs={"talk": Program(0, "x" * 5000)})
    result = run(service, start(service, image=TALKER).runtime_id, "talk", output_limit=4000)
    assert (len(result.stdout), result.truncated) == (1024, True)


def test_a_character_that_is_cut_is_left_out(service: Service, runtime: str) -> None:
    assert run(service, runtime, "umlauts", output_limit=7).stdout == "ää" + "ä"
    assert run(service, runtime, "umlauts", output_limit=8).stdout == "ää" * 2


@pytest.mark.parametrize(
    ("prepare", "status"),
    [
        (lambda service, runtime: service.manager.pause(ALICE, runtime), "paused"),
        (lambda service, runtime: service.manager.stop(ALICE, runtime), "stopped"),
        (lambda service, runtime: service.manager.remove(ALICE, runtime), "removed"),
    ],
)
def test_only_in_a_running_one(
    service: Service, runtime: str, world: World, prepare: Callable[[Service, str], object], status: str
) -> None:
    prepare(service, runtime)
    with pytest.raises(InvalidState, match=status) as caught:
        run(service, runtime, "talk")
    assert caught.value.extensions["runtime_status"] == status
    assert "exec" not in caught.value.extensions["allowed_actions"]
    assert world.engine.calls["exec"] == 0


def test_what_the_engine_knows_better_is_mended(service: Service, runtime: str, world: World) -> None:
    world.engine.pause(runtime)  # by somebody else
    with pytest.raises(InvalidState, match="paused"):
        run(service, runtime, "talk")
    other = start(service).runtime_id
    world.engine.vanish(other)
    with pytest.raises(InvalidState, match="removed"):
        run(service, other, "true")


def test_others_have_no_such_runtime(service: Service, runtime: str) -> None:
    with pytest.raises(RuntimeNotFound):
        service.inside.execs.run(BOB, runtime, request())


def test_a_command_that_is_not_there(service: Service, runtime: str) -> None:
    with pytest.raises(CommandNotFound):
        run(service, runtime, "missing")


@pytest.mark.parametrize("settings", [{"exec_users": ("app", "1000")}, {"exec_users": ()}])
def test_users_by_policy(world: World, settings: dict[str, Any]) -> None:
    service = world.service(**settings)
    runtime = start(service).runtime_id
    for user in ("root", "0", "0:1000", "root:app"):
        with pytest.raises(PolicyRefused) as caught:
            run(service, runtime, "true", user=user)
        assert caught.value.extensions == {"setting": "RUNTIME_SERVER_EXEC_USERS"}
    assert run(service, runtime, "true").exit_code == 0
    if settings["exec_users"]:
        assert run(service, runtime, "true", user="app:root").exit_code == 0


def test_a_large_environment_is_refused(world: World) -> None:
    service = world.service(max_environment_bytes=10)
    with pytest.raises(PolicyRefused):
        run(service, start(service).runtime_id, "true", environment={"A": "x" * 10})


def test_a_timeout_kills(service: Service, runtime: str, world: World) -> None:
    began = time.monotonic()
    result = run(service, runtime, "endless", timeout=0.1)
    assert time.monotonic() - began < DEADLINE
    assert (result.timed_out, result.killed, result.exit_code) == (True, True, 137)
    assert result.duration >= 0.1
    assert [each.code for each in commands(world)] == [137]


def test_a_timeout_is_at_most_the_servers(world: World) -> None:
    service = world.service(max_exec=0.1)
    assert run(service, start(service).runtime_id, "sleep", timeout=3600).timed_out


def test_what_cannot_be_killed_is_told(service: Service, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime_server.engine.memory_execs.MemoryExecSession.kill", lambda _: False)
    result = run(service, runtime, "endless", timeout=0.05)
    assert (result.timed_out, result.killed, result.exit_code) == (True, False, None)


def test_what_is_frozen_while_it_is_killed_holds_nobody_up(
    service: Service, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_server.engine.memory_execs.MemoryExecSession.kill", lambda _: True)
    monkeypatch.setattr(execs, "ENDING", 0.1)
    result = run(service, runtime, "endless", timeout=0.05)
    assert (result.timed_out, result.killed, result.exit_code) == (True, True, None)


def test_output_up_to_the_timeout_is_kept(service: Service, runtime: str, world: World) -> None:
    world.engine.add_image("busy", programs={"busy": Program(None, "working\n")})
    busy = start(service, image="busy").runtime_id
    result = run(service, busy, "busy", timeout=0.05)
    assert (result.stdout, result.timed_out) == ("working\n", True)


def test_streamed_output_and_the_end_as_its_last_item(service: Service, runtime: str) -> None:
    feed = service.inside.execs.open(ALICE, runtime, request(["talk"]))
    items = list(_items(feed))
    assert items[0] == ExecOutput("stdout", b"x" * 5000)
    assert isinstance(items[-1], execs.Ended)
    assert items[-1].exit_code == 0
    with pytest.raises(FeedEnded):
        feed.receive(0)
    feed.close()


def _items(feed: execs.ExecFeed) -> Iterator[object]:
    try:
        while True:
            item = feed.receive(0.1)
            if item is not None:
                yield item
    except FeedEnded:
        return


def test_who_leaves_ends_the_command(service: Service, runtime: str, world: World) -> None:
    feed = service.inside.execs.open(ALICE, runtime, request(["endless"]))
    assert feed.receive(0.01) is None
    feed.close()
    assert [each.code for each in commands(world)] == [137]


def test_an_engine_that_goes_away_meanwhile(service: Service, runtime: str, world: World) -> None:
    feed = service.inside.execs.open(ALICE, runtime, request(["endless"]))
    world.engine.away = True
    with pytest.raises(EngineUnreachable):
        feed.receive(1)
    feed.close()


def test_those_that_wait_are_bounded(world: World) -> None:
    service = world.service(threads=2)
    runtime = start(service).runtime_id
    other = threading.Thread(target=run, args=(service, runtime, "sleep"), kwargs={"timeout": 3})
    other.start()
    eventually(lambda: commands(world))
    with pytest.raises(TooManyWaiting):
        run(service, runtime, "true")
    other.join(DEADLINE)
    assert run(service, runtime, "true").exit_code == 0


def test_a_key_starts_a_command_once(service: Service, runtime: str, world: World) -> None:
    result = run(service, runtime, "talk", key="k")
    # The stored answer is the calls' business; whoever comes here again has lost it.
    with pytest.raises(ExecOutcomeUnknown) as caught:
        run(service, runtime, "talk", key="k")
    assert caught.value.extensions == {"exec_id": result.exec_id, "running": False, "exit_code": 0}
    assert len(commands(world)) == 1
    assert service.inside.execs.run(ALICE, runtime, request(["talk"]), key="other").exit_code == 0


def test_what_was_never_started_may_be_tried_again(service: Service, runtime: str, world: World) -> None:
    world.engine.fail_next("exec", EngineUnreachable())
    with pytest.raises(EngineUnreachable):
        run(service, runtime, "talk", key="k")
    assert run(service, runtime, "talk", key="k").exit_code == 0


def test_what_may_have_been_started_is_not(service: Service, runtime: str, world: World) -> None:
    world.engine.fail_next("exec", EngineTimeout(), after=True)
    with pytest.raises(EngineTimeout):
        run(service, runtime, "talk", key="k")
    with pytest.raises(ExecOutcomeUnknown) as caught:
        run(service, runtime, "talk", key="k")
    assert caught.value.extensions == {"exec_id": None, "running": None, "exit_code": None}
    assert len(commands(world)) == 1


def test_a_key_is_forgotten_in_time(world: World) -> None:
    service = world.service(idempotency_ttl=0.05)
    runtime = start(service).runtime_id
    assert run(service, runtime, "true", key="k").exit_code == 0
    time.sleep(0.1)
    assert run(service, runtime, "true", key="k").exit_code == 0
