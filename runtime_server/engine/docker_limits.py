"""Changes of containers, of engines that speak Docker's HTTP API."""

from __future__ import annotations

from runtime_server.engine import translate
from runtime_server.engine.docker_calls import DockerCalls
from runtime_server.engine.docker_client import check, url
from runtime_server.engine.limits import NewLimits


class DockerLimits(DockerCalls):
    """Changes limits."""

    def set_limits(self, container: str, limits: NewLimits) -> None:
        """See ``LimitsEngine``."""
        with self._call("update", container) as client:
            # Not client.update_container, which knows neither whole CPUs nor processes.
            address = url(client, f"/containers/{container}/update")
            check(client.post(address, json=translate.limits_body(limits), timeout=client.timeout))
