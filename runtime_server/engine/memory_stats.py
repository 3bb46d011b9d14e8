"""What the in-memory engine's containers use."""

from __future__ import annotations

from runtime_server.engine.base import ContainerState
from runtime_server.engine.inside import Sample
from runtime_server.engine.memory_calls import MemoryCalls
from runtime_server.errors import InvalidState

MEMORY = 2**20
"""Bytes that each container uses."""


class MemoryStats(MemoryCalls):
    """Samples what containers use: half a processor while they run, and as much memory each."""

    def sample(self, container: str) -> Sample:
        """What the container uses now."""
        with self._call("sample"):
            found = self._own(container)
            if not found.live or found.started_at is None:
                raise InvalidState(f"The container is {found.state}.", runtime_status=None, allowed_actions=None)
            now = self._world.clock()
            frozen = found.state is ContainerState.PAUSED
            return Sample(
                at=round(now * 1e9),
                cpu=0 if frozen else round((now - found.started_at) * 0.5e9),
                cpus=64,
                memory=MEMORY,
                memory_limit=found.spec.memory,
                received=0,
                sent=0,
                read=0,
                written=0,
                pids=1,
            )
