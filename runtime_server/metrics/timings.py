"""How long the phases of one piece of work took: for its caller (``Server-Timing``), and for the metrics.

Who measures doesn't know for whom: the work's ``Timings`` are those of the context (PEP 567) that it is done in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Final

POLICY: Final = "policy"
"""Checking what was asked for, and making the specification of it."""
STORE: Final = "store"
"""The database, waits for its one writer included."""
QUEUE: Final = "queue"
"""Waiting for a place among the starts that are worked on."""
PULL: Final = "pull"
"""Getting the image, waits for another's pull of it included."""
CREATE: Final = "create"
"""The engine makes the container."""
START: Final = "start"
"""The engine starts it."""
READY: Final = "ready"
"""From the container's start until the service in it answers."""
ENGINE: Final = "engine"
"""All calls of the engine; overlaps ``pull``, ``create`` and ``start``."""
TOTAL: Final = "total"
"""From the request's beginning to the answer's, or to the end of the start."""

PHASES: Final = (POLICY, STORE, QUEUE, PULL, CREATE, START, READY, ENGINE, TOTAL)
"""In the order in which they are told."""


class Timings:
    """Seconds by phase. May be added to by several threads: a request's, and that of the start that it began.

    Attributes:
        later: what is to be counted once nobody waits any more; None: all is counted at once.
    """

    __slots__ = ("began", "later", "seconds")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.later: list[Callable[[], object]] | None = None

    def add(self, phase: str, seconds: float) -> None:
        """Add to a phase, which may come more than once."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def whole(self) -> dict[str, float]:
        """The phases so far and the total, in the order of ``PHASES``."""
        found = {**self.seconds, TOTAL: time.perf_counter() - self.began}
        return {phase: found[phase] for phase in PHASES if phase in found}


current: ContextVar[Timings | None] = ContextVar("timings", default=None)
"""Those of the work that is being done here."""


def spent(phase: str, seconds: float) -> None:
    """Add to what is being done here, if anybody times it."""
    timings = current.get()
    if timings is not None:
        timings.add(phase, seconds)


class timed:  # noqa: N801 - reads as a verb
    """Times a ``with`` block as a phase.

    PERF: a class, since a generator as context manager costs several times as much.
    """

    __slots__ = ("_began", "_phase")

    def __init__(self, phase: str) -> None:
        self._phase = phase

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        spent(self._phase, time.perf_counter() - self._began)


def server_timing(phases: dict[str, float]) -> str:
    """The value of a ``Server-Timing`` header, in milliseconds (W3C Server Timing, section 3.1)."""
    return ", ".join(f"{phase};dur={seconds * 1000:.2f}" for phase, seconds in phases.items())
