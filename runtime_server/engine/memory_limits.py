"""Changes of the in-memory engine's containers."""

from __future__ import annotations

import dataclasses

from runtime_server.engine.limits import NewLimits
from runtime_server.engine.memory_calls import MemoryCalls


class MemoryLimits(MemoryCalls):
    """Changes limits."""

    def set_limits(self, container: str, limits: NewLimits) -> None:
        """Change limits, where the host can give them."""
        with self._call("set_limits"):
            found = self._own(container)
            spec = found.spec
            spec = dataclasses.replace(
                spec,
                cpus=spec.cpus if limits.cpus is None else limits.cpus,
                memory=spec.memory if limits.memory is None else limits.memory,
                pids_limit=spec.pids_limit if limits.pids is None else limits.pids,
            )
            self._world.check_limits(spec)
            found.spec = spec
