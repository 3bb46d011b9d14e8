"""What can be done inside of a container: the second half of the Engine protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from runtime_server.engine.feeds import Feed


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which output is wanted.

    Attributes:
        stdout, stderr: of which streams.
        follow: also what will be written, until the container's process ends.
        tail: only this many of the last entries, those of unwanted streams counted too; None: all.
        since: only entries from this moment on, in Unix nanoseconds; None: all.
    """

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of output, or a piece of a long one; ``at`` in Unix nanoseconds, ``stream`` ``stdout`` or ``stderr``."""

    stream: str
    at: int
    data: bytes


class InsideEngine(Protocol):
    """What is done inside of a container.

    ``container`` is as for ``Engine``, and so are the errors that all methods may raise.
    """

    def log_entries(self, container: str, query: LogQuery) -> Feed[LogEntry]:
        """The container's output, in the order in which it was written.

        Following goes on while it is paused, and ends with its process, also where that is started again. Of a
        container that doesn't run, following ends after what there is.
        """
