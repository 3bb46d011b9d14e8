"""What runtimes use: one look, or one after the other until they end."""

from __future__ import annotations

import time

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import Sample
from runtime_server.errors import InvalidState
from runtime_server.models import RuntimeStatus, Stats, utc
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.states import Action, invalid, target
from runtime_server.runtimes.sync import Sync
from runtime_server.store.records import Record
from runtime_server.store.store import Store

BETWEEN = 0.25
"""Seconds between the two samples of one look: what a processor is used is a difference."""
REST = 0.1
"""Seconds at least between two samples: Docker 20.10 takes up to a second for one, longer than intervals may be, and
what is due at once would keep what has come from being sent."""


class Usage:
    """Samples runtimes.

    Args:
        engine: is asked.
        store: says whether a runtime goes on.
        lookup, sync: find runtimes, and mend records that the engine contradicts.
    """

    def __init__(self, engine: Engine, store: Store, lookup: Lookup, sync: Sync) -> None:
        self._engine = engine
        self._store = store
        self._lookup = lookup
        self._sync = sync

    def look(self, caller: Caller, name: str) -> Stats:
        """What a runtime uses now.

        Raises:
            RuntimeNotFound: there is none.
            InvalidState: it doesn't run.
        """
        record = self._find(caller, name)
        before = self._sample(record)
        time.sleep(BETWEEN)
        return stats(record, before, self._sample(record))

    def open(self, caller: Caller, name: str, interval: float) -> UsageFeed:
        """What it uses every ``interval`` seconds, until it ends; frozen it uses no processor.

        Raises:
            As ``look``.
        """
        record = self._find(caller, name)
        return UsageFeed(self._engine, self._store, record, self._sample(record), interval)

    def _find(self, caller: Caller, name: str) -> Record:
        record = self._lookup.find(caller, name)
        target(Action.STATS, record)
        return record

    def _sample(self, record: Record) -> Sample:
        try:
            return self._engine.sample(record.container_id or record.runtime_id)
        except (ContainerMissing, InvalidState):
            raise invalid(Action.STATS, self._sync.sync(record).status) from None


class UsageFeed:
    """Samples of a runtime; see ``Feed``. Its end tells the runtime's status."""

    def __init__(self, engine: Engine, store: Store, record: Record, first: Sample, interval: float) -> None:
        self._engine = engine
        self._store = store
        self._record = record
        self._before = first
        self._interval = interval
        # The first comes as soon as there is something to compare with.
        self._due = time.monotonic() + min(BETWEEN, interval)

    def receive(self, timeout: float) -> Stats | None:
        """See ``Feed``."""
        wait = self._due - time.monotonic()
        if wait > timeout:
            time.sleep(timeout)
            return None
        time.sleep(max(0.0, wait))
        try:
            sample = self._engine.sample(self._record.container_id or self._record.runtime_id)
        except (ContainerMissing, InvalidState):
            if self._status() in (RuntimeStatus.STARTING, RuntimeStatus.RUNNING):
                return None  # it is being restarted, or the engine is faster than the store
            raise FeedEnded(str(self._status())) from None
        finally:
            self._due = max(self._due + self._interval, time.monotonic() + REST)
        before, self._before = self._before, sample
        return stats(self._record, before, sample)

    def _status(self) -> RuntimeStatus:
        now = self._store.get(self._record.runtime_id)
        return RuntimeStatus.REMOVED if now is None else now.status

    def close(self) -> None:
        """See ``Feed``."""


def stats(record: Record, before: Sample, now: Sample) -> Stats:
    """Two samples as answers show them."""
    spent, passed = now.cpu - before.cpu, now.at - before.at
    moment = utc(now.at / 1e9)
    assert moment is not None
    return Stats(
        runtime_id=record.runtime_id,
        time=moment,
        # Less than before: the container was started again in between.
        cpu_percent=round(100 * max(0, spent) / passed, 2) if passed > 0 else 0.0,
        cpus=record.cpus or float(now.cpus),
        memory_bytes=now.memory,
        memory_limit_bytes=record.memory or now.memory_limit,
        network_rx_bytes=now.received,
        network_tx_bytes=now.sent,
        block_read_bytes=now.read,
        block_write_bytes=now.written,
        pids=now.pids,
    )
