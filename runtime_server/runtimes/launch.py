"""The steps of one start, from a record to a running container, each safe to do again after a crash."""

from __future__ import annotations

import dataclasses
import threading
import time
from contextlib import suppress
from typing import Any

import structlog

from runtime_server.engine import labels as tags
from runtime_server.engine.base import (
    ContainerMissing,
    ContainerState,
    Engine,
    NameTaken,
    RegistryLogin,
    RuntimeSpec,
    Snapshot,
)
from runtime_server.errors import (
    EngineFailed,
    ImageNotFound,
    InternalError,
    NetworkNotFound,
    PortInUse,
    Problem,
    RuntimeClassUnknown,
    StorageUnavailable,
)
from runtime_server.metrics.instruments import Metrics
from runtime_server.metrics.timings import CREATE, POLICY, PULL, READY, START, timed
from runtime_server.models import ReadyCheck, RuntimeStatus, StartRequest
from runtime_server.network.reservations import PortReservations
from runtime_server.network.runtime_network import RuntimeNetwork
from runtime_server.runtimes import (
    host_ports,
    pods,
    policy_mounts,
    policy_workspaces,
    ready,
    rebuilding,
    sessions,
    stops,
    views,
)
from runtime_server.runtimes.fetch import ImageFetch
from runtime_server.runtimes.policy import Policy
from runtime_server.runtimes.queue import StartQueue, Waiting
from runtime_server.runtimes.ready import ReadyWatch
from runtime_server.runtimes.steps import reached
from runtime_server.runtimes.urls import Urls
from runtime_server.store.records import Operation, Record
from runtime_server.store.store import Store

log = structlog.get_logger("runtime_server.launch")

CREATE_TRIES = 5
"""How often a container is created whose name is taken, by what is removed then."""


class Superseded(Exception):
    """A stop came, or another worker took over, or this one closes: this launch's work is no longer wanted."""


class Launch:
    """Starts containers for records in ``starting``.

    Args:
        instance: stamped on containers.
        engine: starts them.
        store: where the outcome goes.
        fetch: gets images.
        policy: makes specifications.
        queue: gets the place back while an image is pulled.
        watch: looks after what has started and isn't ready.
        reservations: holds ports while an image is pulled.
        urls: knows what the services inside must know of their addresses.
        network: of runtimes that name none; None leaves them on the engine's default.
        metrics: count how starts end.
    """

    def __init__(
        self,
        *,
        instance: str,
        engine: Engine,
        store: Store,
        fetch: ImageFetch,
        policy: Policy,
        queue: StartQueue,
        watch: ReadyWatch,
        reservations: PortReservations,
        urls: Urls,
        network: RuntimeNetwork | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._instance = instance
        self._engine = engine
        self._store = store
        self._fetch = fetch
        self._policy = policy
        self._queue = queue
        self._watch = watch
        self._reservations = reservations
        self._urls = urls
        self._network = network if network is not None and network.enabled else None
        self._metrics = metrics or Metrics()
        self.closing = threading.Event()

    def spec(self, record: Record, request: StartRequest, attempt: str) -> RuntimeSpec:
        """The container that the record stands for, made by that attempt (an operation's id).

        Raises:
            PolicyRefused, LimitOutOfRange, ValidationFailed: as ``Policy.spec``.
        """
        key = record.session_api_key
        environment = dict.fromkeys(tags.SESSION_KEY_VARIABLES, key) if key else {}
        environment |= self._urls.environment(record)
        labels = self._labels(record, attempt)
        with timed(POLICY):
            return self._policy.spec(sessions.completed(request), record.runtime_id, labels, environment)

    def completed(self, request: StartRequest) -> StartRequest:
        """As ``Policy.completed``."""
        return self._policy.completed(request)

    def announce(self, record: Record, spec: RuntimeSpec) -> host_ports.Bindings:
        """Where a session's main service will answer; its port is held by this process until it is started."""
        if spec.network in ("none", "host"):  # where engines publish nothing
            return {}
        return host_ports.announced(record, spec.ports, self._reservations)

    def withdraw(self, record: Record) -> None:
        """Let the port of ``announce`` go, since this process doesn't start it."""
        self._reservations.release(record.runtime_id)

    def _labels(self, record: Record, attempt: str) -> dict[str, str]:
        ours: dict[str, object | None] = {
            tags.INSTANCE: self._instance,
            tags.RUNTIME_ID: record.runtime_id,
            tags.NAME: record.name,
            tags.SESSION_ID: record.session_id,
            tags.OWNER: record.owner,
            tags.IMAGE: record.image,
            tags.CREATED_AT: record.created_at,
            tags.EXPIRES_AT: record.expires_at,
            tags.RETENTION: record.retention,
            tags.AUTO_REMOVE: "true" if record.auto_remove else None,
            tags.SPEC: rebuilding.spec_label(record.spec),
            tags.ATTEMPT: attempt,
        }
        return {**record.labels, **{key: str(value) for key, value in ours.items() if value is not None}}

    def run(self, waiting: Waiting) -> bool:
        """Do the start, whatever of it has been done before; the outcome is in the record, never raised.

        Returns:
            Whether it is over; False where the runtime is looked after until it is ready, and ``waiting.done`` is
            set then.
        """
        record, operation = waiting.record, waiting.operation
        try:
            return self._run(waiting)
        except Superseded:
            self._give_up(record, operation)
        except StorageUnavailable as problem:
            # The lease runs out, and whoever takes over finds the container by its name.
            log.warning("start left unfinished", runtime_id=record.runtime_id, reason=problem.detail)
        except Problem as problem:
            self._fail(record, operation, problem)
        except Exception:
            log.exception("start failed", runtime_id=record.runtime_id)
            self._fail(record, operation, InternalError("The start failed for an unforeseen reason."))
        finally:
            self._reservations.release(record.runtime_id)
        return True

    def _run(self, waiting: Waiting) -> bool:
        record, operation, login = waiting.record, waiting.operation, waiting.login
        self._check(record, operation)  # it may have been queued for long
        request = StartRequest.model_validate(record.spec)
        spec = host_ports.publishing(self._connected(self.spec(record, request, operation.id)), record.announced)
        reached("recorded", record.runtime_id)
        if request.image_pull_policy == "Always":
            self._pull(record, operation, request, login)
        container_id, before, spec = self._create(record, operation, request, spec, login)
        reached("created", record.runtime_id)
        policy_mounts.unswapped(spec)
        self._check(record, operation)
        if before is None or before.started_at is None:
            # A container that ran already, in an attempt that crashed, isn't run a second time.
            with timed(START):
                container_id = self._start(container_id, request, spec)
        reached("started", record.runtime_id)
        at = time.time()
        snapshot = self._engine.inspect(container_id)
        reached("inspected", record.runtime_id)
        policy_mounts.mounted(spec, snapshot)
        facts = views.facts(snapshot, at) | {"error": None, "note": self._policy.note(request, spec.runtime_class)}
        if facts["status"] in stops.ENDED:
            facts["logs"] = stops.last_lines(self._engine, container_id)
        check = sessions.ready_check(request)
        if facts["status"] is RuntimeStatus.RUNNING and ready.is_waited_for(check, snapshot):
            return self._await_ready(waiting, check, facts)
        changed = self._store.change(record.runtime_id, only_from={RuntimeStatus.STARTING}, end=operation.id, **facts)
        if changed is None:
            raise Superseded
        self._metrics.starts.labels("ok").inc()
        return True

    def _await_ready(self, waiting: Waiting, check: ReadyCheck | None, facts: dict[str, Any]) -> bool:
        """Leave the rest of the start to the watch."""
        record, operation = waiting.record, waiting.operation
        waits = {**facts, "status": RuntimeStatus.STARTING, "status_detail": "Waiting for the main service."}
        changed = self._store.change(record.runtime_id, only_from={RuntimeStatus.STARTING}, **waits)
        if changed is None or not self._store.slots.leave(operation):
            raise Superseded
        began = time.perf_counter()

        def over() -> None:
            waiting.timings.add(READY, time.perf_counter() - began)
            self._count_ready(record.runtime_id)
            waiting.finish()

        self._watch.watch(changed, operation, check, over)
        return False

    def _count_ready(self, runtime_id: str) -> None:
        with suppress(StorageUnavailable):
            now = self._store.get(runtime_id)
            if now is not None and now.status is RuntimeStatus.RUNNING:
                self._metrics.starts.labels("ok").inc()
            elif now is not None and now.status in stops.ENDED:
                self._metrics.starts.labels("ended-before-ready").inc()

    def _connected(self, spec: RuntimeSpec) -> RuntimeSpec:
        """With the server's own network, where the start names none; the caller's own names of hosts win."""
        if self._network is None or spec.network is not None:
            return spec
        network = self._network.ensure()
        hosts = {**self._network.extra_hosts(network), **spec.extra_hosts}
        return dataclasses.replace(spec, network=network.name, extra_hosts=hosts)

    def _start(self, container_id: str, request: StartRequest, spec: RuntimeSpec) -> str:
        """Start it; the id of what has been started."""
        policy_workspaces.give(self._engine, spec, container_id)
        # Engines take a port when a container starts, not when it is created.
        self._reservations.release(spec.runtime_id)
        try:
            self.run_container(container_id, request)
        except PortInUse:
            picked = host_ports.picked(spec, sessions.completed(request))
            if picked == spec:
                raise
            # Somebody was faster at the port that callers were told of: then another, which they are told next.
            self._engine.remove(container_id)
            container_id, _, _ = self._made(picked)
            policy_workspaces.give(self._engine, picked, container_id)
            self._engine.start(container_id)
        return container_id

    def run_container(self, container_id: str, request: StartRequest) -> None:
        """Start a container that there is.

        Raises:
            ContainerMissing: there is none.
            Problem: the engine can't start it.
        """
        try:
            self._engine.start(container_id)
        except NetworkNotFound:
            if self._network is None or request.network is not None:
                raise
            # Somebody removed it. The container has its name, and joins the new one.
            self._network.forget()
            self._network.ensure()
            self._engine.start(container_id)

    def _create(
        self,
        record: Record,
        operation: Operation,
        request: StartRequest,
        spec: RuntimeSpec,
        login: RegistryLogin | None,
    ) -> tuple[str, Snapshot | None, RuntimeSpec]:
        """The container's id, what was there before, where a crash interrupted this same attempt, and what it is."""
        try:
            return self._made(spec)
        except ImageNotFound:
            if request.image_pull_policy != "IfNotPresent":
                raise
        self._pull(record, operation, request, login)
        return self._made(spec)

    def _made(self, spec: RuntimeSpec) -> tuple[str, Snapshot | None, RuntimeSpec]:
        policy_workspaces.ensure(self._engine, spec)
        for _ in range(CREATE_TRIES):
            try:
                with timed(CREATE):
                    return self._engine.create(spec), None, spec
            except NameTaken:
                snapshot = self._own(spec)
            except RuntimeClassUnknown:
                if not spec.other_classes:
                    raise
                first, *others = spec.other_classes
                spec = dataclasses.replace(spec, runtime_class=first, other_classes=tuple(others))
                continue
            if snapshot is not None:
                return snapshot.container_id, snapshot, spec
        raise EngineFailed("A container that isn't this service's has the runtime's name.")

    def _own(self, spec: RuntimeSpec) -> Snapshot | None:
        """The container that has the name, if it is this attempt's; any other is removed.

        What an attempt that failed left may be removed at any time by a call of that attempt which the engine
        carries out late.
        """
        try:
            snapshot = self._engine.inspect(spec.runtime_id)
        except ContainerMissing:
            return None  # removed meanwhile, or none of ours
        another = snapshot.labels.get(tags.ATTEMPT) != spec.labels[tags.ATTEMPT]
        # Its host paths were checked by the process that made it: what they lead to now isn't what was seen then.
        unchecked = snapshot.started_at is None and any(mount.identity for mount in spec.mounts)
        if another or unchecked or snapshot.state in (ContainerState.REMOVING, ContainerState.DEAD):
            with suppress(ContainerMissing):
                self._engine.remove(snapshot.container_id)
            return None
        return snapshot

    def _pull(self, record: Record, operation: Operation, request: StartRequest, login: RegistryLogin | None) -> None:
        with timed(PULL), self._queue.lent(operation):
            self._fetch.fetch(record, operation, request, login, lambda: self._check(record, operation))
        reached("pulled", record.runtime_id)
        self._check(record, operation)

    def close(self) -> None:
        """Look after no runtime and hold no port any more."""
        self._watch.close()
        self._reservations.close()

    def _check(self, record: Record, operation: Operation) -> None:
        if self.closing.is_set():
            raise Superseded
        now = self._store.get(record.runtime_id)
        if now is None or now.status is not RuntimeStatus.STARTING:
            raise Superseded
        if not self._store.operations.held(operation.id, operation.holder):
            raise Superseded

    def _give_up(self, record: Record, operation: Operation) -> None:
        """Remove what was made where a stop came, which waits for that.

        Where this closes or another has taken over, it is theirs: it may run by now, and even have ended again.
        """
        with suppress(Problem):
            now = self._store.get(record.runtime_id)
            if now is not None and now.status is RuntimeStatus.STARTING:
                return
            if self._store.operations.held(operation.id, operation.holder):
                self._remove(record, operation)
                self._store.operations.drop(operation.id, operation.holder)

    def _fail(self, record: Record, operation: Operation, problem: Problem) -> None:
        log.info("start failed", runtime_id=record.runtime_id, code=problem.code, detail=problem.detail)
        with suppress(StorageUnavailable):
            if not self._store.operations.held(operation.id, operation.holder):
                return  # taken over: the container is another's to start
        self._metrics.starts.labels(problem.code).inc()
        self._remove(record, operation)
        now = time.time()
        session = sessions.is_session(record.session_id, record.name)
        with suppress(StorageUnavailable):
            failed = self._store.change(
                record.runtime_id,
                only_from={RuntimeStatus.STARTING},
                end=operation.id,
                status=RuntimeStatus.ERROR,
                status_detail=pods.detail(problem) if session else problem.detail,
                ports={},
                error=views.failure(problem),
                container_id=None,
                stopped_at=now,
                seen_at=now,
            )
            if failed is None:
                self._store.operations.drop(operation.id, operation.holder)

    def _remove(self, record: Record, operation: Operation) -> None:
        # Provisional: an engine that is away may still have it; the reconciler's sweep looks again. By the
        # container's id: a removal that is carried out late must not meet a retry's, which has the same name.
        ran = False
        with suppress(ContainerMissing, Problem):
            found = self._engine.inspect(record.runtime_id)
            ran = found.started_at is not None
            self._engine.remove(found.container_id)
        if not ran:  # otherwise there may be something in it, of hours if a crash lies between
            policy_workspaces.discard(self._engine, record.workspace, operation.id)
