"""Who calls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; ``owner`` is the name of its key, stamped on what it starts."""

    owner: str
