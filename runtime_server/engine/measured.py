"""Measuring the calls of an engine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType

from runtime_server.errors import Problem
from runtime_server.metrics.timings import ENGINE, current

Observe = Callable[[str, str, float], object]
"""Takes the operation, the outcome (``ok``, a problem's code or another error's name) and the seconds."""

OK = "ok"


class measured:  # noqa: N801 - reads as a verb
    """Times a ``with`` block that is one call of the engine.

    Args:
        operation: its name.
        observe: is told; None: only the work's own timings are.
    """

    __slots__ = ("_began", "_observe", "_operation")

    def __init__(self, operation: str, observe: Observe | None) -> None:
        self._operation = operation
        self._observe = observe

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._began
        timings = current.get()
        if timings is not None:
            timings.add(ENGINE, seconds)
        if self._observe is None:
            return
        if timings is not None and timings.later is not None:
            timings.later.append(partial(self._observe, self._operation, outcome(error), seconds))
        else:
            self._observe(self._operation, outcome(error), seconds)


def outcome(error: BaseException | None) -> str:
    """What became of a call, as a label.

    Errors that callers act upon are named as the catalogue names its own: ``ContainerMissing`` is
    ``container-missing``.
    """
    if error is None:
        return OK
    if isinstance(error, Problem):
        return error.code
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
