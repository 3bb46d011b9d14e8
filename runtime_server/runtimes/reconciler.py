"""The reconciler: one process at a time follows the engine, writes what it sees, and finishes what was left.

Workers compete for a file lock; the kernel frees it when its holder dies, and another takes over.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from runtime_server.engine import labels as tags
from runtime_server.engine.base import ContainerState, Engine, EngineEvent, EventStream, Listed
from runtime_server.errors import EngineTimeout, EngineUnreachable, Problem, StorageUnavailable
from runtime_server.metrics.instruments import Metrics
from runtime_server.models import RuntimeStatus
from runtime_server.network.runtime_network import RuntimeNetwork
from runtime_server.runtimes import views
from runtime_server.runtimes.chores import Chores, without_container
from runtime_server.runtimes.sync import ENDED, SETTLED, Liveness, Sync
from runtime_server.store.records import Record
from runtime_server.store.store import Store

log = structlog.get_logger("runtime_server.reconciler")

COMPETE = 0.5
"""Seconds between two tries to become the reconciler."""
TICK = 0.5
"""Seconds between two looks at the clock: expiry, interrupted work, the beat."""
TIDY = 5.0
"""Seconds between two rounds of retention."""
SETTLE = 0.05
"""Seconds between an event and its handling."""
AWAY = 0.5
"""Seconds between two tries to reach an engine that is away."""

_STATUS = {"pause": RuntimeStatus.PAUSED, "unpause": RuntimeStatus.RUNNING, "start": RuntimeStatus.RUNNING}
_ENDS = ("die", "oom", "stop", "destroy")
_SEEN = {
    ContainerState.RUNNING: RuntimeStatus.RUNNING,
    ContainerState.RESTARTING: RuntimeStatus.RUNNING,
    ContainerState.PAUSED: RuntimeStatus.PAUSED,
}


class Reconciler:
    """Competes for the lock and, while it holds it, keeps records and engine in step.

    Args:
        engine, store, sync, chores, liveness: what it works with.
        lock: the file whose lock makes it the one.
        rebuilding: the mark that records were lost; removed once every container has one.
        sweep_interval: seconds between two comparisons of everything.
        network: is kept as the settings want it.
        also: what else this one process does at each tick.
        metrics: count sweeps.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        sync: Sync,
        chores: Chores,
        liveness: Liveness,
        lock: Path,
        rebuilding: Path,
        sweep_interval: float,
        network: RuntimeNetwork | None = None,
        also: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
    ) -> None:
        self._also = also
        self._engine = engine
        self._store = store
        self._sync = sync
        self._chores = chores
        self._liveness = liveness
        self._lock = lock
        self._rebuilding = rebuilding
        self._sweep_interval = sweep_interval
        self._network = network
        self._metrics = metrics or Metrics()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._said_away = False
        self._exit_codes: dict[str, int] = {}

    def start(self) -> None:
        """Compete from now on, in a thread."""
        self._thread = threading.Thread(target=self._compete, name="reconciler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the lock up."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(30)

    def _compete(self) -> None:
        while not self._closing.is_set():
            try:
                descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                self._closing.wait(COMPETE)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._lead()
            except BlockingIOError:
                self._closing.wait(COMPETE)
            finally:
                os.close(descriptor)

    def _lead(self) -> None:
        log.debug("reconciling")
        while not self._closing.is_set():
            try:
                self._follow()
            except (EngineUnreachable, EngineTimeout) as problem:
                self._say_away(problem)
            except Problem as problem:
                log.warning("reconciling failed", code=problem.code, detail=problem.detail)
            except Exception:
                log.exception("reconciling failed")
            with suppress(OSError):
                self._liveness.end()
            self._without_engine()
            self._closing.wait(AWAY)

    def _say_away(self, problem: Problem) -> None:
        if not self._said_away:
            self._said_away = True
            log.warning("the container engine can't be reached; trying again until it can", detail=problem.detail)

    def _without_engine(self) -> None:
        with suppress(Problem):
            self._store.operations.expire()

    def _follow(self) -> None:
        """Follow one event stream until it ends."""
        stream = self._engine.events()
        events: queue.SimpleQueue[EngineEvent | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(stream, events.put), name="events", daemon=True)
        reader.start()
        try:
            if self._said_away:
                self._said_away = False
                log.info("the container engine answers")
            self.sweep()  # what happened before the subscription
            self._rebuild()
            self._loop(events)
        finally:
            stream.close()
            reader.join(10)

    def _rebuild(self) -> None:
        """Where the records were lost, let callers in once each container has one again."""
        while self._rebuilding.exists() and not self._closing.is_set():
            self._chores.settle()
            if not any(self._store.get(_id_of(each)) is None for each in self._engine.list()):
                log.info("the records are rebuilt")
                self._rebuilding.unlink(missing_ok=True)
                return
            self._closing.wait(TICK)
            self.sweep()

    def _loop(self, events: queue.SimpleQueue[EngineEvent | None]) -> None:
        swept = tidied = time.monotonic()
        ticked = 0.0
        while not self._closing.is_set():
            now = time.monotonic()
            if now - ticked >= TICK:
                ticked = now
                self._tick()
            if now - tidied >= TIDY:
                tidied = now
                with suppress(StorageUnavailable):  # a full disk isn't a gap in what the engine tells
                    self._chores.tidy(time.time())
            if now - swept >= self._sweep_interval:
                swept = now
                self.sweep()
            batch, ended = _batch(events)
            for event in batch:
                self._handle(event)
            if ended:
                return

    def _tick(self) -> None:
        self._liveness.touch()
        self._chores.expire(time.time())
        self._chores.interrupted()
        self._also()

    def _handle(self, event: EngineEvent) -> None:
        """Write what an event says. What an action of ours has written already costs one read."""
        exit_code = self._exit_code(event)
        record = self._store.get(event.runtime_id)
        if record is None or event.container_id != record.container_id:
            return
        if record.status is RuntimeStatus.REMOVED and record.exit is None and exit_code is not None:
            # Somebody saw that it was gone before its events told how it ended.
            only = {RuntimeStatus.REMOVED}
            self._store.change(record.runtime_id, only_from=only, exit=views.exit_of(exit_code))
        if record.status not in SETTLED:
            return
        # An end is looked at whenever it came: one that overtook a resume's answer is older than its record.
        ended = event.action in _ENDS or event.exit_code is not None
        seen = _STATUS.get(event.action, record.status)
        if (
            (ended and record.status not in ENDED)
            or event.action == "destroy"
            or (seen is not record.status and event.at > record.seen_at)
        ):
            self._look(record, exit_code, oom_killed=event.oom_killed)

    def _exit_code(self, event: EngineEvent) -> int | None:
        """How the container's process ended last, by this event or an earlier one: only ``die`` tells."""
        if event.exit_code is not None:
            self._exit_codes[event.container_id] = event.exit_code
        elif event.action == "start":
            self._exit_codes.pop(event.container_id, None)
        if event.action == "destroy":
            return self._exit_codes.pop(event.container_id, None)
        return self._exit_codes.get(event.container_id)

    def _look(self, record: Record, exit_code: int | None, *, oom_killed: bool = False) -> None:
        runtime_id = record.runtime_id
        self._chores.submit(
            runtime_id, lambda: self._sync_and_tidy(runtime_id, exit_code, oom_killed=oom_killed), quick=True
        )

    def _sync_and_tidy(self, runtime_id: str, exit_code: int | None, *, oom_killed: bool) -> None:
        record = self._store.get(runtime_id)
        if record is None:
            return
        record = self._sync.sync(record, exit_code=exit_code, oom_killed=oom_killed, wait=5.0)
        if record.status in ENDED and record.auto_remove:
            self._chores.remove_now(record)

    def sweep(self) -> None:
        """Compare everything.

        Raises:
            EngineUnreachable, EngineTimeout: the engine doesn't answer.
        """
        with self._metrics.sweep_seconds.time():
            self._compare()
        self._metrics.sweeps.inc()

    def _compare(self) -> None:
        # Live ones first: where records are rebuilt, they get an alias that an ended one had before.
        found = sorted(self._engine.list(), key=lambda each: each.state not in _SEEN)
        listed = {_id_of(each): each for each in found}
        records = {record.runtime_id: record for record in self._store.present()}
        for runtime_id, container in listed.items():
            record = records.get(runtime_id)
            if record is None or without_container(record):
                self._chores.unlisted(container, runtime_id)
            elif record.status in SETTLED and _differs(record, container):
                self._look(record, None)
        for runtime_id, record in records.items():
            if runtime_id not in listed and record.status in SETTLED and record.container_id is not None:
                self._look(record, None)
        self._chores.compare_workspaces()
        if self._network is not None:
            self._network.keep()


def _batch(events: queue.SimpleQueue[EngineEvent | None]) -> tuple[list[EngineEvent], bool]:
    """The latest event of each runtime, once there are some, and whether the stream has ended.

    PERF: taken a moment after they come. Most tell of our own actions, whose write has landed by then: looked at
    sooner, each would cost the engine an inspection, and the next action a wait for the runtime's lock.
    """
    latest: dict[str, EngineEvent] = {}
    try:
        event = events.get(timeout=TICK / 2)
        time.sleep(SETTLE)
        while event is not None:
            if event.action in _STATUS or event.action in _ENDS:
                before = latest.get(event.runtime_id)
                if before is not None:
                    code = before.exit_code if event.exit_code is None else event.exit_code
                    event = dataclasses.replace(
                        event, exit_code=code, oom_killed=event.oom_killed or before.oom_killed
                    )
                latest[event.runtime_id] = event
            event = events.get_nowait()
    except queue.Empty:
        return list(latest.values()), False
    return list(latest.values()), True


def _id_of(container: Listed) -> str:
    return container.labels.get(tags.RUNTIME_ID, container.name)


def _differs(record: Record, container: Listed) -> bool:
    status = _SEEN.get(container.state)
    return record.status not in ENDED if status is None else record.status is not status


def _read(stream: EventStream, put: Callable[[EngineEvent | None], None]) -> None:
    try:
        for event in stream:
            put(event)
    except Problem:
        pass
    finally:
        put(None)
