"""The retry loop's arithmetic, without HTTP and without time."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from runtime_server import (
    DeadlineExceeded,
    Problem,
    RetryPolicy,
    RuntimeClientError,
    ServerTimeout,
    ServerUnreachable,
)
from runtime_server.client.retry import RetryBudget, call_with_retries
from tests.unit.client_script import Clock


def overloaded(retry_after: float | None = None) -> Problem:
    error = Problem("busy", retry_after=retry_after)
    error.retryable = True
    return error


class Play:
    """Fails with the given errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors: Iterator[Exception | None] = chain(errors, repeat(None))
        self.calls: list[tuple[int, float]] = []

    def __call__(self, number: int, seconds: float) -> str:
        self.calls.append((number, seconds))
        if error := next(self.errors):
            raise error
        return "answer"


def run(play: Play, policy: RetryPolicy, *, deadline: float = 120.0, repeatable: bool = True) -> str:
    budget = RetryBudget(policy.budget, policy.budget_refund)
    return call_with_retries(policy, budget, play, deadline=deadline, repeatable=repeatable)


def test_waits_double_up_to_the_cap_with_full_jitter() -> None:
    clock = Clock()
    play = Play(*(ServerUnreachable() for _ in range(7)))
    assert run(play, clock.policy()) == "answer"
    assert clock.slept == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5])
    assert [number for number, _ in play.calls] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_jitter_covers_everything_from_nothing_to_the_ceiling() -> None:
    assert RetryPolicy(random=lambda: 0.0).backoff(5) == 0.0
    assert RetryPolicy(random=lambda: 1.0).backoff(5) == pytest.approx(1.6)
    assert RetryPolicy(random=lambda: 1.0).backoff(5000) == 5.0


def test_the_last_attempts_error_is_raised_with_what_was_tried() -> None:
    errors = [ServerUnreachable(str(n)) for n in range(3)]
    with pytest.raises(ServerUnreachable) as caught:
        run(Play(*errors), Clock().policy(max_attempts=3))
    assert caught.value is errors[2]
    assert caught.value.attempts == 3
    assert str(caught.value) == "2 (gave up at attempt 3: max_attempts is 3)"


@pytest.mark.parametrize("error", [Problem("no"), RuntimeClientError("no"), ValueError("a bug"), KeyboardInterrupt()])
def test_what_is_not_retryable_comes_out_at_once(error: Exception) -> None:
    play = Play(error)
    with pytest.raises(type(error)) as caught:
        run(play, Clock().policy())
    assert caught.value is error
    assert len(play.calls) == 1
    assert getattr(error, "gave_up", None) is None


def test_a_call_that_can_not_be_repeated_is_sent_once() -> None:
    play = Play(ServerTimeout())
    with pytest.raises(ServerTimeout) as caught:
        run(play, Clock().policy(), repeatable=False)
    assert caught.value.attempts == 1


def test_retry_after_is_waited_in_full_and_spread_by_jitter() -> None:
    clock = Clock()
    run(Play(overloaded(7.0), overloaded(0.0)), clock.policy())
    assert clock.slept == pytest.approx([7.05, 0.1])


def test_retry_after_beyond_the_limit_ends_the_call_and_says_so() -> None:
    clock = Clock()
    with pytest.raises(Problem, match=r"asks to wait 61 s, more than retry_after_limit \(60 s\)") as caught:
        run(Play(overloaded(61.0)), clock.policy())
    assert (clock.slept, caught.value.attempts, caught.value.retry_after) == ([], 1, 61.0)


def test_the_deadline_counts_attempts_and_waits_and_is_told_to_each_attempt() -> None:
    clock = Clock()

    class Slow(Play):
        def __call__(self, number: int, seconds: float) -> str:
            clock.now += 4.0
            return super().__call__(number, seconds)

    play = Slow(*(overloaded(1.0) for _ in range(9)))
    with pytest.raises(DeadlineExceeded) as caught:
        run(play, clock.policy(backoff_base=0.0), deadline=12.0)
    assert [seconds for _, seconds in play.calls] == pytest.approx([12.0, 7.0, 2.0])
    assert isinstance(caught.value.__cause__, Problem)
    assert caught.value.attempts == 3
    assert "12 s" in str(caught.value)


def test_no_wait_goes_beyond_the_deadline() -> None:
    clock = Clock()
    with pytest.raises(DeadlineExceeded):
        run(Play(overloaded(30.0)), clock.policy(), deadline=20.0)
    assert clock.slept == []


def test_the_budget_is_shared_by_calls_and_refunded_by_successes() -> None:
    clock = Clock()
    policy = clock.policy(budget=4.0)
    budget = RetryBudget(policy.budget, policy.budget_refund)

    def call(*errors: Exception) -> str:
        return call_with_retries(policy, budget, Play(*errors), deadline=120.0)

    call(*(ServerUnreachable() for _ in range(3)))
    assert budget.tokens == 1.5
    with pytest.raises(ServerUnreachable, match="budget") as caught:
        call(*(ServerUnreachable() for _ in range(5)))
    assert (caught.value.attempts, budget.tokens) == (2, 0.5)
    call()
    assert budget.tokens == 1.0
    call(ServerUnreachable())
    assert budget.tokens == 0.5
    for _ in range(20):
        call()
    assert budget.tokens == 4.0


def test_an_outage_is_not_multiplied() -> None:
    clock = Clock()
    policy = clock.policy()
    budget = RetryBudget(policy.budget, policy.budget_refund)
    sent = 0
    for _ in range(1000):
        play = Play(*(ServerUnreachable() for _ in range(8)))
        with pytest.raises(ServerUnreachable):
            call_with_retries(policy, budget, play, deadline=120.0)
        sent += len(play.calls)
    assert sent == 1000 + 100


def test_threads_share_the_budget_exactly() -> None:
    budget = RetryBudget(200, 0.5)
    taken: list[bool] = []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait(30)
        taken.extend(budget.take() for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (taken.count(True), taken.count(False), budget.tokens) == (200, 200, 0)


def test_the_policy_is_data() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.deadline, policy.backoff_base, policy.backoff_cap) == (8, 120.0, 0.1, 5.0)
    assert (policy.retry_after_limit, policy.budget, policy.budget_refund) == (60.0, 100.0, 0.5)
    assert policy.statuses == {408, 425, 429, 502, 503, 504}
    assert dataclasses.replace(policy, max_attempts=2) == RetryPolicy(max_attempts=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_attempts = 3  # type: ignore[misc]
    for wrong in ({"max_attempts": 0}, {"deadline": -1.0}, {"backoff_cap": float("nan")}):
        with pytest.raises(ValueError):
            RetryPolicy(**wrong)
