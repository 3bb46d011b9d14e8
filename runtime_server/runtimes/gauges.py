"""What the state directory tells when somebody asks for the metrics: nothing of it is counted along the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from runtime_server._version import __version__
from runtime_server.errors import StorageUnavailable
from runtime_server.metrics.instruments import PREFIX
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes import pulls, starts, stops
from runtime_server.runtimes.sync import Liveness
from runtime_server.store import slots
from runtime_server.store.counts import Counts, counted
from runtime_server.store.database import Database


@dataclass(frozen=True, slots=True)
class Gauge:
    """A gauge, as it is described; ``owner`` is a label that not everybody is told."""

    name: str
    text: str
    labels: tuple[str, ...] = ()

    def of(self, value: float) -> Metric:
        """With the value, where it has no labels."""
        return GaugeMetricFamily(self.name, self.text, value=float(value))


INFO = Gauge(f"{PREFIX}_info", "The server's version.", ("version",))
DRAINING = Gauge(f"{PREFIX}_draining", "Whether new starts are refused.")
UP = Gauge(f"{PREFIX}_reconciler_up", "Whether the reconciler follows the engine.")
BEAT = Gauge(f"{PREFIX}_reconciler_beat_age_seconds", "Since the reconciler last said that it does.")
PLACES = Gauge(f"{PREFIX}_start_places", "Starts that may be worked on at once.")
RUNTIMES = Gauge(f"{PREFIX}_runtimes", "Runtimes that aren't removed; `owner` is for admins.", ("state", "owner"))
QUEUED = Gauge(f"{PREFIX}_starts_queued", "Starts that wait for a place.")
STARTING = Gauge(f"{PREFIX}_starts_in_progress", "Starts that have a place.")
READYING = Gauge(f"{PREFIX}_starts_readying", "Containers whose service doesn't answer yet.")
STOPPING = Gauge(f"{PREFIX}_stops_in_progress", "Stops that aren't over.")
PULLING = Gauge(f"{PREFIX}_pulls_in_progress", "Images that are being pulled.")

DESCRIBED = (INFO, DRAINING, UP, BEAT, PLACES, RUNTIMES, QUEUED, STARTING, READYING, STOPPING, PULLING)
"""All of them."""


class Gauges:
    """The gauges of one state directory.

    Args:
        database: where runtimes and operations are counted.
        liveness: whether, and since when, the reconciler follows the engine.
        draining: while this file is there, new starts are refused.
        places: how many starts are worked on at once.
    """

    def __init__(self, database: Database, liveness: Liveness, draining: Path, places: int) -> None:
        self._database = database
        self._liveness = liveness
        self._draining = draining
        self._places = places

    def collect(self, *, owners: bool) -> Iterator[Metric]:
        """As they are now. What comes from a database that can't be read is left out.

        Args:
            owners: tell runtimes by owner too, whose names are not for everybody.
        """
        info = GaugeMetricFamily(INFO.name, INFO.text, labels=INFO.labels)
        info.add_metric([__version__], 1.0)
        yield info
        yield DRAINING.of(self._draining.exists())
        yield UP.of(self._liveness.live())
        age = self._liveness.age()
        if age is not None:
            yield BEAT.of(age)
        yield PLACES.of(self._places)
        with suppress(StorageUnavailable):
            counts = counted(self._database)
            yield _runtimes(counts, owners=owners)
            yield QUEUED.of(counts.at_work(starts.KIND, slots.QUEUED))
            yield STARTING.of(counts.at_work(starts.KIND))
            yield READYING.of(counts.at_work(starts.KIND, slots.READYING))
            yield STOPPING.of(counts.at_work(stops.KIND))
            yield PULLING.of(counts.at_work(pulls.KIND))


def _runtimes(counts: Counts, *, owners: bool) -> Metric:
    """Every state of every owner that has a runtime, the zeros too, so that graphs come back to them."""
    family = GaugeMetricFamily(RUNTIMES.name, RUNTIMES.text, labels=RUNTIMES.labels if owners else ("state",))
    names = sorted({owner for owner, _ in counts.runtimes})
    for state in (each for each in RuntimeStatus if each is not RuntimeStatus.REMOVED):
        found = {name: counts.runtimes.get((name, str(state)), 0) for name in names}
        if not owners:
            family.add_metric([str(state)], sum(found.values()))
            continue
        for name, number in found.items():
            family.add_metric([str(state), name], number)
    return family
