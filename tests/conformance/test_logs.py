"""Output of containers, read and followed, in any engine."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.feeds import Feed, FeedEnded
from runtime_server.engine.inside import LogEntry, LogQuery
from tests.conformance.conftest import DEADLINE, Bench

FOLLOW = LogQuery(follow=True)


def read(feed: Feed[LogEntry], until: Callable[[list[LogEntry]], bool] | None = None) -> list[LogEntry]:
    """What comes until ``until`` holds of it, else until the feed ends."""
    found: list[LogEntry] = []
    ends = time.monotonic() + DEADLINE
    try:
        while until is None or not until(found):
            assert time.monotonic() < ends, f"only {found} came"
            entry = feed.receive(0.5)
            found += [] if entry is None else [entry]
    except FeedEnded:
        assert until is None, f"it ended after {found}"
        feed.close()
    return found


def lines(entries: list[LogEntry]) -> list[str]:
    return [entry.data.decode().rstrip("\n") for entry in entries]


def spoken(bench: Bench, *said: str) -> str:
    """A running container that has said so much, on alternating streams."""
    container = bench.run()
    feed = bench.engine.log_entries(container, FOLLOW)
    for number, line in enumerate(said):
        bench.say(container, line, "stderr" if number % 2 else "stdout")
        read(feed, lambda found: bool(found))
    feed.close()
    return container


def test_streams_are_told_apart(bench: Bench) -> None:
    container = spoken(bench, "one", "two", "three")

    def shown(query: LogQuery) -> list[tuple[str, str]]:
        feed = bench.engine.log_entries(container, query)
        found = read(feed)
        feed.close()
        assert [entry.at for entry in found] == sorted(entry.at for entry in found)
        return [(entry.stream, entry.data.decode()) for entry in found]

    every = [("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three\n")]
    assert shown(LogQuery()) == every
    assert shown(LogQuery(stdout=False)) == every[1:2]
    assert shown(LogQuery(stderr=False)) == every[::2]
    assert shown(LogQuery(tail=2)) == every[1:]
    assert shown(LogQuery(tail=2, stderr=False)) == every[2:]
    assert shown(LogQuery(tail=0)) == []
    assert shown(LogQuery(tail=7)) == every


def test_since_is_exact(bench: Bench) -> None:
    container = spoken(bench, "one", "two", "three")
    entries = read(bench.engine.log_entries(container, LogQuery()))

    later = read(bench.engine.log_entries(container, LogQuery(since=entries[1].at)))
    assert later == [entry for entry in entries if entry.at >= entries[1].at]
    assert read(bench.engine.log_entries(container, LogQuery(since=entries[2].at + 1))) == []


def test_following_survives_a_pause_and_ends_with_the_process(bench: Bench) -> None:
    container = spoken(bench, "before")
    feed = bench.engine.log_entries(container, LogQuery(follow=True, tail=1))
    assert lines(read(feed, lambda found: bool(found))) == ["before"]
    bench.engine.pause(container)
    assert feed.receive(0.1) is None
    bench.engine.resume(container)
    bench.say(container, "after")
    assert lines(read(feed, lambda found: bool(found))) == ["after"]
    bench.engine.stop(container, 5)
    assert read(feed) == []
    with pytest.raises(FeedEnded):
        feed.receive(0)
    feed.close()
    feed.close()


def test_silence_is_told_in_time(bench: Bench) -> None:
    feed = bench.engine.log_entries(bench.run(), FOLLOW)
    began = time.monotonic()
    assert feed.receive(0.2) is None
    assert 0.15 < time.monotonic() - began < DEADLINE / 2
    assert feed.receive(0) is None
    feed.close()


def test_following_what_has_ended_ends(bench: Bench) -> None:
    container = spoken(bench, "last words")
    bench.engine.stop(container, 5)
    feed = bench.engine.log_entries(container, FOLLOW)
    assert lines(read(feed)) == ["last words"]
    feed.close()


@pytest.mark.parametrize("state", ["created", "gone"])
def test_what_never_ran_or_is_gone(bench: Bench, state: str) -> None:
    container = bench.in_state(state)
    if state == "gone":
        with pytest.raises(ContainerMissing):
            bench.engine.log_entries(container, FOLLOW)
        return
    assert read(bench.engine.log_entries(container, FOLLOW)) == []
