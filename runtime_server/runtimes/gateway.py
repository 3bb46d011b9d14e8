"""Who serves a request that nginx has got for a runtime: asked before each, and kept by nginx for a moment.

Reads come from the store alone, and cost no engine call where the runtime runs. Payload never passes through here.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime_server.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    InvalidState,
    Problem,
    RuntimeBusy,
    RuntimeNotFound,
    TooManyWaiting,
)
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import access, sessions
from runtime_server.runtimes.holders import LOCK_WAIT
from runtime_server.runtimes.nginx_cache import NginxCache
from runtime_server.runtimes.switches import Switches
from runtime_server.runtimes.sync import Liveness, Sync
from runtime_server.runtimes.terms import Terms
from runtime_server.runtimes.waits import SHORT, SlowLane
from runtime_server.store.records import Record
from runtime_server.store.store import Store

SOON, LATER = 1.0, 5.0
"""Seconds of ``Retry-After``: where something is under way, and where somebody has to do something first."""

_ROUTED = (RuntimeStatus.STARTING, RuntimeStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Asked:
    """What nginx asks.

    Attributes:
        runtime_id: as in the address.
        service: as in the address; empty: the main one.
        key: nginx's key for the answer.
        presented: what the request brings along.
    """

    runtime_id: str
    service: str
    key: str = field(repr=False)
    presented: access.Presented

    @property
    def address(self) -> str:
        """What the caller calls."""
        return f"{self.service}-{self.runtime_id}" if self.service else self.runtime_id


@dataclass(frozen=True, slots=True)
class Routed:
    """The request goes there.

    Attributes:
        upstream: address and port of the container.
        keep: whether nginx may keep the answer.
        cookie: value of the cookie that the caller gets, if any.
    """

    upstream: str
    keep: bool
    cookie: str | None = None


class Refused(Exception):
    """The request goes nowhere.

    Attributes:
        status: that the caller gets.
        retry_after: seconds after which another try makes sense.
    """

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


class Asleep(Exception):
    """The runtime is paused, or just being paused, and may be woken; somebody else works on it."""


class Gateway:
    """Answers nginx.

    Args:
        store: records.
        sync: brings a record up to date.
        liveness: whether the store can be trusted.
        lane: bounds waiting threads.
        switches: wake runtimes.
        cache: nginx's look-ups.
        terms: how runtimes are treated.
        rebuilding: while this file is there, records are missing.
    """

    def __init__(
        self,
        *,
        store: Store,
        sync: Sync,
        liveness: Liveness,
        lane: SlowLane,
        switches: Switches,
        cache: NginxCache,
        terms: Terms,
        rebuilding: Path,
    ) -> None:
        self._store = store
        self._sync = sync
        self._liveness = liveness
        self._lane = lane
        self._switches = switches
        self._cache = cache
        self._terms = terms
        self._rebuilding = rebuilding

    def look_up(self, asked: Asked) -> Routed:
        """Where the request goes; a runtime that sleeps is woken here by the first who calls it.

        Raises:
            Asleep: it is being woken, or frozen: ``wake`` waits for that.
            Refused: the request goes nowhere.
        """
        return self._answer(asked, 0.0)

    def wake(self, asked: Asked) -> Routed:
        """As ``look_up``, whoever else works on the runtime.

        Raises:
            Refused: the request goes nowhere.
        """
        try:
            return self._answer(asked, LOCK_WAIT)
        except Asleep:
            raise Refused(503, SOON) from None  # paused again meanwhile

    def _answer(self, asked: Asked, wait: float) -> Routed:
        try:
            record, keep = self._admit(asked)
            try:
                return self._route(asked, record, keep)
            except Asleep:
                self._refuse_to_wake(asked, record)
                self._wake(record, wait)
            return self._route(asked, record, keep)
        except (InvalidState, RuntimeNotFound, EngineFailed):
            raise Refused(502) from None  # it has ended meanwhile
        except Problem as problem:
            raise Refused(503, problem.retry_after or SOON) from None

    def _refuse_to_wake(self, asked: Asked, record: Record) -> None:
        """A preflight brings no key, and may be anybody's."""
        if asked.presented.preflight and self._terms.private(record):
            keyed = dataclasses.replace(asked.presented, preflight=False)
            if not access.may_call(keyed, record.session_api_key, asked.address):
                raise Refused(503, LATER)

    def _wake(self, record: Record, wait: float) -> None:
        """Wake it, waiting for others who work on it for ``wait`` seconds at most."""
        try:
            with self._lane.place(wait=min(wait, SHORT)):
                self._switches.wake(record, wait=wait)
        except (RuntimeBusy, TooManyWaiting):
            if wait:
                raise
            raise Asleep from None

    def _admit(self, asked: Asked) -> tuple[Record, bool]:
        """The runtime that the caller may call, and whether nginx may keep what comes of it."""
        record = self._store.get(asked.runtime_id)
        if record is None or record.status is RuntimeStatus.REMOVED:
            raise Refused(503, SOON) if self._rebuilding.exists() else Refused(404)
        private = self._terms.private(record)
        if private and not access.may_call(asked.presented, record.session_api_key, asked.address):
            raise Refused(401)
        # A key of the query is for once: an answer that was kept under it would lie on a disk.
        return record, self._cache.note(record.runtime_id, asked.key) and not (private and asked.presented.query)

    def _route(self, asked: Asked, record: Record, keep: bool) -> Routed:
        # Read once more, since a freeze takes back only what was noted before it.
        record = self._current(self._store.get(record.runtime_id) or record)
        if record.status is RuntimeStatus.PAUSED or record.pausing:
            raise Asleep if self._terms.wakes(record) else Refused(503, LATER)
        if asked.service:
            port = sessions.port_of(asked.service)
        else:
            port = sessions.main_port(sessions.of_record(record), record.ports)
        if record.status not in _ROUTED or not record.address or port is None:
            raise Refused(502)
        host = f"[{record.address}]" if ":" in record.address else record.address
        return Routed(f"{host}:{port}", keep, self._cookie(asked, record))

    def _current(self, record: Record) -> Record:
        """The record, after a look at the engine where the store can't be trusted to be up to date."""
        if record.address is not None and self._liveness.live():
            return record
        with suppress(EngineFailed, EngineUnreachable, EngineTimeout, TooManyWaiting), self._lane.place():
            return self._sync.sync(record)
        return record

    def _cookie(self, asked: Asked, record: Record) -> str | None:
        """The cookie that a key of the query is exchanged for."""
        if not asked.presented.query or record.session_api_key is None or not self._terms.private(record):
            return None
        return access.cookie(record.session_api_key, asked.address)
