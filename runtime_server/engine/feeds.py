"""What comes bit by bit, and is waited for no longer than its reader likes."""

from __future__ import annotations

from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)


class FeedEnded(Exception):
    """There is no more to come."""


class Feed(Protocol[T_co]):
    """A stream that is read by one thread, which it never holds for longer than asked for."""

    def receive(self, timeout: float) -> T_co | None:
        """The next item; None where none has come within ``timeout`` seconds (0: only what is there).

        Raises:
            FeedEnded: there is no more to come.
            Problem: the stream broke.
        """

    def close(self) -> None:
        """Give back what it holds; by the thread that reads it, any number of times."""
