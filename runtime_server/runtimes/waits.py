"""Waiting: the slow lane, and looking at the store until something is so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from runtime_server.errors import Problem, TooManyWaiting
from runtime_server.models import RuntimeStatus
from runtime_server.store.records import Record

T = TypeVar("T")

SHORT = 1.0
"""Seconds that any call may wait without a place in the slow lane."""


class SlowLane:
    """A worker's bound on threads that wait, so that short calls are always served.

    Args:
        places: how many may wait at once.
        refusal: what others get.
        changed: is told of each place that is taken (1) or given back (-1).
    """

    def __init__(
        self,
        places: int,
        refusal: type[Problem] = TooManyWaiting,
        *,
        changed: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._refusal = refusal
        self._changed = changed

    @contextmanager
    def place(self, wait: float = 0.0) -> Iterator[None]:
        """Wait within a place.

        Args:
            wait: seconds to wait for one, at most ``SHORT``.

        Raises:
            TooManyWaiting: all are taken (or the lane's own refusal).
        """
        if not self._places.acquire(timeout=min(wait, SHORT)):
            raise self._refusal("All threads for requests of this kind are taken.", retry_after=1)
        self._changed(1)
        try:
            yield
        finally:
            self._changed(-1)
            self._places.release()

    def until(self, look: Callable[[], T | None], seconds: float) -> T | None:
        """What ``look`` finds within ``seconds``; a longer wait than ``SHORT`` needs a place.

        Raises:
            TooManyWaiting: it would wait longer, and all places are taken.
        """
        found = until(look, min(seconds, SHORT))
        if found is not None or seconds <= SHORT:
            return found
        with self.place():
            return until(look, seconds - SHORT)


def until(look: Callable[[], T | None], seconds: float) -> T | None:
    """What ``look`` returns as soon as that isn't None; None after ``seconds``. Looks at least once."""
    end = time.monotonic() + seconds
    pause = 0.005
    while True:
        found = look()
        left = end - time.monotonic()
        if found is not None or left <= 0:
            return found
        time.sleep(min(pause, left))
        pause = min(pause * 1.4, 0.1)


_S = RuntimeStatus
_AFTER_RUNNING = frozenset({_S.RUNNING, _S.PAUSED, _S.STOPPING, _S.STOPPED, _S.ERROR, _S.REMOVED})
REACHABLE: dict[RuntimeStatus, frozenset[RuntimeStatus]] = {
    _S.STARTING: _AFTER_RUNNING,
    _S.RUNNING: _AFTER_RUNNING,
    _S.PAUSED: _AFTER_RUNNING,
    _S.STOPPING: frozenset({_S.STOPPED, _S.REMOVED}),
    _S.STOPPED: frozenset({_S.STOPPING, _S.REMOVED}),
    _S.ERROR: frozenset({_S.STOPPING, _S.REMOVED}),
    _S.REMOVED: frozenset(),
}
"""Where a runtime may still get to, if nobody starts its container behind its back, or asks for a restart."""


def settled(record: Record, wanted: RuntimeStatus) -> bool:
    """Whether there is nothing left to wait for: it is so, or it never will be."""
    return record.status is wanted or wanted not in REACHABLE[record.status]
