"""A runtime's output: read and followed over pauses, restarts and its end."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.engine.feeds import Feed, FeedEnded
from runtime_server.engine.inside import LogEntry, LogQuery
from runtime_server.models import RuntimeStatus
from runtime_server.models.logs import LogPosition
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.states import seen
from runtime_server.store.records import Record
from runtime_server.store.store import Store

LOOK = 0.1
"""Seconds between two looks at a runtime that isn't running yet, or not again yet."""

_GOES_ON = (RuntimeStatus.STARTING, RuntimeStatus.RUNNING, RuntimeStatus.PAUSED)


@dataclass(frozen=True, slots=True)
class KeptLine:
    """A line that was kept of a removed container, of which nobody knows stream and time any more."""

    data: bytes


class Outputs:
    """Opens runtimes' output.

    Args:
        engine: has it.
        store: has what is left of removed ones.
        lookup: finds runtimes.
    """

    def __init__(self, engine: Engine, store: Store, lookup: Lookup) -> None:
        self._engine = engine
        self._store = store
        self._lookup = lookup

    def open(self, caller: Caller, name: str, query: LogQuery) -> OutputFeed:
        """The runtime's output; the engine is asked at the first ``receive``.

        Raises:
            RuntimeNotFound: there is none.
        """
        return OutputFeed(self._engine, self._store, self._lookup.find(caller, name), query)


class _Kept:
    """The lines of a record."""

    def __init__(self, text: str, tail: int | None) -> None:
        lines = text.encode().splitlines(keepends=True)
        first = 0 if tail is None else max(0, len(lines) - tail)
        self._lines = deque(KeptLine(line) for line in lines[first:])

    def receive(self, timeout: float) -> KeptLine:  # noqa: ARG002 - there is nothing to wait for
        """See ``Feed``."""
        if not self._lines:
            raise FeedEnded
        return self._lines.popleft()

    def close(self) -> None:
        """See ``Feed``."""


class OutputFeed:
    """A runtime's output; see ``Feed``. Its end tells the runtime's status.

    Where the engine's stream ends and the runtime goes on, after a restart, it is opened again where it ended.
    """

    def __init__(self, engine: Engine, store: Store, record: Record, query: LogQuery) -> None:
        self._engine = engine
        self._store = store
        self.record = record
        self._query = query
        self._feed: Feed[LogEntry | KeptLine] | None = None
        self._opened = self._waited = False
        self._position = LogPosition(query.since, from_first=query.tail is not None)
        if query.tail == 0:
            self._position.begins(time.time_ns())

    def receive(self, timeout: float) -> LogEntry | KeptLine | None:
        """See ``Feed``."""
        ends = time.monotonic() + timeout
        while True:
            left = max(0.0, ends - time.monotonic())
            if self._feed is None:
                self._feed = self._open()
            if self._feed is None:
                time.sleep(min(left, LOOK))
                if left <= LOOK:
                    return None
                continue
            try:
                entry = self._feed.receive(left)
            except FeedEnded:
                self._ended()
                continue
            if not isinstance(entry, LogEntry) or not self._position.passed(entry.stream, entry.at):
                return entry

    def _record(self) -> Record:
        self.record = self._store.get(self.record.runtime_id) or self.record
        return self.record

    def _open(self) -> Feed[LogEntry | KeptLine] | None:
        """The engine's stream, or what was kept; None where there is nothing to read yet."""
        record = self._record()
        if record.status is RuntimeStatus.STARTING:
            if not self._query.follow:
                raise FeedEnded(str(record.status))
            self._waited = True
            return None
        with suppress(ContainerMissing):
            if record.status is not RuntimeStatus.REMOVED and record.container_id is not None:
                found = self._engine.log_entries(record.container_id, self._asked())
                self._opened = True
                return found
        # Nothing that was kept is new to whoever has read what the engine told.
        return _Kept("" if self._opened else self._record().logs or "", self._query.tail)

    def _asked(self) -> LogQuery:
        """The query, or what is left of it once a part has been read."""
        if not self._opened and not (self._waited and self._query.tail == 0):
            return self._query
        self._position.again()
        return dataclasses.replace(self._query, since=self._position.since, tail=None)

    def _ended(self) -> None:
        """Go on, or not, after the engine has said all that its stream has.

        Raises:
            FeedEnded: the runtime has ended, or wasn't to be followed.
        """
        assert self._feed is not None
        self._feed.close()
        self._feed = None
        if not self._query.follow:
            raise FeedEnded(str(self._record().status))
        status = self._status()
        if status not in _GOES_ON:
            raise FeedEnded(str(status))
        time.sleep(LOOK / 10)  # an engine that ends its stream at once each time mustn't keep this busy

    def _status(self) -> RuntimeStatus:
        """The runtime's status by the engine, whose word the store may not have heard yet."""
        if self.record.container_id is None:
            return self._record().status
        try:
            found = seen(self._engine.inspect(self.record.container_id))
        except ContainerMissing:
            return RuntimeStatus.REMOVED
        # Between its two lives, while it is restarted, the container has no process.
        return found if self._record().status is not RuntimeStatus.STARTING else RuntimeStatus.STARTING

    def close(self) -> None:
        """See ``Feed``."""
        if self._feed is not None:
            self._feed.close()
