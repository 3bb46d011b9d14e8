"""What an engine has in stock: images and what builds have left; the fifth part of the Engine protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class ImageInUse(Exception):
    """A container is made of the image, or the image has other names besides its id."""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image in a listing.

    Attributes:
        image_id: the engine's.
        references: its names with a tag or a digest; none where it has lost them all.
        size: bytes of its layers, unpacked.
        created_at: Unix seconds when it was built.
    """

    image_id: str
    references: tuple[str, ...]
    size: int
    created_at: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PullLayer:
    """How far a layer of an image is on its way.

    Attributes:
        layer: the engine's short id of it.
        phase: what is done with it, in the engine's words, e.g. ``Downloading``, ``Extracting``, ``Pull complete``.
        current, total: bytes of that phase; 0 where the engine doesn't tell.
    """

    layer: str
    phase: str
    current: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class PullState:
    """How far a pull is: in a sentence for people, and by layer where the engine tells that."""

    sentence: str
    layers: tuple[PullLayer, ...] = ()


class StockEngine(Protocol):
    """Images and caches, of all instances. What may be raised is as for ``Engine``."""

    def list_images(self) -> Sequence[ListedImage]:
        """All images but those that are only a part of others."""

    def delete_image(self, image: str) -> bool:
        """Take a name off the engine, and with its last one the image. False where there is none.

        Raises ``ImageInUse``, ``ImageReferenceInvalid``.
        """

    def build_cache(self, unused_for: float) -> int:
        """Bytes of what builds have left, and none has used for so many seconds."""

    def prune_build_cache(self, unused_for: float) -> int:
        """Remove that; the bytes that this has freed."""
