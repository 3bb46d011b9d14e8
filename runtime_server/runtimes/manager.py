"""What callers can do with runtimes; every method takes who calls, and shows nobody another's."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress

from runtime_server.engine.base import Engine
from runtime_server.errors import InvalidState, RuntimeBusy, RuntimeNotFound, StorageUnavailable
from runtime_server.models import (
    ActionResponse,
    Runtime,
    RuntimeStatus,
    StartRequest,
    StartResponse,
)
from runtime_server.runtimes import sessions
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.reads import RuntimeReads
from runtime_server.runtimes.renewals import Renewals
from runtime_server.runtimes.starts import Starts, described
from runtime_server.runtimes.states import Action, invalid, target
from runtime_server.runtimes.steps import reached
from runtime_server.runtimes.stops import Stops
from runtime_server.runtimes.switches import Switches
from runtime_server.runtimes.sync import Liveness, Sync
from runtime_server.runtimes.views import Views
from runtime_server.runtimes.waits import SlowLane
from runtime_server.store.records import Happening, Record, SessionTaken
from runtime_server.store.store import LIVE, Store


class RuntimeManager(RuntimeReads):
    """The service, without HTTP.

    Args:
        engine: the container engine.
        store: records.
        starts, stops, switches, sync: the parts that do the work.
        liveness: whether the store can be trusted.
        lane: bounds waiting threads.
        renewals: ends that labels don't know.
        lookup: finds runtimes.
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
        switches: Switches,
        renewals: Renewals,
        lookup: Lookup,
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
        self._switches = switches
        self._renewals = renewals

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
        """Freeze a runtime; behind the gateway a request that was under way may wake it at once.

        Raises:
            RuntimeNotFound, InvalidState, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        return self._switch(caller, name, Action.PAUSE, "paused")

    def resume(self, caller: Caller, name: str) -> ActionResponse:
        """Thaw a runtime.

        Raises:
            RuntimeNotFound, InvalidState, QuotaExceeded, RuntimeBusy, EngineUnreachable, EngineTimeout.
        """
        return self._switch(caller, name, Action.RESUME, "running")

    def _switch(self, caller: Caller, name: str, action: Action, word: str) -> ActionResponse:
        record = self._lookup.find(caller, name)
        status = target(action, record)
        if status is record.status and not record.pausing and self._liveness.live():
            return self._views.acted(record, caller, f"The runtime is {word} already.", changed=False)
        foreseen: list[ActionResponse] = []

        def foresee() -> None:
            # PERF: made while the engine works, for which the caller waits anyway. Whatever is wrong with it comes
            # out when it is made again.
            with suppress(Exception):
                foreseen.append(self._switched(record, status, caller, f"The runtime is {word}.", changed=True))

        switch = self._switches.pause if action is Action.PAUSE else self._switches.resume
        done = switch(record, foresee)
        if done.status is not status:
            message = "A request that was under way has woken the runtime."
            return self._switched(record, done.status, caller, message, changed=False)
        if not (done.changed and done.written and foreseen):
            again = "" if done.changed else " already"
            return self._switched(record, status, caller, f"The runtime is {word}{again}.", changed=done.changed)
        return self._views.switched(foreseen[0], Happening(done.seen_at, status, None))

    def _switched(
        self, record: Record, status: RuntimeStatus, caller: Caller, message: str, *, changed: bool
    ) -> ActionResponse:
        """The runtime as it is now, but for its state, of which the answer tells."""
        with suppress(StorageUnavailable):  # what was done stays done
            record = self._store.get(record.runtime_id) or record
        now = dataclasses.replace(record, status=status, status_detail=None)
        return self._views.acted(now, caller, message, changed=changed)

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
