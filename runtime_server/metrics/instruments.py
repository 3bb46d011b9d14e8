"""What a process counts, with Prometheus' names and units. No label holds a secret, or a text that a caller chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

PREFIX: Final = "runtime_server"

_SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from a read out of the store to the longest engine call."""
_LONG: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)
"""Seconds: from a policy's check to a pull."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""A method, or a path, that no route has: callers choose those."""


class Metrics:
    """The instruments of one process.

    Args:
        registry: where they are registered; a new one each keeps several services in one process apart.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=False)
        self.requests = self._counter("http_requests", "Requests answered.", ("method", "route", "status"))
        self.request_seconds = self._histogram(
            "http_request_duration_seconds", "From a request's beginning to its answer's.", ("method", "route")
        )
        self.phase_seconds = self._histogram(
            "lifecycle_duration_seconds", "What the phases of lifecycle actions took.", ("action", "phase"), _LONG
        )
        self.starts = self._counter("starts", "Starts that are over, by `ok` or the problem's code.", ("outcome",))
        self.pulls = self._counter("pulls", "Pulls that are over, by `ok` or the problem's code.", ("outcome",))
        self.pull_seconds = self._histogram(
            "pull_duration_seconds", "What pulls took, each counted once for all that wait for it.", (), _LONG
        )
        self.engine_calls = self._counter("engine_calls", "Calls of the engine.", ("operation", "outcome"))
        self.engine_seconds = self._histogram(
            "engine_call_duration_seconds", "What calls of the engine took.", ("operation",)
        )
        self.lane = self._gauge("slow_lane_places_in_use", "Threads that wait for something.")
        self.lane_places = self._gauge("slow_lane_places", "Threads that may wait at once.")
        self.sweeps = self._counter("reconciler_sweeps", "Comparisons of all records with the engine.")
        self.sweep_seconds = self._histogram("reconciler_sweep_duration_seconds", "What they took.", ())
        self.orphans = self._counter("reconciler_orphans_removed", "Containers removed that no record stands for.")
        self.adopted = self._counter("reconciler_adopted", "Containers that got a record from their labels.")
        self.expired = self._counter("reconciler_expired", "Runtimes ended since their time was up.")
        self.interrupted = self._counter("reconciler_interrupted", "Work finished that a dead process had begun.")
        for each in (self.starts, self.pulls):
            each.labels("ok")  # so that there is a 0 to count from

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: of HTTP.
            route: the URI template; None: no route has the path.
            status: of the answer.
            seconds: what it took.
        """
        if method not in _METHODS:
            method = OTHER
        path = route or OTHER
        self.requests.labels(method, path, str(status)).inc()
        self.request_seconds.labels(method, path).observe(seconds)

    def pull(self, outcome: str, seconds: float) -> None:
        """Count a pull; ``outcome`` is ``ok``, a problem's code, or what ended it otherwise."""
        self.pulls.labels(outcome).inc()
        self.pull_seconds.observe(seconds)

    def engine_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a call of the engine; ``outcome`` is ``ok``, or what its error is called."""
        self.engine_calls.labels(operation, outcome).inc()
        self.engine_seconds.labels(operation).observe(seconds)

    def lifecycle(self, action: str, phases: Mapping[str, float]) -> None:
        """Count what an action's phases took, in seconds."""
        for phase, seconds in phases.items():
            self.phase_seconds.labels(action, phase).observe(seconds)

    @property
    def instruments(self) -> list[MetricWrapperBase]:
        """All of them."""
        return [each for each in vars(self).values() if isinstance(each, MetricWrapperBase)]

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, registry=self.registry, multiprocess_mode="livesum")

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...] = _SHORT
    ) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, registry=self.registry, buckets=buckets)
