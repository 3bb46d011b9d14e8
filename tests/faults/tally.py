"""What a fault test did and what came of it, counted by the engine's own list and by the records."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from runtime_server.client.client import RuntimeServerClient
from runtime_server.engine import labels
from runtime_server.errors import RuntimeClientError
from runtime_server.models import Runtime, RuntimeStatus
from tests.faults.server import DEADLINE, JOB, Site, connect, eventually

GONE = "gone"
"""The intended state of a job that shall have no container."""

_AGREES = {"running": RuntimeStatus.RUNNING, "paused": RuntimeStatus.PAUSED, "exited": RuntimeStatus.STOPPED}


class Tally:
    """Counts of one test; safe for threads.

    Args:
        test: its name.
        seed: what its faults were drawn from.
    """

    def __init__(self, test: str, seed: int) -> None:
        self.test = test
        self.seed = seed
        self.operations = 0
        self.faults: Counter[str] = Counter()
        self.duplicates = 0
        self.leaks = 0
        self.verified = False
        self.figures: dict[str, str] = {}
        self._lock = threading.Lock()

    def operation(self, number: int = 1) -> None:
        """Count calls as the user means them, not attempts."""
        with self._lock:
            self.operations += number

    def fault(self, kind: str) -> None:
        """Count a fault that was injected."""
        with self._lock:
            self.faults[kind] += 1

    def figure(self, name: str, value: str) -> None:
        """Show a measured value; nothing depends on it."""
        with self._lock:
            self.figures[name] = value

    def verify(
        self, site: Site, client: RuntimeServerClient, intended: Mapping[str, str], *, within: float = DEADLINE
    ) -> None:
        """Hold the engine and the records to what was intended, for each job the state of its one container.

        Args:
            site: whose containers are looked at.
            client: reads the records; over a faultless way.
            intended: ``running``, ``paused``, ``exited`` or ``GONE`` for each job.
            within: seconds after which it must be so.
        """
        wanted = sorted((name, state) for name, state in intended.items() if state != GONE)

        def right() -> bool:
            return site.states() == wanted and not disagreements(client, intended)

        try:
            eventually(right, "containers and records are as intended", within)
        except (AssertionError, RuntimeClientError) as error:
            self._count(site, intended)
            raise AssertionError(
                f"{error}\nseed {self.seed}\nmissing: {_minus(wanted, site.states())}\n"
                f"too many: {_minus(site.states(), wanted)}\nrecords: {disagreements(client, intended)}"
            ) from None
        self._count(site, intended)
        self.verified = True
        assert (self.duplicates, self.leaks) == (0, 0)

    def _count(self, site: Site, intended: Mapping[str, str]) -> None:
        found = Counter(name for name, _ in site.states())
        live = {name for name, state in intended.items() if state != GONE}
        self.duplicates += sum(number - 1 for number in found.values())
        self.leaks += sum(1 for name in found if name not in live)

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {number}" for kind, number in sorted(self.faults.items()))
        figures = "".join(f", {name} {value}" for name, value in self.figures.items())
        return (
            f"{self.test}: seed {self.seed}, operations {self.operations}, "
            f"faults {self.faults.total()}{f' ({faults})' if faults else ''}, "
            f"duplicates {self.duplicates}, leaks {self.leaks}{figures}"
            f"{'' if self.verified else ', NOT VERIFIED'}"
        )


class Creations:
    """Counts, by the engine's events, each container that a job gets beyond its first, whatever becomes of it later.

    Args:
        site: whose containers.
        tally: gets the duplicates.

    Attributes:
        jobs: containers made for each job so far.
    """

    def __init__(self, site: Site, tally: Tally) -> None:
        self._tally = tally
        self._docker = connect()
        filters = {"type": "container", "event": "create", "label": f"{labels.INSTANCE}={site.instance}"}
        # Engines answer before they subscribe; without "since", what happens in between would be lost.
        self._events = self._docker.events(since=int(time.time()), filters=filters, decode=True)
        self.jobs: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._read, name="creations")

    def _read(self) -> None:
        for event in self._events:
            self.jobs[event["Actor"]["Attributes"].get(JOB, "?")] += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()
        self._thread.join(DEADLINE)
        self._docker.close()
        self._tally.duplicates += sum(number - 1 for number in self.jobs.values())


def disagreements(client: RuntimeServerClient, intended: Mapping[str, str]) -> list[str]:
    """Sentences on records that aren't what they should be: exactly one for each job that has a container."""
    live: dict[str, list[Runtime]] = {}
    for runtime in client.list_runtimes(status=[s for s in RuntimeStatus if s not in _OVER], limit=1000):
        live.setdefault((runtime.labels or {}).get(JOB, "?"), []).append(runtime)
    wrong = []
    for name, state in intended.items():
        found = [runtime.status for runtime in live.pop(name, [])]
        # A state that no record stands for, such as that of a container which isn't started yet, agrees with none.
        expected: list[str] = [] if state == GONE else [_AGREES.get(state, state)]
        if found != expected:
            wrong.append(f"{name}: {[str(status) for status in found]}, not {[str(status) for status in expected]}")
    return wrong + [f"{name}: not intended at all" for name in live]


_OVER = (RuntimeStatus.REMOVED, RuntimeStatus.ERROR)


def _minus(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((Counter(ours) - Counter(theirs)).elements())
