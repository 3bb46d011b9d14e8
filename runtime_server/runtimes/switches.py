"""Freezing and thawing: one engine call under the runtime's lock, and what the gateway needs around it.

The kernel accepts connections for a frozen process, so that a request which is sent there hangs in silence, and no
connect timeout helps. Hence a runtime behind the gateway is marked ``pausing`` first, so that look-ups no longer lead
there; nginx's kept look-ups are taken back; and whoever got through all the same is seen by the bytes that the frozen
container doesn't read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_server.engine.base import Connections, ContainerMissing, Engine
from runtime_server.errors import InvalidState, Problem, RuntimeNotFound, StorageUnavailable
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import nginx_cache
from runtime_server.runtimes.holders import LOCK_WAIT, Holder, locked, runtime_lock
from runtime_server.runtimes.nginx_cache import NginxCache
from runtime_server.runtimes.quotas import Quotas
from runtime_server.runtimes.states import Action, invalid, target
from runtime_server.runtimes.sync import Sync
from runtime_server.runtimes.terms import Terms
from runtime_server.runtimes.waits import until
from runtime_server.store.records import Record
from runtime_server.store.store import Store
from runtime_server.store.usage import RESUME

DRAIN = 2.0
"""Seconds that requests get which reached a runtime that nothing would wake, before it is frozen once more."""
DRAIN_TRIES = 3

_BOTH = frozenset({RuntimeStatus.RUNNING, RuntimeStatus.PAUSED})


@dataclass(frozen=True, slots=True)
class Switched:
    """What came of a pause or a resume.

    Attributes:
        status: the runtime's state.
        changed: whether the call has changed it.
        written: whether the record tells; not so where a stop has begun meanwhile.
        seen_at: Unix time of the engine's answer.
    """

    status: RuntimeStatus
    changed: bool
    written: bool
    seen_at: float


class Switches:
    """Pauses and resumes.

    Args:
        engine: the container engine.
        store: records.
        sync: mends a record that the engine contradicts.
        locks: the folder of runtimes' locks.
        holder: this process.
        quotas: what owners may have.
        terms: say what a request wakes.
        cache: nginx's look-ups; None: there is no gateway.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        sync: Sync,
        locks: Path,
        holder: Holder,
        quotas: Quotas,
        terms: Terms,
        cache: NginxCache | None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._sync = sync
        self._locks = locks
        self._holder = holder
        self._quotas = quotas
        self._terms = terms
        self._cache = cache

    def pause(self, record: Record, meanwhile: Callable[[], object] | None = None) -> Switched:
        """Freeze the runtime. Behind the gateway it may be running afterwards: who had been sent there has woken it.

        Args:
            record: whose.
            meanwhile: called at most once, while the engine works; must raise nothing.

        Raises:
            InvalidState, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        with locked(self._locks, record.runtime_id):
            if self._cache is None:
                switched = self._write(record, RuntimeStatus.PAUSED, self._call(Action.PAUSE, record, meanwhile))
            else:
                switched = self._pause_behind_gateway(record, self._cache, meanwhile)
            if not switched.written:
                self._thaw_what_restarts(record)
            return switched

    def resume(self, record: Record, meanwhile: Callable[[], object] | None = None) -> Switched:
        """Thaw the runtime. Arguments as ``pause``.

        Raises:
            InvalidState, QuotaExceeded, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        with locked(self._locks, record.runtime_id):
            return self._resume(record, meanwhile)

    def wake(self, record: Record, *, wait: float = LOCK_WAIT) -> None:
        """Thaw the runtime unless another caller was faster.

        Args:
            record: whose.
            wait: seconds to wait for others who work on it.

        Raises:
            RuntimeNotFound, InvalidState, QuotaExceeded, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        with locked(self._locks, record.runtime_id, wait=wait):
            now = self._again(record)
            if now.status is not RuntimeStatus.RUNNING or now.pausing:
                target(Action.RESUME, now)
                self._resume(now)

    def is_called(self, record: Record) -> bool:
        """Whether somebody waits for a frozen runtime's answer."""
        found = self._connections(record)
        return found is not None and found.waiting > 0

    def sleep(self, record: Record, unused: Callable[[Record], bool], detail: str) -> bool:
        """Freeze a runtime that nobody uses, unless somebody begins to meanwhile.

        Args:
            record: whose.
            unused: asked once no further request is sent there.
            detail: says why, for people.

        Returns:
            Whether it is frozen.

        Raises:
            InvalidState, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        with self.quiet(record) as marked:
            if marked is None or not unused(marked):
                return False
            self._call(Action.PAUSE, marked)
            if self._in_use(marked):
                self._engine.resume(marked.container_id or marked.runtime_id)
                return False
            self._write(marked, RuntimeStatus.PAUSED, True, detail)
            return True

    @contextmanager
    def quiet(self, record: Record) -> Iterator[Record | None]:
        """Send a running runtime no request meanwhile: who calls is held until then.

        Yields:
            Its record; None where it doesn't run.

        Raises:
            RuntimeBusy: another call works on it.
        """
        assert self._cache is not None
        with locked(self._locks, record.runtime_id):
            marked = self._mark(record)
            if marked is None:
                yield None
                return
            try:
                self._take_back(marked, self._cache)
                yield marked
            finally:
                self._unmark(marked)

    def mend(self, record: Record) -> None:
        """Take away a mark that a crash left, unless somebody is at work on the runtime."""
        with runtime_lock(self._locks, record.runtime_id, wait=0) as got:
            if got:
                self._unmark(record)

    def _thaw_what_restarts(self, record: Record) -> None:
        """A restart, which takes no lock, has begun since the record was read: its process must not stay frozen.

        Raises:
            InvalidState: so it is.
        """
        now = self._store.get(record.runtime_id)
        if now is not None and now.status is RuntimeStatus.STARTING:
            with suppress(ContainerMissing, InvalidState):
                self._engine.resume(now.container_id or now.runtime_id)
            raise invalid(Action.PAUSE, now.status)

    def _pause_behind_gateway(
        self, record: Record, cache: NginxCache, meanwhile: Callable[[], object] | None
    ) -> Switched:
        marked = self._mark(record) or self._again(record)
        try:
            if not self._terms.wakes(marked):
                return self._pause_for_good(marked, cache, meanwhile)
            cache.take_back(marked.runtime_id)
            changed = self._call(Action.PAUSE, marked, meanwhile)
            if changed and self.is_called(marked):
                # They were sent here before the mark, and would hang.
                self._engine.resume(marked.container_id or marked.runtime_id)
                return self._write(marked, RuntimeStatus.RUNNING, False)
            return self._write(marked, RuntimeStatus.PAUSED, changed)
        except BaseException:
            self._unmark(marked)
            raise

    def _pause_for_good(self, record: Record, cache: NginxCache, meanwhile: Callable[[], object] | None) -> Switched:
        """Freeze a runtime that no request wakes: whoever was sent there before is served first."""
        self._take_back(record, cache)
        changed = self._call(Action.PAUSE, record, meanwhile)
        for _ in range(DRAIN_TRIES):
            if not changed or not self.is_called(record):
                break
            self._engine.resume(record.container_id or record.runtime_id)
            until(lambda: None if self._in_use(record) else True, DRAIN)
            self._call(Action.PAUSE, record)
        return self._write(record, RuntimeStatus.PAUSED, changed)

    def _take_back(self, record: Record, cache: NginxCache) -> None:
        """Take look-ups back, those included that were under way."""
        last = cache.last(record.runtime_id)
        cache.take_back(record.runtime_id)
        left = 0.0 if last is None else last + nginx_cache.LONGEST - time.time()
        if left > 0:
            time.sleep(min(left, nginx_cache.LONGEST))
            cache.take_back(record.runtime_id)

    def _mark(self, record: Record) -> Record | None:
        """Let look-ups lead there no more; None where it doesn't run."""
        return self._store.change(record.runtime_id, only_from={RuntimeStatus.RUNNING}, pausing=True)

    def _unmark(self, record: Record) -> None:
        # Where this can't be written, the next request finds the mark, and sees to it.
        with suppress(StorageUnavailable):
            self._store.put(record.runtime_id, pausing=False)

    def _in_use(self, record: Record) -> bool:
        found = self._connections(record)
        return found is not None and found.open > 0

    def _connections(self, record: Record) -> Connections | None:
        with suppress(ContainerMissing, Problem):
            return self._engine.connections(record.container_id or record.runtime_id, record.pid)
        return None

    def _resume(self, record: Record, meanwhile: Callable[[], object] | None = None) -> Switched:
        with self._reserved(record) as reservation:
            changed = self._call(Action.RESUME, record, meanwhile)
            switched = self._write(record, RuntimeStatus.RUNNING, changed, end=reservation)
            if reservation is not None and not switched.written:
                with suppress(StorageUnavailable):
                    self._store.operations.drop(reservation)
            return switched

    def _write(
        self,
        record: Record,
        status: RuntimeStatus,
        changed: bool,
        detail: str | None = None,
        *,
        end: str | None = None,
    ) -> Switched:
        """Written as seen after the engine's answer. A stop that began meanwhile keeps its state."""
        marks: dict[str, Any] = {} if self._cache is None else {"pausing": False}
        seen_at = time.time()
        written = self._store.put(
            record.runtime_id,
            only_from=_BOTH,
            end=end,
            status=status,
            seen_at=seen_at,
            status_detail=detail,
            **marks,
        )
        return Switched(status, changed, written, seen_at)

    @contextmanager
    def _reserved(self, record: Record) -> Iterator[str | None]:
        """Hold a place among those that run while a resume does its work, where they are limited.

        Yields:
            The id of the reservation, which the write of the outcome ends.

        Raises:
            QuotaExceeded: there is no place.
        """
        limits = self._quotas.of(record.owner).to_run()
        now = self._store.get(record.runtime_id) if limits else None
        if now is None or now.status is not RuntimeStatus.PAUSED:
            yield None
            return
        operation = self._holder.operation(RESUME, record.owner, record.runtime_id)
        self._store.reserve_run(record, operation, limits)
        with self._holder.working(operation):
            try:
                yield operation.id
            except BaseException:
                with suppress(StorageUnavailable):
                    self._store.operations.drop(operation.id)
                raise

    def _call(self, action: Action, record: Record, meanwhile: Callable[[], object] | None = None) -> bool:
        """One engine call; where the engine contradicts the record, the record is mended and the call refused."""
        call = self._engine.pause if action is Action.PAUSE else self._engine.resume
        try:
            return call(record.container_id or record.runtime_id, meanwhile)
        except (ContainerMissing, InvalidState):
            now = self._store.get(record.runtime_id) or record
            if now.status in _BOTH:
                now = self._sync.locked(now)
            raise invalid(action, now.status) from None

    def _again(self, record: Record) -> Record:
        now = self._store.get(record.runtime_id)
        if now is None:
            raise RuntimeNotFound("No runtime has that id or alias.")
        return now
