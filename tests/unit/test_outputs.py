"""A runtime's output over its whole life, on the engine in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import LogEntry, LogQuery
from runtime_server.errors import EngineUnreachable, RuntimeNotFound
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes.outputs import OutputFeed
from runtime_server.service import Service
from tests.unit.conftest import ALICE, BOB, DEADLINE, World, eventually, get, start, status

FOLLOW = LogQuery(follow=True)


def opened(service: Service, runtime: str, query: LogQuery = FOLLOW) -> OutputFeed:
    return service.inside.outputs.open(ALICE, runtime, query)


def read(feed: OutputFeed, until: Callable[[list[str]], object] | None = None) -> list[str]:
    """The lines until ``until`` holds of them, else until the end, which is the last one in brackets."""
    found: list[str] = []
    ends = time.monotonic() + DEADLINE
    try:
        while until is None or not until(found):
            assert time.monotonic() < ends, f"only {found} came"
            entry = feed.receive(0.05)
            found += [] if entry is None else [entry.data.decode().rstrip("\n")]
    except FeedEnded as end:
        found.append(f"[{end}]")
    return found


def test_output_as_it_is(service: Service, world: World) -> None:
    runtime = start(service).runtime_id
    for line in ("one", "two", "three"):
        world.engine.write(runtime, f"{line}\n")
    assert read(opened(service, runtime, LogQuery())) == ["one", "two", "three", "[running]"]
    assert read(opened(service, runtime, LogQuery(tail=1))) == ["three", "[running]"]
    assert read(opened(service, runtime, LogQuery(stdout=False))) == ["[running]"]
    with pytest.raises(RuntimeNotFound):
        service.inside.outputs.open(BOB, runtime, FOLLOW)


def test_following_over_a_pause_up_to_the_end(service: Service, world: World) -> None:
    runtime = start(service).runtime_id
    feed = opened(service, runtime)
    assert feed.receive(0.01) is None
    service.manager.pause(ALICE, runtime)
    assert feed.receive(0.01) is None
    service.manager.resume(ALICE, runtime)
    world.engine.write(runtime, "still here\n")
    assert read(feed, bool) == ["still here"]
    service.manager.stop(ALICE, runtime)
    assert read(feed) == ["[stopped]"]
    feed.close()


def test_a_process_that_the_engine_starts_again_is_followed(service: Service, world: World) -> None:
    runtime = start(service, restart_policy={"Name": "always"}).runtime_id
    feed = opened(service, runtime)
    world.engine.write(runtime, "first\nsame\nsame\n")
    assert read(feed, lambda found: len(found) == 3) == ["first", "same", "same"]
    world.engine.exit(runtime, 1)
    world.engine.write(runtime, "same\nsecond\n")
    assert read(feed, lambda found: len(found) == 2) == ["same", "second"]


def test_nothing_before_the_last_lines_comes_after_a_restart(service: Service, world: World) -> None:
    runtime = start(service, restart_policy={"Name": "always"}).runtime_id
    world.engine.write(runtime, "old\nolder\n")
    feed = opened(service, runtime, LogQuery(follow=True, tail=0))
    assert feed.receive(0.01) is None
    world.engine.exit(runtime, 1)
    world.engine.write(runtime, "new\n")
    assert read(feed, bool) == ["new"]


@pytest.mark.parametrize("lag", [True, False])
def test_the_end_tells_how_it_ended(service: Service, world: World, lag: bool) -> None:
    runtime = start(service).runtime_id
    feed = opened(service, runtime)
    world.engine.exit(runtime, 3)
    if not lag:
        service.manager.get(ALICE, runtime)  # nobody follows the engine here: this looks at it
        assert status(service, runtime) is RuntimeStatus.ERROR
    assert read(feed) == ["[error]"]


def test_of_a_removed_one_the_last_lines_are_left(service: Service, world: World) -> None:
    runtime = start(service).runtime_id
    world.engine.write(runtime, "one\ntwo\n")
    follower = opened(service, runtime)
    assert read(follower, lambda found: len(found) == 2) == ["one", "two"]
    service.manager.remove(ALICE, runtime)
    assert read(follower) == ["[removed]"]
    assert read(opened(service, runtime)) == ["one", "two", "[removed]"]
    assert read(opened(service, runtime, LogQuery(tail=1))) == ["two", "[removed]"]
    assert read(opened(service, runtime, LogQuery(tail=0))) == ["[removed]"]


def test_a_start_that_takes_long_is_waited_for(service: Service, world: World) -> None:
    go = threading.Event()
    world.engine.hook("start", lambda: _passed(go), times=1)
    runtime = start(service, wait=0, command=["echo", "hello"]).runtime_id
    assert read(opened(service, runtime, LogQuery())) == ["[starting]"]
    feed = opened(service, runtime, LogQuery(follow=True, tail=0))
    assert feed.receive(0.01) is None
    go.set()
    assert read(feed) == ["hello", "[stopped]"]


def _passed(event: threading.Event) -> None:
    assert event.wait(DEADLINE)


def test_a_start_that_failed_has_no_output(service: Service) -> None:
    with pytest.raises(Exception, match="runtime class"):
        start(service, key="k", runtime_class="runsc")
    runtime = service.store.page("alice", statuses=[], labels={}, after=None, limit=1)[0].runtime_id
    assert read(opened(service, runtime)) == ["[error]"]


def test_an_engine_that_goes_away_is_told(service: Service, world: World) -> None:
    runtime = start(service).runtime_id
    feed = opened(service, runtime)
    assert feed.receive(0.01) is None
    world.engine.away = True
    with pytest.raises(EngineUnreachable):
        read(feed)


def test_entries_keep_their_stream_and_time(service: Service, world: World) -> None:
    runtime = start(service).runtime_id
    world.engine.write(runtime, "oops\n", "stderr")
    entry = opened(service, runtime).receive(1)
    assert isinstance(entry, LogEntry)
    assert (entry.stream, entry.data) == ("stderr", b"oops\n")
    assert abs(entry.at / 1e9 - time.time()) < DEADLINE
    eventually(lambda: get(service, runtime).status is RuntimeStatus.RUNNING)
