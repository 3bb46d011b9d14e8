"""What ``doctor`` finds out: a check has a name, a result and, where something is wrong, what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail", "skip"]

CLOCK_WARN, CLOCK_FAIL = 3.0, 30.0
"""Seconds by which two clocks may differ; ends of life and `--since` are off by as much."""


@dataclass(frozen=True, slots=True)
class Check:
    """A result.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``warn``: it works, and should be looked at; ``fail``; ``skip``: it couldn't be looked at.
        detail: what was found, a sentence.
        advice: what to do.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""

    def data(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def ok(name: str, detail: str) -> Check:
    """All is well."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, advice: str) -> Check:
    """It works, and should be looked at."""
    return Check(name, "warn", detail, advice)


def fail(name: str, detail: str, advice: str) -> Check:
    """It doesn't work."""
    return Check(name, "fail", detail, advice)


def skip(name: str, detail: str) -> Check:
    """It couldn't be looked at."""
    return Check(name, "skip", detail)


def clock(name: str, whose: str, difference: float) -> Check:
    """A clock beside this machine's; ``difference`` in seconds."""
    apart = abs(difference)
    if apart < CLOCK_WARN:
        return ok(name, f"{whose} clock agrees with this machine's.")
    detail = f"{whose} clock is {apart:.0f} s {'ahead of' if difference > 0 else 'behind'} this machine's."
    advice = "Have both synchronise their clocks: timedatectl set-ntp true, or chrony."
    return (fail if apart >= CLOCK_FAIL else warn)(name, detail, advice)
