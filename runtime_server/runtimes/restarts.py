"""Restarts: a new process in the same container, begun once and finished by whoever is there."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import structlog

from runtime_server.engine.base import ContainerMissing, Engine, RuntimeSpec, Snapshot
from runtime_server.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    InternalError,
    NameConflict,
    Problem,
    RuntimeBusy,
    StorageUnavailable,
)
from runtime_server.models import MovedPort, RestartRequest, RestartResponse, RuntimeStatus, StartRequest
from runtime_server.runtimes import policy_mounts, ready, sessions, stops, views
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.launch import Launch
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.nginx_cache import NginxCache, taken_back
from runtime_server.runtimes.quotas import Quotas
from runtime_server.runtimes.ready import ReadyWatch
from runtime_server.runtimes.starts import Starts
from runtime_server.runtimes.states import Action, invalid, refusal, target
from runtime_server.runtimes.views import Views
from runtime_server.store.records import AliasTaken, IdTaken, Operation, Record, SessionTaken
from runtime_server.store.store import Store
from runtime_server.store.usage import Limits

log = structlog.get_logger("runtime_server.restarts")

KIND = stops.RESTART
ATTEMPT = "restarted"
"""Of a call with an idempotency key: which process it found."""
DETAIL = "The runtime is being restarted."


class _Superseded(Exception):
    """A stop came, or another worker took over."""


class Restarts:
    """Restarts runtimes.

    While one is restarted its state is ``starting``, so that nothing else is done to it but a stop, and what the
    engine tells of its container meanwhile isn't taken for its end.

    Args:
        engine: stops and starts containers.
        store: records.
        holder: this process.
        launch: checks what a container has, and starts it.
        watch: looks after what has started and isn't ready.
        starts: waits for readiness.
        lookup: finds runtimes.
        quotas: what owners may have.
        views: makes what callers see.
        max_wait: the longest wait of a request, seconds.
        ttl: seconds for which an attempt with an idempotency key is remembered.
        cache: nginx's look-ups; None: there is no gateway.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        holder: Holder,
        launch: Launch,
        watch: ReadyWatch,
        starts: Starts,
        lookup: Lookup,
        quotas: Quotas,
        views: Views,
        max_wait: float,
        ttl: float,
        cache: NginxCache | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._holder = holder
        self._launch = launch
        self._watch = watch
        self._starts = starts
        self._lookup = lookup
        self._quotas = quotas
        self._views = views
        self._max_wait = max_wait
        self._ttl = ttl
        self._cache = cache

    def restart(
        self, caller: Caller, name: str, request: RestartRequest, *, key: str | None = None
    ) -> RestartResponse:
        """End a runtime's process, if it has one, and start it again in the same container.

        A restart that comes while another is being done is that one.

        Args:
            caller: who asks.
            name: the runtime's id or alias.
            request: the grace, and how long to wait.
            key: the idempotency key: with it a process is ended once, whatever became of the first attempt.

        Raises:
            RuntimeNotFound, InvalidState, PolicyRefused, QuotaExceeded, NameConflict, RuntimeBusy, PortInUse
            EngineUnreachable, EngineTimeout: the restart is finished later all the same.
        """
        record = self._lookup.current(self._lookup.find(caller, name))
        under_way = self._store.operations.find(KIND, record.owner, record.runtime_id)
        before = record.ports
        if record.status is RuntimeStatus.STARTING and under_way is not None:
            before = under_way.payload["ports"]
        elif not self._was_done(caller, record, key):
            record, operation = self._begin(record, request.timeout)
            self._run(record, operation)
        record = self._starts.await_start(record.runtime_id, min(request.wait, self._max_wait))
        acted = self._views.acted(record, caller, f"The runtime is restarted, and {record.status}.", changed=True)
        return RestartResponse.model_validate({**dict(acted), "moved_ports": _moved(before, record.ports)})

    def _was_done(self, caller: Caller, record: Record, key: str | None) -> bool:
        """Whether an earlier attempt with this key, whose answer is lost, has given it another process."""
        if key is None or record.container_id is None:
            return False
        started_at = self._inspect(record).started_at
        attempt = self._holder.operation(
            ATTEMPT,
            caller.owner,
            key,
            expires_at=time.time() + self._ttl,
            payload={"runtime_id": record.runtime_id, "started_at": started_at},
        )
        if self._store.operations.claim(attempt):
            return False
        first = self._store.operations.find(ATTEMPT, caller.owner, key)
        return (
            first is not None
            and first.payload["runtime_id"] == record.runtime_id
            and first.payload["started_at"] != started_at
        )

    def _begin(self, record: Record, grace: float) -> tuple[Record, Operation]:
        target(Action.RESTART, record)
        now = time.time()
        if record.container_id is None:
            raise invalid(Action.RESTART, record.status)
        if not record.spec:
            raise refusal("What the runtime was started with isn't known any more.", record.status, of=Action.RESTART)
        if record.expires_at is not None and record.expires_at <= now:
            raise refusal("The runtime's time is up; give it a new ttl first.", record.status, of=Action.RESTART)
        # Refuses what policy forbids by now, before anything is done.
        self._launch.spec(record, StartRequest.model_validate(record.spec), "")
        snapshot = self._inspect(record)
        operation = self._holder.operation(
            KIND,
            record.owner,
            record.runtime_id,
            payload={"timeout": grace, "started_at": snapshot.started_at, "ports": record.ports},
        )
        try:
            changed = self._store.change(
                record.runtime_id,
                only_from={record.status},
                begin=operation,
                limits=self._limits(record),
                status=RuntimeStatus.STARTING,
                status_detail=DETAIL,
                stopped_at=None,
                exit=None,
                error=None,
                logs=None,
                seen_at=now,
                # It may come back elsewhere, and its address be another's meanwhile.
                address=None,
                pid=None,
                pausing=False,
            )
        except (AliasTaken, SessionTaken):
            raise NameConflict(
                "Another runtime has its alias or session by now.", name=record.name, runtime_id=None
            ) from None
        except IdTaken:
            changed = None
        if changed is None:
            raise RuntimeBusy("The runtime's state changes just now.", retry_after=1)
        return changed, operation

    def _inspect(self, record: Record) -> Snapshot:
        try:
            return self._engine.inspect(record.container_id or record.runtime_id)
        except ContainerMissing:
            raise invalid(Action.RESTART, self._lookup.current(record).status) from None

    def _limits(self, record: Record) -> Limits | None:
        """What a runtime counts for that it doesn't count for now."""
        if record.status is RuntimeStatus.RUNNING:
            return None
        limits = self._quotas.of(record.owner)
        return limits.to_run() if record.status is RuntimeStatus.PAUSED else limits.to_start_again()

    def take_over(self, record: Record, operation: Operation) -> None:
        """Finish a restart whose holder is gone, unless another was faster."""
        if not self._store.operations.take_over(operation, self._holder.id, self._holder.lease()):
            return
        mine = self._store.operations.find(KIND, record.owner, record.runtime_id)
        if mine is not None and mine.holder == self._holder.id:
            self._run(record, mine)

    def _run(self, record: Record, operation: Operation) -> None:
        """Do it, whatever of it has been done before.

        Raises:
            EngineUnreachable, EngineTimeout, StorageUnavailable: the operation stays, free to be taken over.
            Problem: why the runtime can't be started again; it is in ``error`` then.
        """
        self._holder.keep(operation)
        watched = False
        try:
            watched = self._restart(record, operation)
        except _Superseded:
            with suppress(StorageUnavailable):
                self._store.operations.drop(operation.id, operation.holder)
        except (EngineUnreachable, EngineTimeout, StorageUnavailable):
            with suppress(StorageUnavailable):
                self._store.operations.release(operation)
            raise
        except Problem as problem:
            self._fail(record, operation, problem)
            raise
        except Exception:
            log.exception("restart failed", runtime_id=record.runtime_id)
            self._fail(record, operation, InternalError("The restart failed for an unforeseen reason."))
            raise
        finally:
            if not watched:
                self._holder.release(operation)

    def _restart(self, record: Record, operation: Operation) -> bool:
        """Whether the runtime is looked after until it is ready."""
        container = record.container_id or record.runtime_id
        request = StartRequest.model_validate(record.spec)
        try:
            spec = self._launch.spec(record, request, operation.id)
            if self._engine.inspect(container).started_at == operation.payload["started_at"]:
                with taken_back(self._cache, record.runtime_id):
                    self._engine.stop(container, float(operation.payload["timeout"]))
                self._check(record, operation)
                policy_mounts.unswapped(spec)
                self._launch.run_container(container, request)
            at = time.time()
            snapshot = self._engine.inspect(container)
        except ContainerMissing:
            raise EngineFailed("The container was removed by somebody else.") from None
        self._see_mounts(spec, snapshot)
        facts = views.facts(snapshot, at, record=record) | {"error": None}
        if facts["status"] in stops.ENDED:
            facts["logs"] = stops.last_lines(self._engine, container)
        check = sessions.ready_check(request)
        if facts["status"] is RuntimeStatus.RUNNING and ready.is_waited_for(check, snapshot):
            waits = {**facts, "status": RuntimeStatus.STARTING, "status_detail": "Waiting for the main service."}
            changed = self._store.change(record.runtime_id, only_from={RuntimeStatus.STARTING}, **waits)
            if changed is None or not self._store.slots.leave(operation):
                raise _Superseded
            self._watch.watch(changed, operation, check, lambda: self._holder.release(operation))
            return True
        changed = self._store.change(record.runtime_id, only_from={RuntimeStatus.STARTING}, end=operation.id, **facts)
        if changed is None:
            raise _Superseded
        return False

    def _see_mounts(self, spec: RuntimeSpec, snapshot: Snapshot) -> None:
        try:
            policy_mounts.mounted(spec, snapshot)
        except Problem:
            with suppress(ContainerMissing, Problem):
                self._engine.stop(snapshot.container_id, 0.0)
            raise

    def _check(self, record: Record, operation: Operation) -> None:
        now = self._store.get(record.runtime_id)
        held = self._store.operations.held(operation.id, operation.holder)
        if now is None or now.status is not RuntimeStatus.STARTING or not held:
            raise _Superseded

    def _fail(self, record: Record, operation: Operation, problem: Problem) -> None:
        log.info("restart failed", runtime_id=record.runtime_id, code=problem.code, detail=problem.detail)
        values: dict[str, Any] = {
            "status": RuntimeStatus.ERROR,
            "status_detail": problem.detail,
            "error": views.failure(problem),
            "ports": {},
            "stopped_at": time.time(),
            "seen_at": time.time(),
        }
        with suppress(StorageUnavailable):
            only = {RuntimeStatus.STARTING}
            if self._store.change(record.runtime_id, only_from=only, end=operation.id, **values) is None:
                self._store.operations.drop(operation.id, operation.holder)


def _moved(before: dict[str, list[dict[str, str]]], after: dict[str, list[dict[str, str]]]) -> list[MovedPort]:
    """The published ports that aren't where they were; those that there was no process for are none."""
    moved = ((port, before[port], after.get(port)) for port in before)
    return [
        MovedPort.model_validate({"port": port, "before": old, "after": new})
        for port, old, new in moved
        if old and new and old != new
    ]
