"""What containers use, of engines that speak Docker's HTTP API."""

from __future__ import annotations

from runtime_server.engine import samples
from runtime_server.engine.docker_calls import DockerCalls
from runtime_server.engine.docker_client import check, url
from runtime_server.engine.inside import Sample
from runtime_server.errors import InvalidState


class DockerStats(DockerCalls):
    """Samples what containers use."""

    def sample(self, container: str) -> Sample:
        """See ``InsideEngine``."""
        # One shot: else the engine waits for a second sample to compare with.
        params = {"stream": "false", "one-shot": "true"}
        with self._call("stats", container) as client:
            address = url(client, f"/containers/{container}/stats")
            found = samples.sample(check(client.get(address, params=params, timeout=client.timeout)).json())
        if found is None:
            raise InvalidState("The container isn't running.", runtime_status=None, allowed_actions=None)
        return found
