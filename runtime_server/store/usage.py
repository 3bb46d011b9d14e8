"""How much is in use, counted inside the write that would use more, so that the count is exact."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import sqlalchemy as sa

from runtime_server.errors import QuotaExceeded
from runtime_server.store.records import Record
from runtime_server.store.statements import Prepared

RESUME = "resume"
"""Kind of the operation by which a resume reserves its place among those that run."""
AGAIN = 30.0
"""Seconds of ``Retry-After``: nothing tells when a quota is freed, and asking all the time doesn't help."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be in use at once; 0: unlimited.

    Args:
        max_runtimes: the owner's runtimes that aren't removed.
        max_running: those that are starting or running.
        max_cpus: CPUs of those that are starting, running or paused.
        max_memory: their memory in bytes.
        host_max_running: starting or running, of all owners.
    """

    max_runtimes: int = 0
    max_running: int = 0
    max_cpus: float = 0.0
    max_memory: int = 0
    host_max_running: int = 0

    def __bool__(self) -> bool:
        return bool(self._owned or self.host_max_running)

    @property
    def _owned(self) -> bool:
        return bool(self.max_runtimes or self.max_running or self.max_cpus or self.max_memory)

    def to_run(self) -> Limits:
        """Those that count what runs: all that a resume can exceed."""
        return Limits(max_running=self.max_running, host_max_running=self.host_max_running)

    def to_start_again(self) -> Limits:
        """Those that a second attempt under a record that there is already can exceed."""
        return replace(self, max_runtimes=0)

    def to_grow(self) -> Limits:
        """Those that a runtime which is there already can exceed by getting more."""
        return Limits(max_cpus=self.max_cpus, max_memory=self.max_memory)

    def check(self, connection: sa.Connection, record: Record) -> None:
        """Count, where something is limited, with the record and its reservation written already.

        Raises:
            QuotaExceeded: it is one too many.
        """
        if self._owned:
            whole_cpus, whole_memory = _whole()
            cpus = whole_cpus if record.cpus is None else record.cpus
            memory = whole_memory if record.memory is None else record.memory
            values = {"owner": record.owner, "whole_cpus": whole_cpus, "whole_memory": whole_memory}
            ((runtimes, running, given_cpus, given_memory, resuming),) = _OWNERS.rows(connection, values)
            _compare("max_runtimes", self.max_runtimes, runtimes, 1)
            _compare("max_running", self.max_running, running + resuming, 1)
            _compare("max_cpus", self.max_cpus, given_cpus, cpus)
            _compare("max_memory", self.max_memory, given_memory, memory)
        if self.host_max_running:
            ((running,),) = _HOSTS.rows(connection)
            _compare("host_max_running", self.host_max_running, running, 1)


_OWNERS = Prepared.text(
    "SELECT count(*),"
    " coalesce(sum(status IN ('starting', 'running')), 0),"
    " coalesce(sum(CASE WHEN status IN ('starting', 'running', 'paused') "
    " THEN coalesce(cpus, :whole_cpus) END), 0),"
    " coalesce(sum(CASE WHEN status IN ('starting', 'running', 'paused') "
    " THEN coalesce(memory, :whole_memory) END), 0),"
    " (SELECT count(*) FROM operations WHERE kind = 'resume' AND owner = :owner)"
    " FROM runtimes WHERE owner = :owner AND status <> 'removed'"
)
_HOSTS = Prepared.text(
    "SELECT (SELECT count(*) FROM runtimes WHERE status IN ('starting', 'running'))"
    " + (SELECT count(*) FROM operations WHERE kind = 'resume')"
)

_SENTENCE = {
    "max_runtimes": "{used:g} of at most {maximum:g} runtimes of this owner are there; remove one.",
    "max_running": "{used:g} of at most {maximum:g} runtimes of this owner run; pause or stop one.",
    "max_cpus": "{used:g} of at most {maximum:g} CPUs of this owner are given away, and this needs {more:g}.",
    "max_memory": "{used:.0f} of at most {maximum:.0f} bytes of this owner's memory are given away,"
    " and this needs {more:.0f}.",
    "host_max_running": "{used:g} of at most {maximum:g} runtimes of this server run.",
}


def _compare(limit: str, maximum: float, used: float, more: float) -> None:
    """Refuse what is too much; ``used`` counts it in already."""
    if maximum and used > maximum + 1e-9:
        before = round(used - more, 9) if isinstance(used, float) else used - more
        sentence = _SENTENCE[limit].format(used=before, maximum=maximum, more=more)
        raise QuotaExceeded(sentence, retry_after=AGAIN, limit=limit, maximum=maximum, used=before)


def _whole() -> tuple[float, int]:
    """What a runtime without a limit may use: all the host's CPUs and memory."""
    return float(os.cpu_count() or 1), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
