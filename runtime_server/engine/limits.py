"""What of a container can be changed while it is there: the fourth part of the Engine protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NewLimits:
    """Limits to be set; those that are None stay as they are.

    Attributes:
        cpus: whole CPUs.
        memory: bytes, of which nothing may be swapped out.
        pids: processes and threads; 0: without end.
    """

    cpus: float | None = None
    memory: int | None = None
    pids: int | None = None

    def __bool__(self) -> bool:
        return (self.cpus, self.memory, self.pids) != (None, None, None)


class LimitsEngine(Protocol):
    """Limits of containers. ``container`` and what may be raised are as for ``Engine``."""

    def set_limits(self, container: str, limits: NewLimits) -> None:
        """Change limits, at once where the container runs or is paused.

        Raises ``LimitOutOfRange`` for those that the engine can't give, one below what is in use among them.
        """
