"""All metrics as one answer, and who may have it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

from runtime_server.errors import PolicyRefused, RouteNotFound, Unauthorized
from runtime_server.metrics.instruments import Metrics
from runtime_server.metrics.shared import Shared
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.gauges import Gauges
from runtime_server.settings import PREFIX, Settings


class Scrape:
    """All metrics, as one answer.

    Args:
        settings: say who may have it.
        metrics: this process's.
        shared: where those of all processes are; None: there is but this one.
        gauges: what the state directory tells.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, shared: Shared | None = None, gauges: Gauges | None = None
    ) -> None:
        self.metrics = metrics
        self._settings = settings
        self._shared = shared
        self._gauges = gauges

    def allowed(self, caller: Caller | None) -> bool:
        """Whether the caller may know owners' names; raises where it may know nothing.

        Raises:
            RouteNotFound: nobody may.
            Unauthorized: it has shown no key.
            PolicyRefused: its key isn't an admin's, and the metrics aren't open.
        """
        setting, auth = self._settings.metrics, self._settings.auth
        if setting == "off":
            raise RouteNotFound("The metrics are off.")
        known = caller is not None and (caller.admin or auth == "off")
        if setting == "key" and caller is None:
            raise Unauthorized("Send an admin's API key as X-API-Key or Authorization: Bearer.")
        if setting == "key" and not known:
            raise PolicyRefused("The metrics are for admins' keys.", setting=f"{PREFIX}METRICS")
        return known

    def text(self, accept: str, *, owners: bool) -> tuple[bytes, str]:
        """The exposition, and its media type.

        Args:
            accept: the request's ``Accept``: OpenMetrics where it is asked for, else Prometheus' text format 0.0.4.
            owners: tell runtimes by owner too.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._shared or self.metrics.registry)
        if self._gauges is not None:
            registry.register(_Told(self._gauges, owners=owners))
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type


class _Told:
    """A collector, with its arguments."""

    def __init__(self, gauges: Gauges, *, owners: bool) -> None:
        self._gauges = gauges
        self._owners = owners

    def collect(self) -> Iterable[Metric]:
        return self._gauges.collect(owners=self._owners)
