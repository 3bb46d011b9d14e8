"""The in-memory engine's events: a log that can be replayed, and streams that follow it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import RLock

from runtime_server.engine.base import EngineEvent

KEPT = 1024
"""How many events can be replayed (Docker keeps 256)."""


class MemoryEventStream:
    """One subscriber's events; any thread may close it."""

    def __init__(self, instance: str, forget: Callable[[MemoryEventStream], None]) -> None:
        self.instance = instance
        self._events: SimpleQueue[EngineEvent | None] = SimpleQueue()
        self._forget = forget

    def put(self, event: EngineEvent) -> None:
        """Hand on one event."""
        self._events.put(event)

    def end(self) -> None:
        """Let iteration end after the events that have come so far."""
        self._events.put(None)

    def close(self) -> None:
        """End iteration in whatever thread it runs, and take no more events."""
        self._forget(self)
        self.end()

    def __iter__(self) -> Iterator[EngineEvent]:
        while (event := self._events.get()) is not None:
            yield event
        self._events.put(None)


class EventLog:
    """Everybody's events and the streams open on them.

    ``lock`` is the engine's: the caller of ``emit``, ``follow`` and ``end_all`` holds it.
    """

    def __init__(self, lock: RLock) -> None:
        self._lock = lock
        self._events: deque[tuple[str, EngineEvent]] = deque(maxlen=KEPT)
        self._streams: list[MemoryEventStream] = []

    def emit(self, instance: str, event: EngineEvent) -> None:
        """Record an event of an instance's container, and tell those who follow that instance."""
        self._events.append((instance, event))
        for stream in self._streams:
            if stream.instance == instance:
                stream.put(event)

    def follow(self, instance: str, since: float | None) -> MemoryEventStream:
        """A new stream, beginning with the events at or after Unix time ``since``."""
        stream = MemoryEventStream(instance, self._forget)
        if since is not None:
            for owner, event in self._events:
                if owner == instance and event.at >= since:
                    stream.put(event)
        self._streams.append(stream)
        return stream

    def end_all(self) -> None:
        """End all streams, as when the engine goes away."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.end()

    def _forget(self, stream: MemoryEventStream) -> None:
        with self._lock:
            self._streams = [each for each in self._streams if each is not stream]
