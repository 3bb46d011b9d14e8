from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from runtime_server.errors import IdempotencyInFlight, IdempotencyKeyReused, StorageUnavailable
from runtime_server.runtimes.calls import Calls, StoredAnswer
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.waits import SlowLane
from runtime_server.store.store import Store
from tests.unit.conftest import ALICE, BOB, DEADLINE

MakeCalls = Callable[..., tuple[Calls, Holder]]
ANSWER = StoredAnswer(201, b'{"a": "\\n"}\n', "application/json", {"Cache-Control": "no-store"}, final=True)


@pytest.fixture
def make(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> MakeCalls:
    """Calls of a new process."""
    (tmp_path / "holders").mkdir()

    def calls(*, ttl: float = 60.0, wait: float = DEADLINE) -> tuple[Calls, Holder]:
        holder = Holder(tmp_path / "holders")
        request.addfinalizer(holder.close)
        return Calls(store.operations, holder, SlowLane(2), ttl=ttl, wait=wait), holder

    return calls


class Work:
    """Counts how often it ran."""

    def __init__(self, answer: StoredAnswer = ANSWER) -> None:
        self.runs = 0
        self.answer = answer

    def __call__(self) -> StoredAnswer:
        self.runs += 1
        return self.answer


def test_a_final_answer_is_replayed_by_every_process(make: MakeCalls) -> None:
    work = Work()
    assert make()[0].once(ALICE, "k", "f", work) == (ANSWER, False)
    assert make()[0].once(ALICE, "k", "f", work) == (ANSWER, True)
    assert work.runs == 1
    make()[0].once(BOB, "k", "another", work)
    make()[0].once(ALICE, "k2", "f", work)
    assert work.runs == 3


def test_another_request_under_the_key_is_refused(make: MakeCalls) -> None:
    calls, _ = make()
    calls.once(ALICE, "k", "f", Work())
    work = Work()
    with pytest.raises(IdempotencyKeyReused):
        calls.once(ALICE, "k", "g", work)
    assert work.runs == 0


def test_what_is_not_final_is_forgotten(make: MakeCalls) -> None:
    calls, _ = make()
    passing = Work(StoredAnswer(503, b"{}", "application/problem+json", {}, final=False))
    assert calls.once(ALICE, "k", "f", passing) == (passing.answer, False)

    def fails() -> StoredAnswer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        calls.once(ALICE, "k", "f", fails)
    assert calls.once(ALICE, "k", "g", Work()) == (ANSWER, False)


def in_flight(calls: Calls) -> tuple[Event, Thread]:
    """A call that runs until the event is set."""
    begun, go_on = Event(), Event()

    def work() -> StoredAnswer:
        begun.set()
        assert go_on.wait(DEADLINE)
        return ANSWER

    thread = Thread(target=lambda: calls.once(ALICE, "k", "f", work))
    thread.start()
    assert begun.wait(DEADLINE)
    return go_on, thread


def test_a_twin_waits_for_the_first(make: MakeCalls) -> None:
    go_on, first = in_flight(make()[0])
    twin = make()[0]
    found: list[Any] = []
    work = Work()
    second = Thread(target=lambda: found.append(twin.once(ALICE, "k", "f", work)))
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert found == [(ANSWER, True)]
    assert work.runs == 0


def test_a_twin_does_not_wait_for_ever(make: MakeCalls) -> None:
    go_on, first = in_flight(make(ttl=0.001)[0])  # a call that outlives its answer's time still runs
    with pytest.raises(IdempotencyInFlight) as caught:
        make(wait=0.0)[0].once(ALICE, "k", "f", Work())
    with pytest.raises(IdempotencyKeyReused):
        make(wait=0.0)[0].once(ALICE, "k", "g", Work())
    assert caught.value.retryable
    assert caught.value.retry_after
    go_on.set()
    first.join()


def test_a_dead_process_call_is_taken_over(make: MakeCalls, store: Store) -> None:
    calls, holder = make()
    claim = calls._claim_or_answer("alice", "k", "f")
    holder.close()
    work = Work()
    assert make()[0].once(ALICE, "k", "f", work) == (ANSWER, False)
    assert work.runs == 1
    assert not isinstance(claim, StoredAnswer)
    assert not store.operations.finish(claim, b"late", 0.0), "the dead one's answer comes too late"


def test_an_answer_expires(make: MakeCalls, store: Store) -> None:
    calls, _ = make(ttl=60.0)
    work = Work()
    calls.once(ALICE, "k", "f", work)
    kept = store.operations.find("call", "alice", "k")
    assert kept is not None
    store.operations.finish(kept, kept.answer or b"", time.time() - 1)
    assert calls.once(ALICE, "k", "another", work) == (ANSWER, False)
    assert work.runs == 2


def test_storage_that_fails(make: MakeCalls, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, _ = make()

    def full(*_: Any) -> bool:
        raise StorageUnavailable

    monkeypatch.setattr(store.operations, "finish", full)
    assert calls.once(ALICE, "k", "f", Work()) == (ANSWER, False), "what was done is told"
    monkeypatch.setattr(store.operations, "claim", full)
    work = Work()
    with pytest.raises(StorageUnavailable):
        calls.once(ALICE, "k2", "f", work)
    assert work.runs == 0
    assert calls.once(ALICE, "k2", "f", work, unrecorded=True) == (ANSWER, False)
