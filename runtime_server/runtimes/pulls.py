"""Pulls: one for each image at a time, over all workers; the others wait for it and see how it ends."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from runtime_server.engine.base import Engine, RegistryLogin
from runtime_server.engine.measured import OK
from runtime_server.engine.stock import PullLayer, PullState
from runtime_server.errors import Problem, StorageUnavailable
from runtime_server.metrics.instruments import Metrics
from runtime_server.runtimes import views
from runtime_server.runtimes.holders import Holder
from runtime_server.store.operations import Operations
from runtime_server.store.records import Operation

KIND = "pull"
KEPT = 30.0
"""Seconds that the outcome stays for those who waited."""
LOOK = 0.1
"""Seconds between two looks at another's pull, and between two notes of progress."""

ABANDONED = "abandoned"
"""As an outcome: nobody waited for it any more."""


class Pulls:
    """Single-flight pulls.

    Args:
        engine: pulls.
        operations: where pulls are recorded.
        holder: this process.
        metrics: count those that this process does.
    """

    def __init__(self, engine: Engine, operations: Operations, holder: Holder, metrics: Metrics) -> None:
        self._engine = engine
        self._operations = operations
        self._holder = holder
        self._metrics = metrics

    def pull(
        self,
        image: str,
        *,
        platform: str | None,
        login: RegistryLogin | None,
        progress: Callable[[PullState], None],
        all_of_it: bool = False,
    ) -> None:
        """Have the image pulled once from now on.

        Args:
            image: its reference.
            platform: as ``linux/amd64``; none: the host's.
            login: credentials; a pull with some of its own is shared with nobody.
            progress: is told how far it is; what it raises ends the waiting.
            all_of_it: tell each step at once, not ten a second: the last before a pause may be missing from those.

        Raises:
            ImageNotFound, ImagePullFailed, EngineUnreachable, EngineTimeout: how the pull ended.
        """
        key = f"{image} {platform or ''}" + (f" {uuid.uuid4().hex}" if login else "")
        while True:
            claim = self._new(key)
            if self._operations.claim(claim):
                return self._run(claim, image, platform, login, progress, all_of_it=all_of_it)
            outcome = self._join(claim, progress)
            if outcome is not None:
                return _end(outcome)

    def _new(self, key: str) -> Operation:
        return self._holder.operation(KIND, "", key)

    def _join(self, claim: Operation, progress: Callable[[PullState], None]) -> bytes | None:
        """Wait for the pull in flight; its outcome, or None where it's free to be begun anew."""
        first = self._operations.find(KIND, "", claim.key)
        if first is None:
            return None
        if first.done:
            self._operations.drop(first.id)  # an earlier one's outcome: what comes now wants a pull of its own
            return None
        while first is not None and not first.done:
            if not self._holder.alive(first):
                self._operations.drop(first.id, first.holder)
                return None
            progress(_noted(first.progress))
            time.sleep(LOOK)
            first = self._same(first)
        return None if first is None else first.answer

    def _same(self, first: Operation) -> Operation | None:
        now = self._operations.find(KIND, "", first.key)
        return now if now is not None and now.id == first.id else None

    def _run(
        self,
        claim: Operation,
        image: str,
        platform: str | None,
        login: RegistryLogin | None,
        progress: Callable[[PullState], None],
        *,
        all_of_it: bool,
    ) -> None:
        noted, late, began, outcome = 0.0, None, time.monotonic(), ABANDONED

        def note(state: PullState) -> None:
            nonlocal noted, late
            late = state
            if all_of_it:
                progress(state)
            if time.monotonic() - noted < LOOK:
                return
            noted, late = time.monotonic(), None
            with suppress(StorageUnavailable):
                self._operations.progress(claim.id, json.dumps(dataclasses.astuple(state)))
            if not all_of_it:
                progress(state)

        try:
            with self._holder.working(claim):
                self._engine.pull(image, platform=platform, login=login, progress=note)
            outcome = OK
        except Problem as problem:
            outcome = problem.code
            self._finish(claim, views.failure(problem))
            raise
        except BaseException:
            with suppress(StorageUnavailable):
                self._operations.drop(claim.id, claim.holder)
            raise
        finally:
            self._metrics.pull(outcome, time.monotonic() - began)
        self._finish(claim, None)
        if late is not None and not all_of_it:
            progress(late)

    def _finish(self, claim: Operation, failure: object) -> None:
        with suppress(StorageUnavailable):
            self._operations.finish(claim, json.dumps(failure).encode(), time.time() + KEPT)


def _noted(text: str | None) -> PullState:
    """What another process has written down of how far it is; an older one wrote the sentence alone."""
    try:
        sentence, layers = json.loads(text or "")
        return PullState(sentence, tuple(PullLayer(*each) for each in layers))
    except (ValueError, TypeError):
        return PullState(text or "pulling")


def _end(outcome: bytes) -> None:
    failure = json.loads(outcome)
    if failure is not None:
        raise views.raised(failure)
