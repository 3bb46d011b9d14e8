"""Stops and removals: begun once, finished by whoever is there."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import structlog

from runtime_server.engine.base import ContainerMissing, Engine, Snapshot
from runtime_server.errors import EngineFailed, Problem, RuntimeBusy, RuntimeNotFound, StorageUnavailable
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import views
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.nginx_cache import NginxCache, taken_back
from runtime_server.runtimes.waits import SlowLane, until
from runtime_server.store.records import IdTaken, Operation, Record
from runtime_server.store.slots import QUEUED, READYING, START
from runtime_server.store.store import LIVE, Store

log = structlog.get_logger("runtime_server.stops")

KIND = "stop"
RESTART = "restart"
LAUNCH_WAIT = 20.0
"""Seconds that a stop waits for a start in flight to notice it; for a restart, beyond that one's grace."""
MARGIN = 15.0
"""Seconds beyond the grace that a second stop waits for the first."""
ENDED = (RuntimeStatus.STOPPED, RuntimeStatus.ERROR)


class Stops:
    """Ends runtimes.

    Args:
        engine: stops containers.
        store: records.
        holder: this process.
        lane: bounds those who wait for another's stop.
        cache: nginx's look-ups; None: there is no gateway.
    """

    def __init__(
        self, *, engine: Engine, store: Store, holder: Holder, lane: SlowLane, cache: NginxCache | None = None
    ) -> None:
        self._engine = engine
        self._store = store
        self._holder = holder
        self._lane = lane
        self._cache = cache

    def stop(self, record: Record, *, timeout: float, remove: bool) -> tuple[Record, bool]:
        """Stop the runtime, and remove its container where ``remove`` is set.

        Args:
            record: whose.
            timeout: seconds between TERM and KILL.
            remove: also remove the container.

        Returns:
            The record afterwards, and whether this call changed anything.

        Raises:
            EngineUnreachable, EngineTimeout: the stop is finished later all the same.
            RuntimeBusy: another stop takes longer than it should.
        """
        for _ in range(5):
            if _nothing_to_do(record, remove):
                return record, False
            if record.status is RuntimeStatus.STOPPING:
                record = self._join(record, timeout)
                continue
            try:
                begun = self.begin(record, timeout=timeout, remove=remove)
            except StorageUnavailable:
                return self._unrecorded(record, timeout, remove)
            if begun is not None:
                return self.finish(*begun), True
            record = self._again(record)
        raise RuntimeBusy("The runtime's state changes too quickly.", retry_after=1)

    def begin(
        self,
        record: Record,
        *,
        timeout: float,
        remove: bool,
        due_at: float | None = None,
        only_from: Collection[RuntimeStatus] = (),
    ) -> tuple[Record, Operation] | None:
        """Claim the stop; None where the runtime has changed meanwhile.

        Args:
            record: whose.
            timeout: seconds of grace.
            remove: also remove the container.
            due_at: only if the runtime has expired by then.
            only_from: only if it is in one of these states; empty: in any that can be ended.
        """
        remove = remove or record.auto_remove
        operation = self._holder.operation(
            KIND, record.owner, record.runtime_id, payload={"timeout": timeout, "remove": remove}
        )
        from_states = only_from or ((*LIVE, *ENDED) if remove else LIVE)
        with suppress(IdTaken):
            changed = self._store.change(
                record.runtime_id,
                only_from=from_states,
                due_at=due_at,
                begin=operation,
                status=RuntimeStatus.STOPPING,
                status_detail=None,
                seen_at=time.time(),
            )
            return None if changed is None else (changed, operation)
        return None

    def finish(self, record: Record, operation: Operation) -> Record:
        """Do what the operation says, whatever of it has been done before.

        Raises:
            EngineUnreachable, EngineTimeout, EngineFailed: the operation stays, free to be taken over.
        """
        with self._holder.working(operation):
            try:
                return self._finish(record, operation)
            except Problem:
                with suppress(StorageUnavailable):
                    self._store.operations.release(operation)
                raise

    def _finish(self, record: Record, operation: Operation) -> Record:
        grace, remove = float(operation.payload["timeout"]), bool(operation.payload["remove"])
        self._await_launch(record)
        container = record.container_id or record.runtime_id
        snapshot = self._stopped(record, container, grace)
        logs = None if snapshot is None else last_lines(self._engine, container)
        if remove and snapshot is not None:
            self._remove(container)
        values = _outcome(record, snapshot, removed=remove or _lost(record, snapshot), logs=logs)
        try:
            changed = self._store.change(
                record.runtime_id, only_from={RuntimeStatus.STOPPING}, end=operation.id, **values
            )
            if changed is None:
                self._store.operations.drop(operation.id, operation.holder)
                return self._again(record)
        except StorageUnavailable:
            # It has stopped all the same; whoever takes the operation over writes it down.
            return dataclasses.replace(record, **values)
        return changed

    def _await_launch(self, record: Record) -> None:
        """Wait until a start or restart in flight has noticed that it is no longer wanted."""
        find = self._store.operations.find

        def gone() -> bool | None:
            start = find(START, record.owner, record.runtime_id) or find(RESTART, record.owner, record.runtime_id)
            if start is not None and start.stage in (QUEUED, READYING) and self._store.slots.withdraw(start.id):
                return True  # nobody is at work on it
            if start is not None and not self._holder.alive(start):
                with suppress(StorageUnavailable):
                    self._store.give_up(start.id, start.holder)
                return True
            return True if start is None else None

        restart = find(RESTART, record.owner, record.runtime_id)
        grace = float(restart.payload["timeout"]) if restart is not None else 0.0
        if until(gone, LAUNCH_WAIT + grace) is None:
            raise RuntimeBusy("The runtime's start can't be interrupted yet.", retry_after=2)

    def _stopped(self, record: Record, container: str, grace: float) -> Snapshot | None:
        """The container once its process has ended; None where there is none."""
        with taken_back(self._cache, record.runtime_id):
            try:
                self._engine.stop(container, grace)
                return self._engine.inspect(container)
            except ContainerMissing:
                return None

    def _remove(self, container: str) -> None:
        with suppress(ContainerMissing):
            self._engine.remove(container)

    def _join(self, record: Record, timeout: float) -> Record:
        """Wait for the stop in flight, or finish it where nobody works on it."""

        def look() -> Record | None:
            now = self._again(record)
            if now.status is not RuntimeStatus.STOPPING:
                return now
            operation = self._store.operations.find(KIND, record.owner, record.runtime_id)
            if operation is not None and not self._holder.alive(operation):
                return self.take_over(now, operation)
            return None

        found = self._lane.until(look, timeout + MARGIN)
        if found is None:
            raise RuntimeBusy("Another stop of this runtime is still running.", retry_after=1)
        return found

    def take_over(self, record: Record, operation: Operation) -> Record | None:
        """Finish a stop whose holder is gone; None where another was faster."""
        lease = self._holder.lease()
        if not self._store.operations.take_over(operation, self._holder.id, lease):
            return None
        mine = self._store.operations.find(KIND, record.owner, record.runtime_id)
        return None if mine is None or mine.holder != self._holder.id else self.finish(record, mine)

    def _unrecorded(self, record: Record, timeout: float, remove: bool) -> tuple[Record, bool]:
        """Stop without a record of it, since the store can't be written; the reconciler catches up later."""
        log.warning("stopping without a record", runtime_id=record.runtime_id)
        container = record.container_id or record.runtime_id
        snapshot = self._stopped(record, container, timeout)
        if remove or record.auto_remove:
            self._remove(container)
        gone = remove or record.auto_remove or _lost(record, snapshot)
        values = _outcome(record, snapshot, removed=gone, logs=None)
        return dataclasses.replace(record, **values), True

    def _again(self, record: Record) -> Record:
        now = self._store.get(record.runtime_id)
        if now is None:
            raise RuntimeNotFound("No runtime has that id or alias.")
        return now


def last_lines(engine: Engine, container: str) -> str | None:
    """The last lines of the output, None where the engine doesn't tell."""
    with suppress(ContainerMissing, EngineFailed):
        return engine.logs(container)
    return None


def _nothing_to_do(record: Record, remove: bool) -> bool:
    if record.status is RuntimeStatus.REMOVED:
        return True
    return record.status in ENDED and not remove


def _lost(record: Record, snapshot: Snapshot | None) -> bool:
    """Whether a container that there was is gone; a start that was stopped early may never have had one."""
    return snapshot is None and record.container_id is not None


def _outcome(record: Record, snapshot: Snapshot | None, *, removed: bool, logs: str | None) -> dict[str, Any]:
    """The columns after a stop."""
    now = time.time()
    values: dict[str, Any] = {"status_detail": None, "seen_at": now}
    if snapshot is not None:
        values |= views.facts(snapshot, now, RuntimeStatus.STOPPED, record=record) | {"status_detail": None}
    if record.stopped_at is not None:
        values["stopped_at"] = record.stopped_at
    else:
        values.setdefault("stopped_at", now)
    if record.exit is not None:
        values["exit"] = record.exit
    values["status"] = RuntimeStatus.REMOVED if removed else RuntimeStatus.STOPPED
    if removed:
        values["removed_at"] = now
        values["ports"] = {}
    if logs is not None:
        values["logs"] = logs
    return values
