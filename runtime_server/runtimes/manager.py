"""What callers can do with runtimes; every method takes who calls, and shows nobody another's."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.errors import (
    InvalidState,
    RuntimeBusy,
    RuntimeNotFound,
    StorageUnavailable,
)
from runtime_server.models import (
    ActionResponse,
    Runtime,
    RuntimeStatus,
    StartRequest,
    StartResponse,
)
from runtime_server.runtimes import sessions
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.holders import Holder, runtime_lock
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.quotas import Quotas
from runtime_server.runtimes.reads import RuntimeReads
from runtime_server.runtimes.renewals import Renewals
from runtime_server.runtimes.starts import Starts, described
from runtime_server.runtimes.states import Action, invalid, target
from runtime_server.runtimes.steps import reached
from runtime_server.runtimes.stops import Stops
from runtime_server.runtimes.sync import Liveness, Sync
from runtime_server.runtimes.views import Views
from runtime_server.runtimes.waits import SlowLane
from runtime_server.store.records import Happening, Operation, Record, SessionTaken
from runtime_server.store.store import LIVE, Store
from runtime_server.store.usage import RESUME

LOCK_WAIT = 15.0
"""Seconds that a pause or resume waits for another on the same runtime."""


class RuntimeManager(RuntimeReads):
    """The service, without HTTP.

    Args:
        engine: the container engine.
        store: records.
        starts, stops, sync: the parts that do the work.
        liveness: whether the store can be trusted.
        lane: bounds waiting threads.
        locks: the folder of runtimes' locks.
        renewals: ends that labels don't know.
        lookup: finds runtimes.
        holder: this process.
        quotas: what owners may have.
        views: makes what callers see.
        max_wait: the longest wait of a request, seconds.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        starts: Starts,
        stops: Stops,
        sync: Sync,
        liveness: Liveness,
        lane: SlowLane,
        locks: Path,
        renewals: Renewals,
        lookup: Lookup,
        holder: Holder,
        quotas: Quotas,
        views: Views,
        max_wait: float,
    ) -> None:
        super().__init__(
            engine=engine,
            store=store,
            sync=sync,
            liveness=liveness,
            lane=lane,
            lookup=lookup,
            views=views,
            max_wait=max_wait,
        )
        self._starts = starts
        self._stops = stops
        self._locks = locks
        self._renewals = renewals
        self._holder = holder
        self._quotas = quotas

    def start(self, caller: Caller, request: StartRequest, *, key: str | None = None) -> StartResponse:
        """Start a runtime, or return the session's live one.

        Args:
            caller: who starts it.
            request: what.
            key: the idempotency key, from which the runtime's id comes.

        Raises:
            Problem: any of the catalogue's that a start can end with.
        """
        self._lookup.refuse_while_rebuilding()
        request = sessions.named(request.model_copy(update={"wait": min(request.wait, self._max_wait)}))
        request = self._starts.completed(request)
        for _ in range(10):
            if request.session_id and (live := self._store.by_session(caller.owner, request.session_id)):
                joined = self._join(caller, live, request, created=self._starts.began(caller, key, live))
                if joined is not None:
                    return joined
            try:
                record = self._starts.start(caller, request, key)
            except SessionTaken:
                continue
            reached("answered", record.runtime_id)
            return self._views.started(record, created=True)
        raise RuntimeBusy("The session's runtime changes too quickly.", retry_after=1)

    def _join(self, caller: Caller, live: Record, request: StartRequest, *, created: bool) -> StartResponse | None:
        """The session's live runtime, running if it can be; None once it has ended.

        ``created``: this same call began it, in an attempt whose answer was lost.
        """
        live = self._lookup.current(live)
        if live.status is RuntimeStatus.STOPPING:
            ended = self._lane.until(lambda: self._has_left(live, RuntimeStatus.STOPPING), request.wait)
            if ended is None:
                raise RuntimeBusy("The session's last runtime is still stopping.", retry_after=1)
            return None
        if live.status is RuntimeStatus.PAUSED:
            try:
                self.resume(caller, live.runtime_id)
            except (InvalidState, RuntimeNotFound):
                return None
        record = self._starts.await_start(live.runtime_id, request.wait)
        if record.status not in LIVE:
            return None
        return self._views.started(record, created=created, warnings=_differences(record, request))

    def _has_left(self, record: Record, status: RuntimeStatus) -> bool | None:
        now = self._store.get(record.runtime_id)
        return True if now is None or now.status is not status else None

    def pause(self, caller: Caller, name: str) -> ActionResponse:
        """Freeze a runtime.

        Raises:
            RuntimeNotFound, InvalidState, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        return self._switch(caller, name, Action.PAUSE, self._engine.pause, "paused")

    def resume(self, caller: Caller, name: str) -> ActionResponse:
        """Thaw a runtime.

        Raises:
            RuntimeNotFound, InvalidState, QuotaExceeded, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        return self._switch(caller, name, Action.RESUME, self._engine.resume, "running")

    def _switch(
        self, caller: Caller, name: str, action: Action, call: Callable[[str, Callable[[], object]], bool], word: str
    ) -> ActionResponse:
        record = self._lookup.find(caller, name)
        status = target(action, record)
        if status is record.status and self._liveness.live():
            return self._views.acted(record, caller, f"The runtime is {word} already.", changed=False)
        foreseen: list[ActionResponse] = []

        def foresee() -> None:
            # PERF: made while the engine works, for which the caller waits anyway. Whatever is wrong with it comes
            # out when it is made again.
            with suppress(Exception):
                foreseen.append(self._switched(record, status, caller, f"The runtime is {word}.", changed=True))

        with runtime_lock(self._locks, record.runtime_id, wait=LOCK_WAIT) as got:
            if not got:
                raise RuntimeBusy("Another call works on this runtime.", retry_after=1)
            with self._reserved(action, record) as reservation:
                changed = self._call(action, lambda container: call(container, foresee), record)
                # Written as seen after the engine's answer. A stop that began meanwhile keeps its state.
                seen_at = time.time()
                fits = self._store.put(
                    record.runtime_id,
                    only_from={RuntimeStatus.RUNNING, RuntimeStatus.PAUSED},
                    end=reservation,
                    status=status,
                    seen_at=seen_at,
                    status_detail=None,
                )
        if not (changed and fits and foreseen):
            again = "" if changed else " already"
            return self._switched(record, status, caller, f"The runtime is {word}{again}.", changed=changed)
        return self._views.switched(foreseen[0], Happening(seen_at, status, None))

    def _switched(
        self, record: Record, status: RuntimeStatus, caller: Caller, message: str, *, changed: bool
    ) -> ActionResponse:
        """The runtime as it is now, but for its state, of which the answer tells."""
        with suppress(StorageUnavailable):  # what was done stays done
            record = self._store.get(record.runtime_id) or record
        now = dataclasses.replace(record, status=status, status_detail=None)
        return self._views.acted(now, caller, message, changed=changed)

    @contextmanager
    def _reserved(self, action: Action, record: Record) -> Iterator[str | None]:
        """Hold a place among those that run while a resume does its work, where they are limited.

        Yields:
            The id of the reservation, which the write of the outcome ends.

        Raises:
            QuotaExceeded: there is no place.
        """
        limits = self._quotas.of(record.owner).to_run()
        now = self._store.get(record.runtime_id) if action is Action.RESUME and limits else None
        if now is None or now.status is not RuntimeStatus.PAUSED:
            yield None
            return
        operation = Operation(
            id=uuid.uuid4().hex,
            kind=RESUME,
            owner=record.owner,
            key=record.runtime_id,
            holder=self._holder.id,
            lease_until=self._holder.lease(),
        )
        self._store.reserve_run(record, operation, limits)
        with self._holder.working(operation):
            try:
                yield operation.id
            except BaseException:
                with suppress(StorageUnavailable):
                    self._store.operations.drop(operation.id)
                raise

    def _call(self, action: Action, call: Callable[[str], bool], record: Record) -> bool:
        """One engine call; where the engine contradicts the record, the record is mended and the call refused."""
        try:
            return call(record.container_id or record.runtime_id)
        except (ContainerMissing, InvalidState):
            now = self._store.get(record.runtime_id) or record
            if now.status in (RuntimeStatus.RUNNING, RuntimeStatus.PAUSED):
                now = self._sync.locked(now)
            raise invalid(action, now.status) from None

    def stop(self, caller: Caller, name: str, *, timeout: float = 5.0, remove: bool = False) -> ActionResponse:
        """Stop a runtime.

        Args:
            caller: who stops it.
            name: id or alias.
            timeout: seconds between TERM and KILL.
            remove: also remove its container.

        Raises:
            RuntimeNotFound, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        record, changed = self._stops.stop(self._lookup.find(caller, name), timeout=timeout, remove=remove)
        word = str(record.status) if record.status is not RuntimeStatus.ERROR else "in error"
        message = f"The runtime is {word}{'' if changed else ' already'}."
        return self._views.acted(record, caller, message, changed=changed)

    def remove(self, caller: Caller, name: str) -> ActionResponse:
        """Stop a runtime and remove its container.

        Raises:
            RuntimeNotFound, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        return self.stop(caller, name, remove=True)

    def renew(self, caller: Caller, name: str, ttl: float | None) -> Runtime:
        """Give a runtime ``ttl`` seconds from now, or no end where it is None.

        Raises:
            RuntimeNotFound: there is none.
            InvalidState: it has ended, or an expiry has begun.
        """
        record = self._lookup.find(caller, name)
        target(Action.RENEW, record)
        end = None if ttl is None else time.time() + ttl
        changed = self._store.change(record.runtime_id, only_from=LIVE, expires_at=end)
        if changed is None:
            raise invalid(Action.RENEW, self._lookup.find(caller, record.runtime_id).status)
        self._renewals.keep(record.runtime_id, end)
        return self._views.runtime(changed, caller)


def _differences(record: Record, request: StartRequest) -> list[str]:
    """Names of what a start asked for and its session's live runtime doesn't have."""
    if not record.spec:
        return []  # what it was started with is not known
    wanted = described(request)
    fields = sorted(name for name in {*wanted, *record.spec} if wanted.get(name) != record.spec.get(name))
    return [f"{name} differs from the session's live runtime and was not applied" for name in fields]
