"""The in-memory engine's images as a stock."""

from __future__ import annotations

from runtime_server.engine.memory_calls import MemoryCalls
from runtime_server.engine.memory_images import normalise
from runtime_server.engine.stock import ImageInUse, ListedImage


class MemoryStock(MemoryCalls):
    """What ``MemoryEngine`` can do with images and caches; builds leave nothing."""

    def list_images(self) -> list[ListedImage]:
        """All images, each by its one name."""
        with self._call("list_images"):
            return [
                ListedImage(f"sha256:{index:064x}", (name,), image.size, image.created_at, dict(image.labels))
                for index, (name, image) in enumerate(self._world.images.all().items())
            ]

    def delete_image(self, image: str) -> bool:
        """Take it off the engine. False where there is none."""
        with self._call("delete_image"):
            there = self._world.images.present(image)
            if any(normalise(each.spec.image) == normalise(image) for each in self._world.containers.values()):
                raise ImageInUse(image)
            self._world.images.discard(image)
            return there

    def build_cache(self, unused_for: float) -> int:  # noqa: ARG002 - there is none
        """No bytes."""
        with self._call("build_cache"):
            return 0

    def prune_build_cache(self, unused_for: float) -> int:  # noqa: ARG002 - there is none
        """No bytes."""
        with self._call("prune_build_cache"):
            return 0
