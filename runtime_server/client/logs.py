"""A runtime's output, as an iterator that no lost connection ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from runtime_server.client.closing import Closing
from runtime_server.client.ndjson import NDJSON, Resuming, is_control
from runtime_server.client.transport import Call, Transport
from runtime_server.errors import IncompatibleServer
from runtime_server.models import LogLine
from runtime_server.models.logs import LogPosition, nanoseconds, rfc3339

KEPT = 200
"""Lines that are remembered, to find the place in what a removed runtime's record keeps (the last 100)."""


class LogStream(Closing, Iterator[LogLine]):
    """Lines of output. A lost connection is made anew, and no line is lost or repeated by it.

    A context manager, and to be closed where it isn't read to its end. For one thread.

    Args:
        transport: gets them.
        path: of the route.
        query: what was asked for, without ``tail`` and ``since``.
        tail: only this many of the last lines; ``all``.
        since: only from there on.
    """

    def __init__(
        self, transport: Transport, path: str, query: tuple[tuple[str, str], ...], tail: str, since: str | None
    ) -> None:
        self._path = path
        self._query = query
        self._tail = tail
        self._since = since
        start = None if since is None else nanoseconds(since)
        self._position = LogPosition(start, from_first=tail != "all")
        self._read: deque[str] = deque(maxlen=KEPT)
        self._kept: list[LogLine] | None = None
        self._source = Resuming(transport, self._call)
        self._lines = self._iterate()

    @property
    def status(self) -> str | None:
        """The runtime's status at the end of its output, once that was reached."""
        return self._source.ended

    def _call(self) -> Call:
        query = [*self._query, ("format", "ndjson")]
        if self._position.known:
            self._position.again()
            query.append(("since", rfc3339(self._position.since or 0)))
        else:
            query.append(("tail", self._tail))
            query += [] if self._since is None else [("since", self._since)]
        return Call("GET", self._path, query=tuple(query), media_type=NDJSON)

    def _iterate(self) -> Iterator[LogLine]:
        for found in self._source:
            if is_control(found):
                # Of a stream that begins now, the first one tells when that was.
                if self._tail == "0" and isinstance(found.get("heartbeat"), str):
                    self._position.begins(nanoseconds(found["heartbeat"]))
                continue
            line = _line(found)
            if line.time is None or line.stream is None:
                yield from self._of_record(line)
            elif not self._position.passed(line.stream, nanoseconds(line.time)):
                self._read.append(line.line)
                yield line
        yield from self._new_ones()

    def _of_record(self, line: LogLine) -> Iterator[LogLine]:
        """A line without a time, of a removed runtime's record: at once, unless it may have been read before."""
        if not self._read and self._kept is None:
            yield line
            return
        self._kept = [*(self._kept or ()), line]

    def _new_ones(self) -> Iterator[LogLine]:
        """Those of the record's lines that come after what was read."""
        kept = self._kept or []
        yield from kept[overlap(list(self._read), [each.line for each in kept]) :]

    def __next__(self) -> LogLine:
        return next(self._lines)

    def close(self) -> None:
        """End it."""
        self._source.close()


def overlap(read: list[str], kept: list[str]) -> int:
    """How many of the kept lines have been read: the most that end as what was read ends."""
    for count in range(len(kept), 0, -1):
        same = min(count, len(read))
        if same and kept[count - same : count] == read[len(read) - same :]:
            return count
    return 0


def _line(found: dict[str, Any]) -> LogLine:
    try:
        return LogLine.model_validate(found)
    except ValidationError:
        raise IncompatibleServer("a line of the stream isn't a LogLine of this API") from None
