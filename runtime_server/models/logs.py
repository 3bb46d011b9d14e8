"""A runtime's output on the wire, and where in it a reader is."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from runtime_server.models.base import Answer

SLACK = 5_000_000_000
"""Nanoseconds by which entries may be out of order: stdout and stderr are stamped and written by two threads each."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


class LogLine(Answer):
    """A line of a runtime's output, or a piece of one that is longer than the engine's limit (16 KiB)."""

    stream: Literal["stdout", "stderr"] | None = Field(
        None, description="Where it was written to; null where only the kept last lines are left."
    )
    time: str | None = Field(None, description="When, RFC 3339 with nanoseconds; null as above.")
    line: str = Field(description="The text with its line feed; bytes that aren't UTF-8 are replaced.")


def nanoseconds(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time, or of Unix seconds with up to nine decimals.

    Raises:
        ValueError: it is neither.
    """
    seconds = re.fullmatch(r"(\d{1,10})(?:\.(\d{1,9}))?", text, re.ASCII)
    if seconds is not None:
        return int(seconds[1]) * 1_000_000_000 + _fraction(seconds[2])
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("must be an RFC 3339 time or Unix seconds")
    whole = datetime.fromisoformat(match[1] + match[3].upper().replace("Z", "+00:00"))
    return timegm(whole.utctimetuple()) * 1_000_000_000 + _fraction(match[2])


def _fraction(digits: str | None) -> int:
    return int((digits or "").ljust(9, "0"))


def rfc3339(at: int) -> str:
    """Unix nanoseconds as RFC 3339 in UTC with nine decimals."""
    seconds, rest = divmod(at, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class LogPosition:
    """How far a follower has come, so that a new connection loses and repeats nothing.

    Entries of one stream never go back in time, and several may have the same: what tells the place is the time of
    each stream's last entry, and how many there were at that time. A new connection asks for all since a little
    before, and leaves out what was there.

    Args:
        start: Unix nanoseconds before which nothing is wanted, where that is known.
        from_first: nothing before the first entry is wanted: it was the first of the last ones.
    """

    def __init__(self, start: int | None = None, *, from_first: bool = False) -> None:
        self._start = start
        self._from_first = from_first
        self._last: dict[str, tuple[int, int]] = {}
        self._skip: dict[str, tuple[int, int]] = {}
        self.known = False
        """Whether there is a place to go on from, rather than to begin again."""

    @property
    def since(self) -> int | None:
        """Where a new connection begins, in Unix nanoseconds; None where nothing is known yet."""
        if not self._last:
            return self._start
        return max(self._start or 0, max(at for at, _ in self._last.values()) - SLACK)

    def begins(self, at: int) -> None:
        """Nothing before this is wanted; only the first call counts."""
        if not self.known:
            self._start = max(self._start or 0, at)
            self.known = True

    def again(self) -> None:
        """Say that a new connection begins at ``since``."""
        self._skip = dict(self._last)

    def passed(self, stream: str, at: int) -> bool:
        """Whether an entry was there before the connection broke; one that wasn't is the last one from now on."""
        if self._from_first:
            self.begins(at)
        self.known = True
        if stream in self._skip:
            last, left = self._skip[stream]
            if at < last:
                return True
            if at == last and left:
                self._skip[stream] = (last, left - 1)
                return True
            del self._skip[stream]
        known, count = self._last.get(stream, (at, 0))
        self._last[stream] = (at, count + 1 if known == at else 1)
        return False
