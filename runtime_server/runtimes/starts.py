"""Starts as callers see them: recorded once, run behind the request, answered soon."""

from __future__ import annotations

import dataclasses
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from runtime_server.engine.base import RegistryLogin
from runtime_server.errors import (
    ImagePullFailed,
    NameConflict,
    QuotaExceeded,
    RuntimeBusy,
    ServerDraining,
    StorageUnavailable,
    TooManyWaiting,
)
from runtime_server.metrics.instruments import Metrics
from runtime_server.metrics.timings import QUEUE, Timings, current
from runtime_server.models import RuntimeStatus, StartRequest
from runtime_server.runtimes import ids, policy_workspaces, sessions, views
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.fetch import HAD_LOGIN
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.launch import Launch
from runtime_server.runtimes.queue import StartQueue, Waiting
from runtime_server.runtimes.quotas import Quotas
from runtime_server.runtimes.terms import Terms
from runtime_server.runtimes.waits import SHORT, SlowLane
from runtime_server.store.records import AliasTaken, IdTaken, Operation, Record
from runtime_server.store.slots import QUEUED, START
from runtime_server.store.store import Store

KIND = START
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
        queue: those that wait for their turn.
        quotas: what owners may have.
        terms: say which runtimes need a session key.
        threads: starts that this process works on at once.
        draining: while this file is there, new starts are refused.
        metrics: count what the phases of starts took.
    """

    def __init__(
        self,
        *,
        instance: str,
        store: Store,
        launch: Launch,
        holder: Holder,
        lane: SlowLane,
        queue: StartQueue,
        quotas: Quotas,
        terms: Terms,
        threads: int,
        draining: Path,
        metrics: Metrics | None = None,
    ) -> None:
        self._instance = instance
        self._store = store
        self._launch = launch
        self._holder = holder
        self._lane = lane
        self._queue = queue
        self._quotas = quotas
        self._terms = terms
        self._draining = draining
        self._metrics = metrics or Metrics()
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="start")
        self._futures: dict[str, Future[None]] = {}
        queue.serve(self._submit)

    def start(self, caller: Caller, request: StartRequest, key: str | None) -> Record:
        """The runtime of a new start, or of the same start sent before; as it is after ``request.wait`` seconds.

        Raises:
            store.records.SessionTaken: the session has a live runtime.
            NameConflict: another runtime has the alias.
            QuotaExceeded: the owner, or the host, has too much already.
            Problem: what the start failed with.
        """
        runtime_id = ids.derived(self._instance, caller.owner, key) if key else ids.fresh()
        record, operation = self._new(caller, request, runtime_id)
        # Refuses what policy forbids, before anything is written.
        spec = self._launch.spec(record, request, operation.id)
        announced = self._launch.announce(record, spec)
        record = dataclasses.replace(record, cpus=spec.cpus, memory=spec.memory, announced=announced)
        auth = request.registry_auth
        login = RegistryLogin(auth.username, auth.password) if auth else None
        waiting = Waiting(record, operation, login, timings=current.get() or Timings())
        end = time.monotonic() + request.wait
        try:
            if sessions.is_session(request.session_id, request.name):
                self._begin_with_room(waiting, request.wait)
            else:
                self._begin(waiting)
        finally:
            if runtime_id not in self._futures:  # not this process's to start
                self._launch.withdraw(record)
        return self.await_start(runtime_id, max(0.0, end - time.monotonic()))

    def completed(self, request: StartRequest) -> StartRequest:
        """The request with what the server decides where it says nothing.

        Raises:
            ValidationFailed: it can't be completed.
        """
        return self._launch.completed(request)

    def _begin_with_room(self, waiting: Waiting, wait: float) -> None:
        """As ``_begin``, waiting for a while for what a quota forbids: most clients of sessions give up at a 429."""
        refusal: QuotaExceeded | None = None

        def begin() -> bool | None:
            nonlocal refusal
            try:
                self._begin(waiting)
            except QuotaExceeded as problem:
                refusal = problem
                return None
            return True

        begun = None
        with suppress(TooManyWaiting):
            begun = self._lane.until(begin, wait)
        if begun is None and refusal is not None:
            raise refusal

    def _new(self, caller: Caller, request: StartRequest, runtime_id: str) -> tuple[Record, Operation]:
        now = time.time()
        spec = described(request)
        keyed = sessions.is_session(request.session_id, request.name) or self._terms.private(request)
        record = Record(
            runtime_id=runtime_id,
            owner=caller.owner,
            status=RuntimeStatus.STARTING,
            image=request.image,
            created_at=now,
            seen_at=now,
            name=request.name,
            session_id=request.session_id,
            spec=spec,
            workspace=policy_workspaces.volume_name(self._instance, caller.owner, spec),
            labels=request.labels,
            session_api_key=secrets.token_urlsafe(32) if keyed else None,
            expires_at=None if request.ttl is None else now + request.ttl,
            retention=request.retention,
            auto_remove=request.auto_remove,
        )
        return record, self._operation(record, had_login=request.registry_auth is not None)

    def _operation(self, record: Record, *, had_login: bool) -> Operation:
        return self._holder.operation(KIND, record.owner, record.runtime_id, payload={HAD_LOGIN: had_login})

    def _begin(self, waiting: Waiting) -> None:
        """Record the start, unless it was recorded before, and have it run when its turn comes."""
        if self._draining.exists() and self._store.get(waiting.record.runtime_id) is None:
            raise ServerDraining("The server is draining: it accepts no new starts.", retry_after=5)
        self._queue.expect(waiting)
        operation = None
        try:
            operation = self._record(waiting)
        finally:
            if operation is None or operation.stage != QUEUED:
                self._queue.forget(waiting)
        if operation is None:
            return
        self._futures[waiting.record.runtime_id] = waiting.done
        waiting.done.add_done_callback(lambda done: self._forget(waiting.record.runtime_id, done))
        if operation.stage == QUEUED:
            self._queue.wait(waiting)
        else:
            self._submit(waiting)

    def _record(self, waiting: Waiting) -> Operation | None:
        """Write the start; None where it was recorded before and needs nothing more."""
        record, operation = waiting.record, waiting.operation
        for _ in range(3):
            try:
                return self._store.add(record, operation, limits=self._quotas.of(record.owner))
            except AliasTaken:
                # SQLite names one broken rule of several: the alias may be held by this start's own record.
                if self._store.get(record.runtime_id) is not None:
                    return self._again(waiting)
                self._free_alias(record)
            except IdTaken:
                return self._again(waiting)
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

    def _again(self, waiting: Waiting) -> Operation | None:
        """A retry under the same id: begun anew only where the first attempt failed in a way that may pass."""
        record = waiting.record
        first = self._store.get(record.runtime_id)
        if first is None or first.status is not RuntimeStatus.ERROR or not first.error:
            return None
        if not views.raised(first.error).retryable:
            return None
        try:
            begun = self._store.begin_again(record, waiting.operation, limits=self._quotas.of(record.owner))
        except IdTaken:
            return None
        except AliasTaken:
            self._free_alias(first)
            raise RuntimeBusy("The alias changes hands just now.", retry_after=1) from None
        # What the first attempt recorded holds, the time of its creation among it.
        waiting.record = self._store.get(record.runtime_id) or record
        return begun

    def began(self, caller: Caller, key: str | None, record: Record) -> bool:
        """Whether the record is of the start that the caller sent with that key."""
        return key is not None and record.runtime_id == ids.derived(self._instance, caller.owner, key)

    def take_up(self, record: Record, operation: Operation) -> None:
        """Work on a start that this process holds."""
        self._submit(Waiting(record, operation))

    def adopt(self, record: Record, operation: Operation) -> None:
        """Finish a start whose worker is gone, when its turn comes."""
        self._queue.adopt(operation, record)

    def advance(self) -> None:
        """Begin what is queued, if there is a place."""
        self._queue.advance()

    def _submit(self, waiting: Waiting) -> None:
        """Run the launch behind the request, its lease kept up from now on: the pool may be busy for long."""
        work = ExitStack()
        work.enter_context(self._holder.working(waiting.operation))
        waiting.done.add_done_callback(lambda _: work.close())
        waiting.done.add_done_callback(lambda _: self._metrics.lifecycle("start", waiting.timings.whole()))
        try:
            self._pool.submit(self._work, waiting)
        except RuntimeError:  # closed meanwhile: another worker takes it over
            waiting.finish()

    def _work(self, waiting: Waiting) -> None:
        if waiting.queued_since is not None:
            waiting.timings.add(QUEUE, time.perf_counter() - waiting.queued_since)
        timing = current.set(waiting.timings)
        over = True
        try:
            over = self._launch.run(waiting)
        finally:
            current.reset(timing)
            if over:
                waiting.finish()
            with suppress(StorageUnavailable):
                self._queue.advance()

    def _forget(self, runtime_id: str, done: Future[None]) -> None:
        if self._futures.get(runtime_id) is done:
            del self._futures[runtime_id]

    def await_start(self, runtime_id: str, wait: float) -> Record:
        """The runtime as soon as it no longer is ``starting``, at the latest after ``wait`` seconds.

        A session's that can't be started is returned in ``error``, as it would be had it failed after the answer:
        its clients look at the runtime's state. What a retry can cure is raised all the same.

        Raises:
            Problem: what the start failed with.
        """
        record = self._settle(runtime_id, wait)
        if record.status is not RuntimeStatus.ERROR or not record.error:
            return record
        problem = views.raised(record.error)
        told = not problem.retryable or isinstance(problem, ImagePullFailed)
        if told and sessions.is_session(record.session_id, record.name):
            return record
        raise problem

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
        self._queue.close()
        self._pool.shutdown(wait=True)
        self._launch.close()


def described(request: StartRequest) -> dict[str, Any]:
    """The request as a record keeps it: without credentials."""
    return request.model_dump(mode="json", exclude=set(TRANSIENT), exclude_defaults=True)
