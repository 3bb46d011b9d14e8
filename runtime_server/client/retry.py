"""When a call is sent again: the policy as data, the budget, and the loop that obeys both.

All retries of the client happen here; the HTTP library below does none.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, Retrying

from runtime_server.errors import DeadlineExceeded, Problem, RuntimeClientError

log = logging.getLogger("runtime_server.client")
T = TypeVar("T")

RETRYABLE_STATUSES = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses worth another attempt where the answer has no ``retryable`` of its own."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how soon and for how long a call is repeated.

    Change one by ``dataclasses.replace(policy, max_attempts=3)``; ``RetryPolicy(max_attempts=1)`` never retries.

    Attributes:
        max_attempts: attempts of one call, the first included.
        deadline: seconds that all attempts of one call may take, waits included. What a call lets the server
            wait by itself (a stop's grace, a start's ``wait``) comes on top.
        backoff_base: seconds; the wait before attempt n + 1 is a random share of ``backoff_base * 2 ** (n - 1)``
            (exponential backoff with full jitter).
        backoff_cap: seconds that this share is taken of at most.
        retry_after_limit: seconds of ``Retry-After`` that are honoured; beyond it the client gives up.
        statuses: HTTP statuses that are retried where the answer has no ``retryable`` member, which wins over
            this table. A 409 is retried only by its ``retryable``.
        budget: tokens that all calls of one client share; each retry takes one. 0 allows no retry at all.
        budget_refund: tokens that each success gives back.
        sleep: waits so many seconds.
        clock: seconds of a monotonic clock.
        random: a number in [0, 1).
    """

    max_attempts: int = 8
    deadline: float = 120.0
    backoff_base: float = 0.1
    backoff_cap: float = 5.0
    retry_after_limit: float = 60.0
    statuses: frozenset[int] = RETRYABLE_STATUSES
    budget: float = 100.0
    budget_refund: float = 0.5
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be at least 1")
        for name in ("deadline", "backoff_base", "backoff_cap", "retry_after_limit", "budget", "budget_refund"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative")

    def backoff(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after the failed attempt number ``attempt`` (from 1).

        ``retry_after`` is waited in full; the jitter comes on top, so that callers who were told
        the same time don't come back together.
        """
        ceiling = min(self.backoff_cap, self.backoff_base * 2.0 ** min(attempt - 1, 64))
        return (retry_after or 0.0) + self.random() * ceiling


class RetryBudget:
    """Tokens that retries cost, shared by all calls and threads of a client, so that an outage isn't multiplied."""

    def __init__(self, capacity: float, refund: float) -> None:
        self._capacity = capacity
        self._refund = refund
        self._tokens = capacity
        self._lock = threading.Lock()

    @property
    def tokens(self) -> float:
        """How many are left."""
        return self._tokens

    def take(self) -> bool:
        """Pay for one retry; False where too little is left."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def give(self) -> None:
        """Refund a success's share."""
        # Read without the lock: in the usual case the budget is full, and a refund lost in a race is harmless.
        if self._tokens < self._capacity:
            with self._lock:
                self._tokens = min(self._capacity, self._tokens + self._refund)


class _Attempts:
    """The attempts of one call, as tenacity's callbacks see them."""

    def __init__(self, policy: RetryPolicy, budget: RetryBudget, deadline: float, repeatable: bool) -> None:
        self.policy = policy
        self.budget = budget
        self.deadline = deadline
        self.ends = policy.clock() + deadline
        self.repeatable = repeatable
        self.number = 0
        self.late = False
        self.gave_up: str | None = None

    def helps(self, state: RetryCallState) -> bool:
        return self.repeatable and isinstance(error := _error(state), RuntimeClientError) and error.retryable

    def wait(self, state: RetryCallState) -> float:
        return self.policy.backoff(self.number, _retry_after(_error(state)))

    def stop(self, state: RetryCallState) -> bool:
        policy, asked = self.policy, _retry_after(_error(state)) or 0.0
        if self.number >= policy.max_attempts:
            self.gave_up = f"max_attempts is {policy.max_attempts}"
        elif asked > policy.retry_after_limit:
            self.gave_up = (
                f"the server asks to wait {asked:g} s, more than retry_after_limit ({policy.retry_after_limit:g} s)"
            )
        elif policy.clock() + state.upcoming_sleep >= self.ends:
            self.late = True
            self.gave_up = f"the next would come after the deadline of {self.deadline:g} s"
        elif not self.budget.take():
            self.gave_up = "the client's retry budget is used up"
        return self.gave_up is not None

    def tell(self, state: RetryCallState) -> None:
        log.debug("attempt %d failed, next in %.3f s: %s", self.number, state.upcoming_sleep, _error(state))

    def after(self, failed: RuntimeClientError, attempt: Callable[[], T]) -> T:
        """Go on by the policy's rules after a first attempt that failed."""
        first: list[RuntimeClientError] = [failed]

        def made() -> T:
            if first:
                raise first.pop()
            return attempt()

        retrying = Retrying(
            sleep=self.policy.sleep,
            stop=self.stop,
            wait=self.wait,
            retry=self.helps,
            before_sleep=self.tell,
            reraise=True,
        )
        return retrying(made)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(error: BaseException | None) -> float | None:
    return error.retry_after if isinstance(error, Problem) else None


def call_with_retries(
    policy: RetryPolicy,
    budget: RetryBudget,
    send: Callable[[int, float], T],
    *,
    deadline: float,
    repeatable: bool = True,
) -> T:
    """Send a call until it is answered, or another attempt makes no sense.

    Args:
        policy: how often and how soon.
        budget: what retries are paid from.
        send: makes attempt number n (from 1) within the given seconds; raises ``RuntimeClientError``.
        deadline: seconds for all attempts.
        repeatable: whether the call may be sent twice: it changes nothing, or carries an ``Idempotency-Key``.

    Raises:
        DeadlineExceeded: the next attempt would come after the deadline; the cause is the last one's error.
        RuntimeClientError: the last attempt's error, with ``attempts`` and, where one more might have helped,
            ``gave_up``.
    """
    attempts = _Attempts(policy, budget, deadline, repeatable)

    def attempt() -> T:
        attempts.number += 1
        return send(attempts.number, max(0.001, attempts.ends - policy.clock()))

    try:
        # PERF: tenacity's bookkeeping costs a tenth of a quick call, and most calls need one attempt.
        try:
            result = attempt()
        except RuntimeClientError as error:
            result = attempts.after(error, attempt)
    except RuntimeClientError as error:
        error.attempts = attempts.number
        if not attempts.late:
            error.gave_up = attempts.gave_up
            raise
        late = DeadlineExceeded(f"no answer within the deadline of {deadline:g} s; the last attempt: {error}")
        late.attempts, late.request_id, late.gave_up = attempts.number, error.request_id, attempts.gave_up
        raise late from error
    budget.give()
    return result
