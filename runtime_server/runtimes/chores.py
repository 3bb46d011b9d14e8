"""What the reconciler does to single runtimes, in threads of its own: long work must not hold up its loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from runtime_server.engine.base import ContainerMissing, ContainerState, Engine, Listed
from runtime_server.errors import EngineTimeout, EngineUnreachable, Problem, StorageUnavailable
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import starts, stops, views
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.starts import Starts
from runtime_server.runtimes.stops import Stops
from runtime_server.store.records import AliasTaken, IdTaken, Operation, Record, SessionTaken
from runtime_server.store.store import Store
from runtime_server.store.usage import RESUME

log = structlog.get_logger("runtime_server.reconciler")

EXPIRY_GRACE = 5.0
"""Seconds between TERM and KILL for a runtime whose time is up."""
THREADS = 8


class Chores:
    """One piece of work for a runtime at a time.

    Args:
        engine: the container engine.
        store: records.
        starts, stops: finish what was interrupted.
        holder: this process.
        retention: seconds that an ended runtime stays, where it has no time of its own.
    """

    def __init__(
        self, *, engine: Engine, store: Store, starts: Starts, stops: Stops, holder: Holder, retention: float
    ) -> None:
        self._engine = engine
        self._store = store
        self._starts = starts
        self._stops = stops
        self._holder = holder
        self._retention = retention
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="chore")
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def submit(self, runtime_id: str, work: Callable[[], object]) -> None:
        """Do ``work`` for the runtime soon, unless something is being done for it already."""
        with self._lock:
            if runtime_id in self._busy:
                return
            self._busy.add(runtime_id)
        try:
            self._pool.submit(self._do, runtime_id, work)
        except RuntimeError:  # closed meanwhile
            self._free(runtime_id)

    def _do(self, runtime_id: str, work: Callable[[], object]) -> None:
        try:
            work()
        except (EngineUnreachable, EngineTimeout, StorageUnavailable):
            pass  # looked at again at the next sweep
        except Problem as problem:
            log.warning("chore failed", runtime_id=runtime_id, code=problem.code, detail=problem.detail)
        except Exception:
            log.exception("chore failed", runtime_id=runtime_id)
        finally:
            self._free(runtime_id)

    def _free(self, runtime_id: str) -> None:
        with self._lock:
            self._busy.discard(runtime_id)

    def interrupted(self) -> None:
        """Finish the starts and stops whose holders are gone."""
        for operation in self._store.operations.running(starts.KIND, stops.KIND, RESUME):
            if self._holder.alive(operation):
                continue
            if operation.kind == RESUME:  # a reservation: what came of it, the engine knows
                self._store.operations.drop(operation.id, operation.holder)
            else:
                self.submit(operation.key, lambda operation=operation: self._finish(operation))  # type: ignore[misc]
        self._starts.advance()

    def _finish(self, operation: Operation) -> None:
        record = self._store.get(operation.key)
        wanted = RuntimeStatus.STARTING if operation.kind == starts.KIND else RuntimeStatus.STOPPING
        if record is None or record.status is not wanted:
            self._store.operations.drop(operation.id, operation.holder)
            return
        log.info("finishing what was interrupted", runtime_id=operation.key, kind=operation.kind)
        if operation.kind == stops.KIND:
            self._stops.take_over(record, operation)
            return
        self._starts.adopt(record, operation)

    def expire(self, now: float) -> None:
        """Stop and remove what is past its end."""
        for record in self._store.due(now):
            self.submit(record.runtime_id, lambda record=record: self._expire(record, now))  # type: ignore[misc]

    def _expire(self, record: Record, now: float) -> None:
        begun = self._stops.begin(record, timeout=EXPIRY_GRACE, remove=True, due_at=now)
        if begun is not None:
            log.info("expired", runtime_id=record.runtime_id)
            self._stops.finish(*begun)

    def tidy(self, now: float) -> None:
        """Remove what has been stopped for longer than its retention; forget what was removed that long ago."""
        for record in self._store.ended():
            kept = self._retention if record.retention is None else record.retention
            automatic = record.auto_remove and record.container_id is not None
            if automatic or (record.stopped_at or record.created_at) + kept < now:
                self.submit(record.runtime_id, lambda record=record: self.remove_now(record))  # type: ignore[misc]
        self._store.forget(now - self._retention)
        self._store.operations.expire(now)

    def remove_now(self, record: Record) -> None:
        """Remove an ended runtime's container; its record keeps how it ended, and its last lines."""
        begun = self._stops.begin(record, timeout=0.0, remove=True)
        if begun is not None:
            self._stops.finish(*begun)

    def unlisted(self, listed: Listed, runtime_id: str) -> None:
        """Deal with a container that no live record stands for: adopt it, or remove what was left over."""
        record = self._store.get(runtime_id)
        if record is None:
            if listed.state is ContainerState.CREATED:
                self.submit(runtime_id, lambda: self._clear(listed))
            else:
                self.submit(runtime_id, lambda: self._adopt(listed))
        elif record.status is RuntimeStatus.REMOVED or (
            record.status is RuntimeStatus.ERROR and record.container_id is None
        ):
            self.submit(runtime_id, lambda: self._clear(listed))

    def _clear(self, listed: Listed) -> None:
        log.info("removing a left-over container", container_id=listed.container_id, name=listed.name)
        with suppress(ContainerMissing):
            self._engine.remove(listed.container_id)

    def _adopt(self, listed: Listed) -> None:
        try:
            snapshot = self._engine.inspect(listed.container_id)
        except ContainerMissing:
            return
        record = views.adopted(snapshot, time.time())
        log.info("adopting a container", runtime_id=record.runtime_id, status=str(record.status))
        with suppress(AliasTaken, SessionTaken, IdTaken):
            self._store.add(record)

    def close(self) -> None:
        """Finish what is being done."""
        self._pool.shutdown(wait=True, cancel_futures=True)
