"""Calls with an ``Idempotency-Key``: the first final answer is kept and replayed.

The rules are those of the IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from runtime_server.errors import IdempotencyInFlight, IdempotencyKeyReused, StorageUnavailable, TooManyWaiting
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.waits import SlowLane
from runtime_server.store.operations import Operations
from runtime_server.store.records import Operation

KIND = "call"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An HTTP answer as it is kept. ``final``: whether the same call again would get the same."""

    status: int
    body: bytes = field(repr=False)
    content_type: str
    headers: Mapping[str, str]
    final: bool


class Calls:
    """What happens once.

    Args:
        operations: where calls are recorded.
        holder: this process.
        lane: bounds the twins that wait.
        ttl: seconds that an answer is kept.
        wait: seconds that a twin waits for the first call.
    """

    def __init__(self, operations: Operations, holder: Holder, lane: SlowLane, *, ttl: float, wait: float) -> None:
        self._operations = operations
        self._holder = holder
        self._lane = lane
        self._ttl = ttl
        self._wait = wait

    def once(
        self,
        caller: Caller,
        key: str,
        fingerprint: str,
        run: Callable[[], StoredAnswer],
        *,
        unrecorded: bool = False,
    ) -> tuple[StoredAnswer, bool]:
        """The call's answer: of ``run``, or of the first call with this key.

        Args:
            caller: whose key it is.
            key: the ``Idempotency-Key``.
            fingerprint: a digest of method, path and body.
            run: does the work; an answer that isn't final is forgotten, as is an exception.
            unrecorded: run all the same where the call can't be recorded (a full disk must not stop a stop).

        Returns:
            The answer, and whether it is a replay.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            IdempotencyInFlight: the first call hasn't ended within the wait.
            StorageUnavailable: the call can't be recorded.
        """
        try:
            found = self._claim_or_answer(caller.owner, key, fingerprint)
        except StorageUnavailable:
            if not unrecorded:
                raise
            return run(), False
        if isinstance(found, StoredAnswer):
            return found, True
        return self._run(found, run), False

    def _claim_or_answer(self, owner: str, key: str, fingerprint: str) -> Operation | StoredAnswer:
        claim = self._holder.operation(
            KIND,
            owner,
            key,
            expires_at=time.time() + self._ttl,
            fingerprint=fingerprint,
        )
        if self._operations.claim(claim):
            return claim

        def look() -> list[Operation | StoredAnswer] | None:
            seen = self._look(claim)
            return None if seen is None else [seen]

        found: list[Operation | StoredAnswer] | None = None
        with suppress(TooManyWaiting):
            found = self._lane.until(look, self._wait)
        if not found:
            raise IdempotencyInFlight("The first call with this Idempotency-Key is still running.", retry_after=1)
        return found[0]

    def _look(self, claim: Operation) -> Operation | StoredAnswer | None:
        """The claim where it became ours, the answer where there is one, None where the first call still runs."""
        first = self._operations.find(KIND, claim.owner, claim.key)
        if first is None or (first.done and (first.expires_at or 0) < time.time()):
            if first is not None:
                self._operations.drop(first.id, first.holder)
            return claim if self._operations.claim(claim) else None
        if first.fingerprint != claim.fingerprint:
            raise IdempotencyKeyReused("This Idempotency-Key was used before, with another request.")
        if first.done and first.answer is not None:
            return _decode(first.answer)
        if self._holder.alive(first):
            return None
        if self._operations.take_over(first, claim.holder, claim.lease_until):
            return self._operations.find(KIND, claim.owner, claim.key)
        return None

    def _run(self, claim: Operation, run: Callable[[], StoredAnswer]) -> StoredAnswer:
        try:
            with self._holder.working(claim):
                answer = run()
        except BaseException:
            with suppress(StorageUnavailable):
                self._operations.drop(claim.id, claim.holder)
            raise
        # What was done stays done where its answer can't be kept: a twin finds the same runtime by its derived id.
        with suppress(StorageUnavailable):
            if answer.final:
                self._operations.finish(claim, _encode(answer), time.time() + self._ttl)
            else:
                self._operations.drop(claim.id, claim.holder)
        return answer


def _encode(answer: StoredAnswer) -> bytes:
    head = [answer.status, answer.content_type, dict(answer.headers)]
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + answer.body


def _decode(kept: bytes) -> StoredAnswer:
    head, _, body = kept.partition(b"\n")
    status, content_type, headers = json.loads(head)
    return StoredAnswer(status=status, body=body, content_type=content_type, headers=headers, final=True)
