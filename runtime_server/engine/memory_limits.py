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
            asked = {"cpus": limits.cpus, "memory": limits.memory, "pids_limit": limits.pids}
            spec = dataclasses.replace(
                found.spec, **{name: value for name, value in asked.items() if value is not None}
            )
            self._world.check_limits(spec)
            found.spec = spec
