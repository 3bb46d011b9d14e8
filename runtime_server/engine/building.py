"""The Builder protocol: an image out of a build context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class BuildRefused(Exception):
    """The build ran and made no image, or the registry doesn't take it; the message is a sentence."""


class BuildHalted(Exception):
    """The build was ended from outside."""


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What to build.

    Attributes:
        context: a gzipped tar with a ``Dockerfile`` at its root.
        tags: references that the image gets.
        labels: that the image gets.
        network: of RUN steps: ``default`` is the engine's own, ``none`` is none.
        push: whether every tag is pushed to its registry.
    """

    context: Path
    tags: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str = "default"
    push: bool = False


class Builder(Protocol):
    """Builds images on the engine that runs them."""

    def check(self) -> None:
        """Return if it can build. Raises ``BuilderUnavailable``."""

    def build(self, spec: BuildSpec, log: Callable[[bytes], None], halted: Callable[[], bool]) -> None:
        """Build, tag and push; returns once all of that is done.

        Args:
            spec: what.
            log: gets the output, as it comes.
            halted: is asked again and again; once it is true, the build is ended.

        Raises:
            BuildRefused: there is no image, or it isn't pushed.
            BuildHalted: ``halted`` said so.
            BuilderUnavailable: nothing here can build.
        """
