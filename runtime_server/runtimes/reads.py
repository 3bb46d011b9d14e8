"""What callers can see of runtimes; every method takes who asks, and shows nobody another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from runtime_server._version import __version__
from runtime_server.engine.base import Engine
from runtime_server.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    RuntimeNotFound,
    StorageUnavailable,
)
from runtime_server.models import Readiness, Runtime, RuntimePage, RuntimeStatus, Version
from runtime_server.runtimes import cursors
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.stops import last_lines
from runtime_server.runtimes.sync import Liveness, Sync
from runtime_server.runtimes.views import Views
from runtime_server.runtimes.waits import SlowLane, settled, until
from runtime_server.store.records import Record
from runtime_server.store.store import Store

API_VERSION = "1"


class RuntimeReads:
    """Runtimes as callers see them, and what the service says of itself.

    Args:
        engine: is asked where the store can't be trusted.
        store: records.
        sync: brings records up to date.
        liveness: whether the store can be trusted.
        lane: bounds waiting threads.
        lookup: finds runtimes.
        views: makes what callers see.
        max_wait: the longest wait of a request, seconds.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        sync: Sync,
        liveness: Liveness,
        lane: SlowLane,
        lookup: Lookup,
        views: Views,
        max_wait: float,
    ) -> None:
        self._engine = engine
        self._store = store
        self._sync = sync
        self._liveness = liveness
        self._lane = lane
        self._lookup = lookup
        self._views = views
        self._max_wait = max_wait

    def get(
        self,
        caller: Caller,
        name: str,
        *,
        wait_for: RuntimeStatus | None = None,
        timeout: float = 0.0,
        values: bool = False,
    ) -> Runtime:
        """A runtime.

        Args:
            caller: who asks.
            name: id or alias.
            wait_for: return only once it is in that state, can't get there any more, or the time is up.
            timeout: seconds to wait, at most the server's ``max_wait``.
            values: also the environment's values, which are for the runtime's owner only.

        Raises:
            RuntimeNotFound: there is none.
            TooManyWaiting: all threads that may wait do.
        """
        record = self._lookup.find(caller, name)
        if wait_for is not None and not settled(record, wait_for):
            record = self._wait(record, wait_for, min(timeout, self._max_wait))
        return self._shown(record, caller, values=values)

    def _wait(self, record: Record, wanted: RuntimeStatus, timeout: float) -> Record:
        last = record

        def look() -> Record | None:
            nonlocal last
            last = self._store.get(record.runtime_id) or last
            return last if settled(last, wanted) else None

        with self._lane.place():
            until(look, timeout)
        return last

    def session(self, caller: Caller, session_id: str) -> Runtime:
        """The session's live runtime, else its last one that isn't removed.

        Raises:
            RuntimeNotFound: it has none.
        """
        return self._shown(self._of_session(caller, session_id), caller)

    def sessions(self, caller: Caller, session_ids: Sequence[str]) -> Sequence[Runtime]:
        """As ``session`` for each of them, those left out that have none."""
        found = {}
        for each in session_ids:
            with suppress(RuntimeNotFound):
                record = self._of_session(caller, each)
                found[record.runtime_id] = record
        return self._views.runtimes(self._lookup.all_current(list(found.values())), caller)

    def lookup(self, caller: Caller, name: str) -> Runtime:
        """The runtime of that id or alias, else of that session.

        Raises:
            RuntimeNotFound: there is none.
        """
        try:
            return self.get(caller, name)
        except RuntimeNotFound:
            return self.session(caller, name)

    def running(self, caller: Caller) -> Sequence[Runtime]:
        """The caller's own runtimes that are starting or running, newest first."""
        self._lookup.refuse_while_rebuilding()
        statuses = (RuntimeStatus.STARTING, RuntimeStatus.RUNNING)
        found = self._store.page(caller.owner, statuses=statuses, labels={}, after=None, limit=None)
        current = [record for record in self._lookup.all_current(found) if record.status in statuses]
        return self._views.runtimes(current, caller)

    def list(
        self,
        caller: Caller,
        *,
        statuses: Sequence[RuntimeStatus] = (),
        labels: Mapping[str, str | None] | None = None,
        owner: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RuntimePage:
        """The caller's runtimes, an admin's are everybody's, newest first; without ``statuses`` all but removed ones.

        Args:
            caller: who asks.
            statuses: only these states.
            labels: only with these of the caller's labels; None as value: whatever its value.
            owner: only this owner's; for all but admins, others have none.
            limit: how many at most.
            cursor: where the last page ended.

        Raises:
            ValidationFailed: not a cursor of ours.
        """
        self._lookup.refuse_while_rebuilding()
        shown = statuses or [status for status in RuntimeStatus if status is not RuntimeStatus.REMOVED]
        after = cursors.decode(cursor) if cursor else None
        if owner is not None and not caller.sees(owner):
            return RuntimePage(runtimes=[], next_cursor=None)
        whose = owner if caller.admin else caller.owner
        found = self._store.page(whose, statuses=shown, labels=labels or {}, after=after, limit=limit + 1)
        more = len(found) > limit
        found = found[:limit]
        next_cursor = cursors.encode(found[-1]) if more else None
        current = [record for record in self._lookup.all_current(found) if record.status in shown]
        return RuntimePage(runtimes=self._views.runtimes(current, caller), next_cursor=next_cursor)

    def _of_session(self, caller: Caller, session_id: str) -> Record:
        record = self._store.by_session(caller.owner, session_id) or self._store.last_of_session(
            caller.owner, session_id
        )
        if record is None:
            self._lookup.refuse_while_rebuilding()
            raise RuntimeNotFound("No runtime has that session.")
        return record

    def _shown(self, record: Record, caller: Caller, *, values: bool = False) -> Runtime:
        record = self._lookup.current(record)
        output = None
        if record.status is RuntimeStatus.STARTING and record.container_id is not None:
            with suppress(EngineUnreachable, EngineTimeout):
                output = last_lines(self._engine, record.container_id)
        return self._views.runtime(record, caller, values=values, output=output)

    def readiness(self) -> Readiness:
        """Whether the engine and the store answer."""
        try:
            self._engine.ping()
            self._store.get("")
            self._lookup.refuse_while_rebuilding()
        except (EngineFailed, EngineUnreachable, EngineTimeout, StorageUnavailable) as problem:
            return Readiness(ready=False, reason=problem.detail)
        return Readiness(ready=True)

    def version(self) -> Version:
        """Server, API and engine."""
        try:
            engine = self._engine.version()
        except (EngineFailed, EngineUnreachable, EngineTimeout):
            engine = None
        return Version(server=__version__, api=API_VERSION, engine=engine)
