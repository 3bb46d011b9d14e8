"""Bringing records up to what the engine says, and knowing whether that is needed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import pods, views
from runtime_server.runtimes.holders import runtime_lock
from runtime_server.runtimes.nginx_cache import NginxCache
from runtime_server.runtimes.stops import last_lines
from runtime_server.store.records import AliasTaken, Record, SessionTaken
from runtime_server.store.store import Store

FRESH = 3.0
"""Seconds that a beat of the reconciler counts."""
SETTLED = (RuntimeStatus.RUNNING, RuntimeStatus.PAUSED, RuntimeStatus.STOPPED, RuntimeStatus.ERROR)
"""States that the engine can contradict; the others belong to an operation, or are over."""
ENDED = (RuntimeStatus.STOPPED, RuntimeStatus.ERROR)
_NAMELESS = {"name": None, "session_id": None}


class Liveness:
    """Whether the reconciler follows the engine, so that the store can be trusted: by the age of its beat file.

    Args:
        beat: the file.
    """

    def __init__(self, beat: Path) -> None:
        self._beat = beat

    def live(self) -> bool:
        """Whether the beat is fresh."""
        age = self.age()
        return age is not None and age < FRESH

    def age(self) -> float | None:
        """Seconds since the last beat; None where the engine isn't followed."""
        try:
            return time.time() - os.stat(self._beat).st_mtime
        except OSError:
            return None

    def touch(self) -> None:
        """Beat. On a full disk the file may not come to be: reads then go to the engine."""
        with suppress(OSError):
            self._touch()

    def _touch(self) -> None:
        descriptor = os.open(self._beat, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def end(self) -> None:
        """Say that the stream is gone."""
        self._beat.unlink(missing_ok=True)


class Sync:
    """Writes to a record what the engine knows of its container.

    Args:
        engine: is asked.
        store: is told.
        locks: the folder of runtimes' locks.
        cache: nginx's look-ups; None: there is no gateway.
    """

    def __init__(self, engine: Engine, store: Store, locks: Path, cache: NginxCache | None = None) -> None:
        self._engine = engine
        self._store = store
        self._locks = locks
        self._cache = cache

    def sync(
        self, record: Record, *, exit_code: int | None = None, oom_killed: bool = False, wait: float = 0.0
    ) -> Record:
        """The record as it is after a look at the engine; unchanged while somebody works on it.

        Args:
            record: as last read.
            exit_code: how the process ended, if an event told and the container may be gone by now.
            oom_killed: whether an event told that memory had run out.
            wait: seconds to wait for another's work on it.

        Raises:
            EngineUnreachable, EngineTimeout: the engine doesn't answer.
        """
        if record.status not in SETTLED or record.container_id is None:
            return record
        with runtime_lock(self._locks, record.runtime_id, wait=wait) as got:
            if not got:
                return record
            record = self._store.get(record.runtime_id) or record
            if record.status not in SETTLED:
                return record
            return self.locked(record, exit_code=exit_code, oom_killed=oom_killed)

    def locked(self, record: Record, *, exit_code: int | None = None, oom_killed: bool = False) -> Record:
        """As ``sync``, for a caller that holds the runtime's lock."""
        at = time.time()
        try:
            snapshot = self._engine.inspect(record.container_id or record.runtime_id)
        except ContainerMissing:
            return self._vanished(record, exit_code)
        values = views.facts(snapshot, at, record=record)
        values["restart_reasons"] = pods.restart_reasons(record, snapshot, exit_code=exit_code, oom_killed=oom_killed)
        if record.status in ENDED and values["status"] in ENDED:
            return record  # how it ended is known, and whether a caller ended it
        if all(getattr(record, name) == value for name, value in values.items() if name != "seen_at"):
            return record
        if values["status"] in ENDED:
            if values["exit"] is None and exit_code is not None:  # a container in removal no longer says
                values["exit"] = views.exit_of(exit_code)
            values["logs"] = last_lines(self._engine, snapshot.container_id)
        return self._write(record, values)

    def _write(self, record: Record, values: dict[str, Any]) -> Record:
        """Write what was seen, after which no request is sent to where it was before."""
        try:
            return self._change(record, values)
        finally:
            if self._cache is not None:
                self._cache.take_back(record.runtime_id)

    def _change(self, record: Record, values: dict[str, Any]) -> Record:
        """Write it. One that came back to life does without what another holds by now."""
        shrinking: tuple[dict[str, Any], ...] = ({}, {"name": None}, {"session_id": None}, {**_NAMELESS})
        for less in shrinking:
            with suppress(AliasTaken, SessionTaken):
                changed = self._store.change(record.runtime_id, only_from={record.status}, **values, **less)
                return changed or self._store.get(record.runtime_id) or record
        return record

    def _vanished(self, record: Record, exit_code: int | None) -> Record:
        now = time.time()
        values: dict[str, Any] = {
            "status": RuntimeStatus.REMOVED,
            "status_detail": "The container was removed by somebody else.",
            "removed_at": now,
            "stopped_at": record.stopped_at or now,
            "ports": {},
            "seen_at": now,
        }
        if record.exit is None and exit_code is not None:
            values["exit"] = views.exit_of(exit_code)
        return self._write(record, values)
