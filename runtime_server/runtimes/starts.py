"""Starts as callers see them: recorded once, run behind the request, answered soon."""

from __future__ import annotations

import secrets
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from runtime_server.engine.base import RegistryLogin
from runtime_server.errors import NameConflict, RuntimeBusy, ServerDraining, TooManyWaiting
from runtime_server.models import RuntimeStatus, StartRequest
from runtime_server.runtimes import ids, views
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.launch import HAD_LOGIN, Launch
from runtime_server.runtimes.waits import SHORT, SlowLane
from runtime_server.store.records import AliasTaken, IdTaken, Operation, Record
from runtime_server.store.store import Store

KIND = "start"
TRANSIENT = frozenset({"wait", "registry_auth"})
"""Fields of a start that don't describe the runtime and aren't kept."""


class Starts:
    """Begins starts and waits for them.

    Args:
        instance: this instance's id.
        store: records.
        launch: does the work.
        holder: this process.
        lane: bounds those who wait long.
        threads: starts that this process works on at once; more are queued.
        draining: while this file is there, new starts are refused.
    """

    def __init__(
        self,
        *,
        instance: str,
        store: Store,
        launch: Launch,
        holder: Holder,
        lane: SlowLane,
        threads: int,
        draining: Path,
    ) -> None:
        self._instance = instance
        self._store = store
        self._launch = launch
        self._holder = holder
        self._lane = lane
        self._draining = draining
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="start")
        self._futures: dict[str, Future[None]] = {}

    def start(self, caller: Caller, request: StartRequest, key: str | None) -> Record:
        """The runtime of a new start, or of the same start sent before; as it is after ``request.wait`` seconds.

        Raises:
            store.records.SessionTaken: the session has a live runtime.
            NameConflict: another runtime has the alias.
            Problem: what the start failed with.
        """
        runtime_id = ids.derived(self._instance, caller.owner, key) if key else ids.fresh()
        record, operation = self._new(caller, request, runtime_id)
        self._launch.spec(record, request, operation.id)  # refuse what policy forbids before anything is written
        begun = self._begin(record, operation)
        if begun is not None:
            auth = request.registry_auth
            login = RegistryLogin(auth.username, auth.password) if auth else None
            self.submit(begun, operation, login)
        return self.await_start(runtime_id, request.wait)

    def _new(self, caller: Caller, request: StartRequest, runtime_id: str) -> tuple[Record, Operation]:
        now = time.time()
        record = Record(
            runtime_id=runtime_id,
            owner=caller.owner,
            status=RuntimeStatus.STARTING,
            image=request.image,
            created_at=now,
            seen_at=now,
            name=request.name,
            session_id=request.session_id,
            spec=described(request),
            labels=request.labels,
            session_api_key=secrets.token_urlsafe(32) if request.session_id else None,
            expires_at=None if request.ttl is None else now + request.ttl,
            retention=request.retention,
            auto_remove=request.auto_remove,
        )
        return record, self._operation(record, had_login=request.registry_auth is not None)

    def _operation(self, record: Record, *, had_login: bool) -> Operation:
        return Operation(
            id=uuid.uuid4().hex,
            kind=KIND,
            owner=record.owner,
            key=record.runtime_id,
            holder=self._holder.id,
            lease_until=self._holder.lease(),
            payload={HAD_LOGIN: had_login},
        )

    def _begin(self, record: Record, operation: Operation) -> Record | None:
        """Record the start; None where it was recorded before and needs nothing more."""
        if self._draining.exists() and self._store.get(record.runtime_id) is None:
            raise ServerDraining("The server is draining: it accepts no new starts.", retry_after=5)
        for _ in range(3):
            try:
                self._store.add(record, operation)
            except AliasTaken:
                # SQLite names one broken rule of several: the alias may be held by this start's own record.
                if self._store.get(record.runtime_id) is not None:
                    return self._again(record, operation)
                self._free_alias(record)
            except IdTaken:
                return self._again(record, operation)
            else:
                return record
        raise RuntimeBusy("The alias changes hands just now.", retry_after=1)

    def _free_alias(self, record: Record) -> None:
        """Take the alias from a stopped runtime of the same session, which this start replaces."""
        assert record.name is not None
        other = self._store.by_alias(record.owner, record.name)
        if other is None:
            return
        if record.session_id and other.session_id == record.session_id and other.status is RuntimeStatus.STOPPED:
            self._store.change(other.runtime_id, only_from={RuntimeStatus.STOPPED}, name=None)
            return
        raise NameConflict(f"Another runtime is named {record.name}.", name=record.name, runtime_id=other.runtime_id)

    def _again(self, record: Record, operation: Operation) -> Record | None:
        """A retry under the same id: begun anew only where the first attempt failed in a way that may pass."""
        first = self._store.get(record.runtime_id)
        if first is None or first.status is not RuntimeStatus.ERROR or not first.error:
            return None
        if not views.raised(first.error).retryable:
            return None
        try:
            return self._store.change(
                record.runtime_id,
                only_from={RuntimeStatus.ERROR},
                begin=operation,
                status=RuntimeStatus.STARTING,
                status_detail=None,
                error=None,
                exit=None,
                stopped_at=None,
                spec=record.spec,
                session_api_key=record.session_api_key,
                expires_at=record.expires_at,
                seen_at=time.time(),
            )
        except IdTaken:
            return None
        except AliasTaken:
            self._free_alias(first)
            raise RuntimeBusy("The alias changes hands just now.", retry_after=1) from None

    def began(self, caller: Caller, key: str | None, record: Record) -> bool:
        """Whether the record is of the start that the caller sent with that key."""
        return key is not None and record.runtime_id == ids.derived(self._instance, caller.owner, key)

    def submit(self, record: Record, operation: Operation, login: RegistryLogin | None = None) -> None:
        """Run the launch behind the request, its lease kept up from now on: it may be queued for long."""
        work = ExitStack()
        work.enter_context(self._holder.working(operation))
        try:
            future = self._pool.submit(self._launch.run, record, operation, login)
        except RuntimeError:  # closed meanwhile: another worker takes it over
            work.close()
            return
        self._futures[record.runtime_id] = future

        def done(_: Future[None]) -> None:
            work.close()
            self._futures.pop(record.runtime_id, None)

        future.add_done_callback(done)

    def await_start(self, runtime_id: str, wait: float) -> Record:
        """The runtime as soon as it no longer is ``starting``, at the latest after ``wait`` seconds.

        Raises:
            Problem: what the start failed with.
        """
        record = self._settle(runtime_id, wait)
        if record.status is RuntimeStatus.ERROR and record.error:
            raise views.raised(record.error)
        return record

    def _settle(self, runtime_id: str, wait: float) -> Record:
        future = self._futures.get(runtime_id)
        if future is not None:
            self._wait_for(future, wait)
            wait = 0.0
        with suppress(TooManyWaiting):  # then the answer comes early, with `starting`
            found = self._lane.until(lambda: self._left_starting(runtime_id), wait)
            if found is not None:
                return found
        record = self._store.get(runtime_id)
        if record is None:
            raise RuntimeBusy("The runtime's record went away meanwhile.", retry_after=1)
        return record

    def _wait_for(self, future: Future[None], wait: float) -> None:
        with suppress(FutureTimeout):
            future.result(min(wait, SHORT))
            return
        if wait > SHORT:
            with suppress(FutureTimeout, TooManyWaiting), self._lane.place():
                future.result(wait - SHORT)

    def _left_starting(self, runtime_id: str) -> Record | None:
        record = self._store.get(runtime_id)
        return record if record is None or record.status is not RuntimeStatus.STARTING else None

    def close(self) -> None:
        """Let go of what is being worked on; another worker takes it over."""
        self._launch.closing.set()
        self._pool.shutdown(wait=True)


def described(request: StartRequest) -> dict[str, Any]:
    """The request as a record keeps it: without credentials."""
    return request.model_dump(mode="json", exclude=set(TRANSIENT), exclude_defaults=True)
