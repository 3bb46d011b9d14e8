"""The queue of builds in the database."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from runtime_server.errors import TooManyBuilds
from runtime_server.store.builds import BUILD, QUEUED, BuildQueue
from runtime_server.store.records import Operation
from runtime_server.store.store import Store

ALIVE: Callable[[Operation], bool] = lambda operation: bool(operation.holder)  # noqa: E731


def queue(store: Store, places: int = 2, waiting: int = 2) -> BuildQueue:
    return BuildQueue(store.database, store.operations, places=places, waiting=waiting)


def waits(key: str, owner: str = "alice", at: float = 0.0, **more: Any) -> Operation:
    payload = {"image": "a", "tags": [], "context": f"{key}.context", "digest": "d", "created_at": at}
    return Operation(
        id=f"id-{key}", kind=BUILD, owner=owner, key=key, holder="", lease_until=0.0, stage=QUEUED, queued_at=at,
        payload=payload | more,
    )  # fmt: skip


def taken(found: BuildQueue, holder: str = "me", alive: Callable[[Operation], bool] = ALIVE) -> str | None:
    operation = found.take(holder, time.time() + 30, alive)
    return None if operation is None else operation.key


def test_a_build_is_taken_by_one(store: Store) -> None:
    builds = queue(store)
    builds.add(waits("a"))
    first = builds.take("me", time.time() + 30, ALIVE)
    assert first is not None
    assert (first.key, first.holder, first.stage) == ("a", "me", None)
    assert first.payload["started_at"] > 0
    assert builds.find("alice", "a") == first
    assert taken(builds) is None


def test_no_more_than_there_are_places(store: Store) -> None:
    builds = queue(store, waiting=9)
    for key in "abc":
        builds.add(waits(key))
    assert [taken(builds), taken(builds), taken(builds)] == ["a", "b", None]
    operation = builds.find(None, "a")
    assert operation is not None
    assert store.operations.finish(operation, b"{}", time.time() + 9)
    assert taken(builds) == "c"


def test_owners_take_turns_and_an_owners_own_go_by_age(store: Store) -> None:
    builds = queue(store, places=3, waiting=9)
    for number, (key, owner) in enumerate([("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")], start=2):
        builds.add(waits(key, owner, float(number)))
    builds.add(waits("a1", "a", 1.0))
    assert [taken(builds) for _ in range(3)] == ["a1", "b1", "a2"]


def test_beyond_the_places_an_owner_may_have_so_many_waiting(store: Store) -> None:
    builds = queue(store, places=1, waiting=2)
    builds.add(waits("a"))
    assert taken(builds) == "a"
    builds.add(waits("b"))
    builds.add(waits("c"))
    for ask in (lambda: builds.add(waits("d")), lambda: builds.refuse_beyond("alice")):
        with pytest.raises(TooManyBuilds) as refused:
            ask()
        assert refused.value.retry_after == 30
    assert builds.find(None, "d") is None
    builds.add(waits("e", "bob"))
    builds.refuse_beyond("bob")


def test_without_a_queue_only_what_begins_at_once(store: Store) -> None:
    builds = queue(store, places=1, waiting=0)
    builds.add(waits("a"))
    with pytest.raises(TooManyBuilds):
        builds.add(waits("b"))


def test_a_build_that_is_there_is_that_one(store: Store) -> None:
    builds = queue(store, places=1, waiting=0)
    first = builds.add(waits("a"))
    assert builds.add(dataclasses.replace(waits("a", digest="other"), id="another")) == first


def test_what_a_dead_one_left_goes_before_what_waits(store: Store) -> None:
    builds = queue(store, places=1, waiting=9)
    for key in "ab":
        builds.add(waits(key))
    assert taken(builds, "dead") == "a"
    assert taken(builds, "me") is None
    over = builds.take("me", time.time() + 30, lambda operation: operation.holder != "dead")
    assert over is not None
    assert (over.key, over.holder, over.payload["deaths"]) == ("a", "me", 1)
    assert taken(builds, "me") is None


def test_what_was_let_go_counts_no_death(store: Store) -> None:
    builds = queue(store)
    builds.add(waits("a"))
    first = builds.take("one", time.time() + 30, ALIVE)
    assert first is not None
    store.operations.release(first)
    second = builds.take("other", time.time() + 30, ALIVE)
    assert second is not None
    assert "deaths" not in second.payload
    assert second.payload["started_at"] == first.payload["started_at"]


def test_what_was_ended_is_nobodys(store: Store) -> None:
    builds = queue(store)
    builds.add(waits("a"))
    operation = builds.take("me", time.time() + 30, ALIVE)
    assert operation is not None
    assert builds.end(operation, {"status": "CANCELLED"}, time.time() + 9)
    assert not builds.end(operation, {"status": "EXPIRED"}, time.time() + 9)
    assert not store.operations.held(operation.id, "me")
    assert not store.operations.finish(operation, b"{}", 0.0), "its worker comes too late"
    ended = builds.find("alice", "a")
    assert ended is not None
    assert json.loads(ended.answer or b"") == {"status": "CANCELLED"}
    assert taken(builds) is None
    assert [*builds.kept()] == ["a"]
    assert builds.undone() == []


def test_others_find_nothing(store: Store) -> None:
    builds = queue(store)
    builds.add(waits("a"))
    assert builds.find("bob", "a") is None
    assert builds.find(None, "a") is not None
    assert builds.find("alice", "b") is None
