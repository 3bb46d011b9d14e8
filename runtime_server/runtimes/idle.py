"""Runtimes that nobody uses are put to sleep, and those that somebody waits for are woken, by the reconciler.

In use is what the gateway sees, with requests that are under way and WebSockets, and what has commands executed
inside. An agent server says itself how long it has been idle: an agent at work may have no caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.errors import (
    EngineFailed,
    EngineTimeout,
    InvalidState,
    QuotaExceeded,
    RuntimeBusy,
    RuntimeNotFound,
)
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import sessions
from runtime_server.runtimes.nginx_cache import NginxCache
from runtime_server.runtimes.stops import Stops
from runtime_server.runtimes.switches import Switches
from runtime_server.runtimes.terms import Terms
from runtime_server.store.records import Record
from runtime_server.store.store import Store

log = structlog.get_logger("runtime_server.gateway")

LOOK = 1.0
"""Seconds between two looks at what may be idle."""
JUST_NOW = 10.0
"""Seconds after a freeze in which each tick looks for requests that were sent there before it."""
SELDOM = 5.0
"""Seconds between two looks at all that sleep: a WebSocket may stay open over a freeze, and bring a message."""
ANSWER = 2.0
"""Seconds in which an agent server says how long it has been idle."""
GRACE = 5.0
"""Seconds between TERM and KILL for a runtime that is stopped because it is idle."""
SETTLED = 60.0
"""Seconds after which a record names the right process, if there is one to be seen."""
PART = 0.25
"""Part of its timeout after which a runtime without callers is asked what it does; by that its last use is known."""


class IdleWatch:
    """Looks after all runtimes behind the gateway.

    Args:
        engine: is asked about connections and commands.
        store: records.
        switches, stops: do it.
        cache: tells when a runtime was called.
        terms: how each is treated.
        submit: has something done for a runtime, unless something is being done already.
        everyone: whether runtimes sleep whose start says nothing of it.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        switches: Switches,
        stops: Stops,
        cache: NginxCache,
        terms: Terms,
        submit: Callable[[str, Callable[[], object]], None],
        everyone: bool,
    ) -> None:
        self._engine = engine
        self._store = store
        self._switches = switches
        self._stops = stops
        self._cache = cache
        self._terms = terms
        self._submit = submit
        self._everyone = everyone
        self._used: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._looked = self._looked_at_all = 0.0
        self._said = False

    def tick(self) -> None:
        """Look at what is due; called twice a second.

        Raises:
            StorageUnavailable.
        """
        now = time.monotonic()
        every = now - self._looked_at_all >= SELDOM
        if every:
            self._looked_at_all = now
            self._mend()
        self._wake_called(every)
        if now - self._looked >= LOOK:
            self._looked = now
            self._find_idle()

    def _mend(self) -> None:
        """See to marks that a crash left."""
        for record in self._store.marked():
            self._submit(record.runtime_id, lambda record=record: self._switches.mend(record))  # type: ignore[misc]

    def _wake_called(self, every: bool) -> None:
        since = 0.0 if every else time.time() - JUST_NOW
        for record in self._store.in_state(RuntimeStatus.PAUSED, since):
            if self._terms.wakes(record) and self._switches.is_called(record):
                self._submit(record.runtime_id, lambda record=record: self._wake(record))  # type: ignore[misc]

    def _wake(self, record: Record) -> None:
        log.info("woken by what was sent to it while it was frozen", runtime_id=record.runtime_id)
        with suppress(QuotaExceeded, InvalidState, RuntimeBusy, RuntimeNotFound):
            self._switches.wake(record)

    def _find_idle(self) -> None:
        found = self._store.in_state(RuntimeStatus.RUNNING, sleepy=not self._everyone)
        there = {each.runtime_id for each in found}
        for known in (self._used, self._asked):
            for gone in known.keys() - there:
                del known[gone]
        now = time.time()
        for record in found:
            timeout = self._terms.idle_timeout(record)
            if timeout:
                self._look(record, timeout, now)

    def _look(self, record: Record, timeout: float, now: float) -> None:
        idle = now - self._last_use(record)
        if idle < LOOK:
            return
        if self._connected(record):
            self._note(record, now, timeout)
        elif idle >= timeout or min(idle, now - self._asked.get(record.runtime_id, 0.0)) >= PART * timeout:
            self._asked[record.runtime_id] = now
            self._submit(record.runtime_id, lambda: self._consider(record, timeout))

    def _last_use(self, record: Record) -> float:
        called = self._cache.last(record.runtime_id) or 0.0
        # Whoever started or resumed it meant to use it.
        return max(self._used.get(record.runtime_id, 0.0), record.active_at or 0.0, record.seen_at, called)

    def _note(self, record: Record, used: float, timeout: float) -> None:
        self._used[record.runtime_id] = used
        # Written now and then only, for whoever reconciles next.
        if used - (record.active_at or 0.0) > PART * timeout:
            self._store.change(record.runtime_id, only_from={RuntimeStatus.RUNNING}, active_at=used)

    def _consider(self, record: Record, timeout: float) -> None:
        """Ask the runtime itself, and put it to sleep if nobody has used it for so long."""
        used = self._in_use(record)
        if used is not None and used > self._last_use(record):
            self._note(record, used, timeout)

        def is_idle(seen: Record) -> bool:
            return time.time() - self._last_use(seen) >= timeout

        if not is_idle(record):
            return

        def unused(marked: Record) -> bool:
            # By what is so now: it may have been paused and resumed, or given a command, since it was looked at.
            container = marked.container_id or marked.runtime_id
            return is_idle(marked) and not self._connected(marked) and not self._engine.commands(container)

        if self._terms.idle_action(record) == "pause":
            slept = self._switches.sleep(record, unused, f"Asleep: not used for {timeout:g} s.")
        else:
            slept = self._stop(record, unused)
        if slept:
            log.info("asleep", runtime_id=record.runtime_id, idle_timeout=timeout)

    def _stop(self, record: Record, unused: Callable[[Record], bool]) -> bool:
        begun = None
        with self._switches.quiet(record) as marked:
            if marked is not None and unused(marked):
                begun = self._stops.begin(marked, timeout=GRACE, remove=False)
        if begun is None:
            return False
        self._stops.finish(*begun)
        return True

    def _in_use(self, record: Record) -> float | None:
        """When it was last in use, as far as can be seen from outside of the gateway; None: nothing is known."""
        container = record.container_id or record.runtime_id
        if self._connected(record) or self._engine.commands(container):
            return time.time()
        if not sessions.is_session(record.session_id, record.name):
            return None
        port = sessions.main_port(sessions.of_record(record), record.ports)
        try:
            told = self._engine.http_json(self._engine.inspect(container), port or 0, "/server_info", ANSWER)
        except EngineTimeout:
            return time.time()  # too busy to say
        except ContainerMissing:
            return None
        idle = told.get("idle_time") if isinstance(told, dict) else None
        return time.time() - max(0, idle) if isinstance(idle, int | float) else None

    def _connected(self, record: Record) -> bool:
        """Whether somebody is connected to it; where that can't be seen, it might be so."""
        found = None
        with suppress(ContainerMissing, EngineFailed):
            found = self._engine.connections(record.container_id or record.runtime_id, record.pid)
        if found is not None:
            return found.open > 0
        # Right after a restart the record may still name a process that is gone.
        if not self._said and time.time() - record.seen_at > SETTLED:
            self._said = True
            log.warning("runtimes never sleep: their connections can't be seen in this machine's /proc")
        return True
