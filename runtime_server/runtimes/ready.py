"""Runtimes that have been started and aren't ready yet: looked at until they are, or have ended.

A start that waits for its service holds no place among those that are worked on, and no thread. Its operation stays,
so that another process goes on where this one dies.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from runtime_server.engine.base import ContainerMissing, ContainerState, Engine, Snapshot
from runtime_server.errors import Problem
from runtime_server.models import CommandReady, HttpReady, LogReady, ReadyCheck, RuntimeStatus
from runtime_server.runtimes import pods, sessions, views
from runtime_server.runtimes.nginx_cache import NginxCache, taken_back
from runtime_server.runtimes.stops import last_lines
from runtime_server.store.records import Operation, Record
from runtime_server.store.store import Store

log = structlog.get_logger("runtime_server.ready")

LOOKERS = 8
"""Threads that look; each look may take ``LONGEST``."""
LONGEST = 2.0
"""Seconds that a service may take for its answer, and a command to end."""
FIRST, SLOWEST, GROWTH = 0.05, 1.0, 1.4
"""Seconds between two looks at first, at most, and how they grow."""
TAIL = 2000
"""Lines of output that are searched."""


@dataclass(slots=True)
class _Watched:
    record: Record
    operation: Operation
    check: ReadyCheck | None
    done: Callable[[], None]
    pause: float = FIRST


def is_waited_for(check: ReadyCheck | None, snapshot: Snapshot) -> bool:
    """Whether a container that runs isn't ready by that alone."""
    if check is None:
        return snapshot.health is not None
    return check.type != "running"


class ReadyWatch:
    """Looks after this process's started containers until they are ready. Thread-safe.

    Args:
        engine: asks them.
        store: is told.
        cache: nginx's look-ups; None: there is no gateway.
    """

    def __init__(self, engine: Engine, store: Store, cache: NginxCache | None = None) -> None:
        self._engine = engine
        self._store = store
        self._cache = cache
        self._due: list[tuple[float, int, _Watched]] = []
        self._number = itertools.count()
        self._condition = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(max_workers=LOOKERS, thread_name_prefix="ready")

    def watch(self, record: Record, operation: Operation, check: ReadyCheck | None, done: Callable[[], None]) -> None:
        """Look at it from now on.

        Args:
            record: of a container that has been started.
            operation: its start, which ends when it is ready.
            check: what makes it ready; None: its image's HEALTHCHECK.
            done: called once it is ready or has ended, or is no longer this process's.
        """
        watched = _Watched(record, operation, check, done)
        with self._condition:
            if self._closed:
                closed = True
            else:
                closed = False
                self._put(watched, 0.0)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._hand_out, name="ready", daemon=True)
                    self._thread.start()
        if closed:
            done()

    def _put(self, watched: _Watched, pause: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + pause, next(self._number), watched))
        self._condition.notify()

    def _hand_out(self) -> None:
        while True:
            with self._condition:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._condition.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                watched = heapq.heappop(self._due)[2]
                self._pool.submit(self._look, watched)

    def _look(self, watched: _Watched) -> None:
        over = False
        try:
            over = self._is_over(watched)
        except Problem:
            pass  # the engine or the store is away: the next look may be better
        except Exception:
            log.exception("looking for readiness failed", runtime_id=watched.record.runtime_id)
        with self._condition:
            if not over and not self._closed:
                self._put(watched, watched.pause)
                watched.pause = min(watched.pause * GROWTH, SLOWEST)
                return
        watched.done()

    def _is_over(self, watched: _Watched) -> bool:
        record = self._store.get(watched.record.runtime_id)
        held = self._store.operations.held(watched.operation.id, watched.operation.holder)
        if record is None or record.status is not RuntimeStatus.STARTING or not held:
            return True
        at = time.time()
        try:
            snapshot = self._engine.inspect(record.container_id or record.runtime_id)
        except ContainerMissing:
            return self._end(watched, _gone(at))
        if snapshot.state in views.ENDED:
            logs = last_lines(self._engine, snapshot.container_id)
            return self._end(watched, views.facts(snapshot, at, record=record) | {"logs": logs})
        if snapshot.state is ContainerState.RUNNING and self._is_ready(watched.check, record, snapshot):
            return self._end(watched, views.facts(snapshot, at, record=record))
        self._tell(record, snapshot)
        return False

    def _is_ready(self, check: ReadyCheck | None, record: Record, snapshot: Snapshot) -> bool:
        if isinstance(check, HttpReady):
            return self._answers(check, record, snapshot)
        if isinstance(check, CommandReady):
            return self._engine.command_status(snapshot.container_id, tuple(check.command), LONGEST) == 0
        if isinstance(check, LogReady):
            return any(check.text in line for line in self._engine.logs(snapshot.container_id, TAIL).splitlines())
        return check is not None or snapshot.health in (None, "healthy")

    def _answers(self, check: HttpReady, record: Record, snapshot: Snapshot) -> bool:
        port = check.port or sessions.main_port(sessions.of_record(record), snapshot.ports)
        if port is None:
            return True  # nobody says where; policy has warned of it
        paths = [check.path] if isinstance(check.path, str) else check.path
        statuses = (self._engine.http_status(snapshot, port, path, LONGEST) for path in paths)
        return any(status is not None and 200 <= status < 400 for status in statuses)

    def _tell(self, record: Record, snapshot: Snapshot) -> None:
        """Write down how it is getting on, where that has changed."""
        detail = views.crash_loop(snapshot) or (
            "The image's HEALTHCHECK says that it is unhealthy." if snapshot.health == "unhealthy" else None
        )
        values: dict[str, Any] = {"status_detail": detail, "restart_count": snapshot.restart_count}
        values["restart_reasons"] = pods.restart_reasons(record, snapshot)
        values["ports"] = views.ports(snapshot)
        if all(getattr(record, name) == value for name, value in values.items()):
            return
        if detail is not None and detail != record.status_detail:
            self._store.note(record.runtime_id, detail)
        self._store.change(record.runtime_id, only_from={RuntimeStatus.STARTING}, **values)

    def _end(self, watched: _Watched, values: dict[str, Any]) -> bool:
        runtime_id, operation = watched.record.runtime_id, watched.operation
        # Its address may be another's by now.
        with taken_back(self._cache if values["status"] is not RuntimeStatus.RUNNING else None, runtime_id):
            self._store.change(runtime_id, only_from={RuntimeStatus.STARTING}, end=operation.id, **values)
        return True

    def close(self) -> None:
        """Look no more; another process goes on."""
        with self._condition:
            self._closed = True
            left = [each[2] for each in self._due]
            self._due.clear()
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(10)
        self._pool.shutdown(wait=True)
        for watched in left:
            watched.done()


def _gone(at: float) -> dict[str, Any]:
    return {
        "status": RuntimeStatus.ERROR,
        "status_detail": "The container was removed by somebody else.",
        "container_id": None,
        "ports": {},
        "stopped_at": at,
        "seen_at": at,
    }
