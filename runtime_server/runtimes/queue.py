"""This process's part in the queue of starts: what it has queued, and what it is given to work on.

Places are given in the database (``store.slots``); here is who waits for one. A start is worked on by the process
that took its request, which has its registry credentials and the caller on the line; where that died, by any other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from runtime_server.engine.base import RegistryLogin
from runtime_server.errors import StorageUnavailable
from runtime_server.metrics.timings import Timings
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes.holders import Holder
from runtime_server.store.records import Operation, Record
from runtime_server.store.store import Store

WHOLE_LOOK = 0.5
"""Seconds after which everything is looked at without a ring, dead processes' places above all."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A start in this process. ``done`` is set once it is over, or no longer this process's."""

    record: Record
    operation: Operation
    login: RegistryLogin | None = field(default=None, repr=False)
    done: Future[None] = field(default_factory=Future)
    queued_since: float | None = None
    """Seconds of ``time.perf_counter``; None: it waits for nothing."""
    place: threading.Event | None = None
    """Set once there is a place, by a launch that waits for one; None: the launch is begun then."""
    timings: Timings = field(default_factory=Timings)
    """Those of the request that began it, else its own."""

    def finish(self) -> None:
        """It is over here; may be said more than once."""
        if not self.done.done():
            self.done.set_result(None)


class StartQueue:
    """Starts that wait for a place.

    Args:
        store: gives places.
        holder: this process.
        lenders: how many launches may do without a place at once, while they pull; they wait in a thread each.
    """

    def __init__(self, store: Store, holder: Holder, *, lenders: int) -> None:
        self._store = store
        self._slots = store.slots
        self._holder = holder
        self._lenders = threading.BoundedSemaphore(lenders)
        self._run: Callable[[Waiting], None] = lambda _: None
        self._lock = threading.Lock()
        self._turns = threading.Lock()
        self._waiting: dict[str, Waiting] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def serve(self, run: Callable[[Waiting], None]) -> None:
        """Hand every start that gets a place to ``run``, which returns at once."""
        self._run = run

    def expect(self, waiting: Waiting) -> None:
        """Know of a start that is about to be recorded: once it is queued there, its turn may come at any time."""
        with self._lock:
            self._waiting[waiting.operation.id] = waiting

    def forget(self, waiting: Waiting) -> None:
        """Know of it no longer: it has a place, or was refused."""
        with self._lock:
            self._waiting.pop(waiting.operation.id, None)

    def wait(self, waiting: Waiting) -> None:
        """Let a start that was recorded as queued wait for its turn."""
        with self._lock:
            if waiting.operation.id in self._waiting:  # else its turn has come already
                self._holder.keep(waiting.operation)
                waiting.queued_since = time.perf_counter()
        self._begin_looking()
        with suppress(StorageUnavailable):
            self._advance()
        if self._closing.is_set():  # nobody looks any more
            self._drop(waiting)

    def adopt(self, operation: Operation, record: Record) -> None:
        """Queue up a start whose worker is gone."""
        waiting = Waiting(record, operation)
        self.expect(waiting)
        if self._slots.requeue(operation, self._holder.id, self._holder.lease(), record.created_at):
            self.wait(waiting)
        else:
            self.forget(waiting)

    def advance(self) -> None:
        """A place may have become free: begin the starts whose turn it is, and let other processes look for theirs.

        Raises:
            StorageUnavailable: the queue can't be read or written.
        """
        try:
            self._advance()
        finally:
            self._slots.bell.ring()

    def _advance(self) -> None:
        if self._closing.is_set() or not self._slots.any_queued():
            return
        with self._turns:
            granted = self._slots.grant(self._holder.id, self._holder.lease(), self._holder.living)
            with self._lock:
                given = [(operation, self._waiting.pop(operation.id, None)) for operation in granted]
        for operation, waiting in given:
            self._give(operation, waiting)

    def _give(self, operation: Operation, waiting: Waiting | None) -> None:
        if waiting is not None:
            waiting.operation = operation
            if waiting.place is not None:
                waiting.place.set()
            else:
                self._run(waiting)
            return
        record = self._store.get(operation.key)
        if record is not None and record.status is RuntimeStatus.STARTING:
            self._run(Waiting(record, operation))
        else:
            self._store.give_up(operation.id, operation.holder)

    @contextmanager
    def lent(self, operation: Operation) -> Iterator[None]:
        """Do without the place meanwhile, and wait for one afterwards; where the body fails, for none."""
        if not self._lenders.acquire(blocking=False):
            yield
            return
        try:
            self._slots.lend(operation)
            with suppress(StorageUnavailable):
                self.advance()
            yield
            self._rejoin(operation)
        finally:
            self._lenders.release()

    def _rejoin(self, operation: Operation) -> None:
        record = self._store.get(operation.key)
        if record is None:
            return
        waiting = Waiting(record, operation, place=threading.Event())
        self.expect(waiting)
        try:
            if self._slots.rejoin(operation, time.time()):
                return
            self.wait(waiting)
            assert waiting.place is not None
            waiting.place.wait()
        finally:
            self.forget(waiting)

    def _begin_looking(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._look, name="queue", daemon=True)
                self._thread.start()
        self._wake.set()

    def _look(self) -> None:
        rung = self._slots.bell.wait(0)
        while self._wake.wait() and not self._closing.is_set():
            with suppress(StorageUnavailable):
                if not rung or self._stirs():
                    self._let_go()
                    self._advance()
            with self._lock:
                if not self._waiting and not self._closing.is_set():
                    self._wake.clear()
            rung = self._slots.bell.wait(WHOLE_LOOK)

    def _stirs(self) -> bool:
        """Whether a place is free, or a start of this process's no longer waits."""
        with self._lock:
            waiting = sum(each.queued_since is not None for each in self._waiting.values())
        at_work, queued = self._slots.standing(self._holder.id)
        return queued != waiting or not self._slots.places or at_work < self._slots.places

    def _let_go(self) -> None:
        """Let go of what was stopped, or is another's, while it waited."""
        with self._lock:
            candidates = [each for each in self._waiting.values() if each.queued_since is not None]
        if not candidates:
            return
        with self._turns:  # between the granting of a place and its giving, a start looks like one that is gone
            still = self._slots.queued_for(self._holder.id)
            with self._lock:
                gone = [
                    each
                    for each in candidates
                    if each.operation.id not in still and self._waiting.pop(each.operation.id, None) is not None
                ]
        for waiting in gone:
            self._end(waiting)

    def _end(self, waiting: Waiting) -> None:
        self._holder.release(waiting.operation)
        if waiting.place is not None:
            waiting.place.set()
        else:
            waiting.finish()

    def close(self) -> None:
        """Wait for no place any more; what is queued goes to whichever process lives."""
        with self._lock:
            self._closing.set()
            self._wake.set()
        self._slots.bell.ring()
        if self._thread is not None:
            self._thread.join(30)
        self._slots.bell.close()
        with self._lock:
            left = list(self._waiting.values())
            self._waiting.clear()
        for waiting in left:
            self._end(waiting)

    def _drop(self, waiting: Waiting) -> None:
        with self._lock:
            mine = self._waiting.pop(waiting.operation.id, None) is not None
        if mine:
            self._end(waiting)
