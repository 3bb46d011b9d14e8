"""The in-memory engine's output of containers."""

from __future__ import annotations

from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import LogEntry, LogQuery
from runtime_server.engine.memory_calls import MemoryCalls
from runtime_server.engine.memory_containers import Container
from runtime_server.engine.memory_world import World
from runtime_server.errors import EngineUnreachable


class MemoryLogs(MemoryCalls):
    """Output, whole or bit by bit."""

    def logs(self, container: str, tail: int = 100) -> str:
        """The last lines of its output."""
        with self._call("logs"):
            entries = self._own(container).output
            return b"".join(entry.data for entry in (entries[-tail:] if tail > 0 else [])).decode()

    def log_entries(self, container: str, query: LogQuery) -> MemoryLogFeed:
        """Its output, line by line."""
        with self._call("log_entries"):
            return MemoryLogFeed(self._world, self._own(container), query)


class MemoryLogFeed:
    """Entries as they are written; see ``Feed``."""

    def __init__(self, world: World, container: Container, query: LogQuery) -> None:
        self._world = world
        self._container = container
        self._query = query
        self._run = container.started_at
        # As Docker has it, the last lines are counted before those of other streams are left out.
        self._next = 0 if query.tail is None else max(0, len(container.output) - query.tail)

    def _wanted(self, entry: LogEntry) -> bool:
        query = self._query
        shown = query.stdout if entry.stream == "stdout" else query.stderr
        return shown and (query.since is None or entry.at >= query.since)

    def receive(self, timeout: float) -> LogEntry | None:
        """See ``Feed``."""
        with self._world.lock:
            self._world.changed.wait_for(lambda: self._here() or self._over(), timeout)
            if self._world.away:
                raise EngineUnreachable()
            if not self._here():
                if self._over():
                    raise FeedEnded
                return None
            entry = self._container.output[self._next]
            self._next += 1
            return entry

    def _here(self) -> bool:
        """Whether there is an entry to hand out; those that aren't wanted are passed."""
        output = self._container.output
        while self._next < len(output) and not self._wanted(output[self._next]):
            self._next += 1
        return self._next < len(output)

    def _over(self) -> bool:
        """Whether nothing can come any more: its process has ended, or there is another one."""
        ended = not self._container.live or self._container.started_at != self._run
        return self._world.away or not self._query.follow or ended

    def close(self) -> None:
        """See ``Feed``."""
