"""The in-memory engine's volumes: they have names, labels and sizes, and nothing in them."""

from __future__ import annotations

from collections.abc import Mapping

from runtime_server.engine import labels as tags
from runtime_server.engine.base import Volume
from runtime_server.engine.memory_calls import MemoryCalls
from runtime_server.errors import EngineFailed


class MemoryVolumes(MemoryCalls):
    """What ``MemoryEngine`` can do with volumes. The Engine protocol's docstrings say what each method does.

    Attributes:
        given: the folders that ``give_folder`` was called for, as pairs of runtime id and path.
    """

    given: list[tuple[str, str]]

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> Volume:
        """The volume, made where it is missing."""
        with self._call("ensure_volume"):
            found = self._world.volumes.setdefault(name, Volume(name, dict(labels)))
            if found.labels.get(tags.INSTANCE) != self.instance:
                raise EngineFailed("A volume that isn't this service's has the name of one that is needed.")
            return found

    def find_volume(self, name: str) -> Volume | None:
        """The volume, if it is there and this instance's."""
        with self._call("find_volume"):
            return self._own_volumes().get(name)

    def list_volumes(self, label: str) -> list[Volume]:
        """All volumes of this instance with that label."""
        with self._call("list_volumes"):
            return [each for each in self._own_volumes().values() if label in each.labels]

    def volume_sizes(self) -> Mapping[str, int]:
        """Bytes by name: nothing is ever written."""
        with self._call("volume_sizes"):
            return dict.fromkeys(self._world.volumes, 0)

    def remove_volume(self, name: str) -> bool:
        """Remove it. False where there is none."""
        with self._call("remove_volume"):
            there = name in self._own_volumes()
            if there:
                self._world.remove_volume(name)
            return there

    def give_folder(self, container: str, path: str) -> None:
        """Note that it was called."""
        with self._call("give_folder"):
            self.given.append((self._own(container).runtime_id, path))

    def _own_volumes(self) -> dict[str, Volume]:
        found = self._world.volumes
        return {name: each for name, each in found.items() if each.labels.get(tags.INSTANCE) == self.instance}
