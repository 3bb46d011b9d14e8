"""What the reconciler does to single runtimes, in threads of its own: long work must not hold up its loop."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from runtime_server.engine import labels as tags
from runtime_server.engine.base import ContainerMissing, ContainerState, Engine, Listed
from runtime_server.errors import EngineFailed, EngineTimeout, EngineUnreachable, Problem, StorageUnavailable
from runtime_server.metrics.instruments import Metrics
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import pulls, rebuilding, restarts, starts, stops
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.kept import KeptChanges
from runtime_server.runtimes.nginx_cache import NginxCache
from runtime_server.runtimes.renewals import Renewals
from runtime_server.runtimes.restarts import Restarts
from runtime_server.runtimes.starts import Starts
from runtime_server.runtimes.stops import Stops
from runtime_server.runtimes.workspaces import Workspaces
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
        locks: the folder of runtimes' locks.
        restarts: finishes what was interrupted, too.
        renewals, kept: what labels don't know.
        retention: seconds that an ended runtime stays, where it has no time of its own.
        workspaces: unused ones have a retention too.
        cache: nginx's look-ups; None: there is no gateway.
        metrics: count what is done.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        starts: Starts,
        stops: Stops,
        holder: Holder,
        locks: Path,
        restarts: Restarts,
        renewals: Renewals,
        kept: KeptChanges,
        retention: float,
        workspaces: Workspaces,
        cache: NginxCache | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._starts = starts
        self._stops = stops
        self._holder = holder
        self._locks = locks
        self._restarts = restarts
        self._renewals = renewals
        self._kept = kept
        self._retention = retention
        self._workspaces = workspaces
        self._cache = cache
        self._metrics = metrics or Metrics()
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="chore")
        # Stops take their grace: what the engine tells must not queue behind them.
        self._quick_pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="look")
        self._pool_closed = threading.Event()
        self._busy: dict[str, Callable[[], object] | None] = {}
        self._lock = threading.Lock()

    def submit(self, runtime_id: str, work: Callable[[], object], *, quick: bool = False) -> None:
        """Do ``work`` for the runtime soon, unless something is being done for it already.

        Args:
            runtime_id: whose.
            work: what.
            quick: it is a look at the engine: short, and due again after whatever is being done.
        """
        with self._lock:
            if runtime_id in self._busy:
                if quick:
                    self._busy[runtime_id] = work
                return
            self._busy[runtime_id] = None
        self._hand_on(self._quick_pool if quick else self._pool, runtime_id, work)

    def _hand_on(self, pool: ThreadPoolExecutor, runtime_id: str, work: Callable[[], object]) -> None:
        try:
            pool.submit(self._do, runtime_id, work)
        except RuntimeError:  # closed meanwhile
            with self._lock:
                self._busy.pop(runtime_id, None)

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
            again = self._busy.pop(runtime_id, None)
            if again is not None:
                self._busy[runtime_id] = None
        if again is not None:
            self._hand_on(self._quick_pool, runtime_id, again)

    def interrupted(self) -> None:
        """Finish the starts, restarts and stops whose holders are gone; nobody may ever ask for such a pull again.

        What came of an interrupted resume's reservation, the engine knows.
        """
        for operation in self._store.operations.running(pulls.KIND, RESUME):
            if not self._holder.alive(operation):
                self._store.operations.drop(operation.id, operation.holder)
        for operation in self._store.operations.running(starts.KIND, stops.KIND, restarts.KIND):
            if not self._holder.alive(operation):
                self.submit(operation.key, lambda operation=operation: self._finish(operation))  # type: ignore[misc]
        self._starts.advance()

    def _finish(self, operation: Operation) -> None:
        record = self._store.get(operation.key)
        wanted = RuntimeStatus.STOPPING if operation.kind == stops.KIND else RuntimeStatus.STARTING
        if record is None or record.status is not wanted:
            self._store.give_up(operation.id, operation.holder)
            return
        log.info("finishing what was interrupted", runtime_id=operation.key, kind=operation.kind)
        self._metrics.interrupted.inc()
        if operation.kind == stops.KIND:
            self._stops.take_over(record, operation)
            return
        if operation.kind == restarts.KIND:
            self._restarts.take_over(record, operation)
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
            self._metrics.expired.inc()
            self._stops.finish(*begun)

    def tidy(self, now: float) -> None:
        """Remove what has been stopped for longer than its retention; forget what was removed that long ago."""
        for runtime_id in self._store.forget(now - self._retention):
            (self._locks / runtime_id).unlink(missing_ok=True)
            self._renewals.forget(runtime_id)
            self._kept.forget(runtime_id)
            if self._cache is not None:
                self._cache.forget(runtime_id)
        for record in self._store.ended():
            kept = self._retention if record.retention is None else record.retention
            automatic = record.auto_remove and record.container_id is not None
            if automatic or (record.stopped_at or record.created_at) + kept < now:
                self.submit(record.runtime_id, lambda record=record: self.remove_now(record))  # type: ignore[misc]
        self._store.operations.expire(now)
        for volume in self._workspaces.expired(now):
            self.submit(volume, lambda volume=volume: self._workspaces.expire(volume))  # type: ignore[misc]

    def compare_workspaces(self) -> None:
        """See that the records of workspaces are those of the volumes that there are.

        Raises:
            EngineUnreachable, EngineTimeout: the engine doesn't answer.
        """
        try:
            self._workspaces.compare()
        except (EngineFailed, StorageUnavailable) as problem:  # neither a gap in what the engine tells of runtimes
            log.warning("workspaces can't be compared", code=problem.code, detail=problem.detail)

    def remove_now(self, record: Record) -> None:
        """Remove an ended runtime's container; its record keeps how it ended, and its last lines."""
        # Not one that was started again since it was looked at.
        begun = self._stops.begin(record, timeout=0.0, remove=True, only_from=stops.ENDED)
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
        elif without_container(record):
            self.submit(runtime_id, lambda: self._clear(listed))

    def _clear(self, listed: Listed) -> None:
        """Remove a left-over container, which a start sent again would find and take for its own meanwhile."""
        runtime_id, owner = listed.labels.get(tags.RUNTIME_ID, listed.name), listed.labels.get(tags.OWNER, "")
        claim = self._holder.operation(starts.KIND, owner, runtime_id)
        if not self._store.operations.claim(claim):
            return
        try:
            record = self._store.get(runtime_id)
            if record is None or without_container(record):
                log.info("removing a left-over container", container_id=listed.container_id, name=listed.name)
                with self._holder.working(claim), suppress(ContainerMissing):
                    self._engine.remove(listed.container_id)
                    self._metrics.orphans.inc()
        finally:
            self._store.give_up(claim.id)  # it looked like a start at work

    def _adopt(self, listed: Listed) -> None:
        try:
            snapshot = self._engine.inspect(listed.container_id)
        except ContainerMissing:
            return
        record = rebuilding.adopted(snapshot, time.time())
        record = self._kept.applied(record)
        record = dataclasses.replace(record, expires_at=self._renewals.end(record.runtime_id, record.expires_at))
        if record.status in stops.ENDED:
            record = dataclasses.replace(record, logs=stops.last_lines(self._engine, listed.container_id))
        log.info("adopting a container", runtime_id=record.runtime_id, status=str(record.status))
        # An alias goes over from an ended runtime to its successor, which a label can't follow.
        shrinking: tuple[dict[str, Any], ...] = ({}, {"name": None}, {"name": None, "session_id": None})
        for less in shrinking:
            try:
                self._store.add(dataclasses.replace(record, **less))
            except (AliasTaken, SessionTaken):
                continue
            except IdTaken:
                return
            self._metrics.adopted.inc()
            return

    def settle(self) -> None:
        """Return once nothing is being done, or this closes."""
        while self._busy and not self._pool_closed.wait(0.01):
            pass

    def close(self) -> None:
        """Finish what is being done."""
        self._pool_closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._quick_pool.shutdown(wait=True, cancel_futures=True)


def without_container(record: Record) -> bool:
    """Whether the record stands for no container, nor will: whatever has its name is left over."""
    return record.status is RuntimeStatus.REMOVED or (record.status in stops.ENDED and record.container_id is None)
