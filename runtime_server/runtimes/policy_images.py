"""Which images a start may name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from runtime_server.engine.translate import image_reference

ANY = "*"
_HUB = "docker.io"
_ID = re.compile(r"(sha256:)?[0-9a-f]{1,64}")


def allowed(image: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs fits the image.

    Both are normalized first (github.com/distribution/reference), so that no other spelling of a name gets around a
    glob: without a registry it is Docker Hub's, there without a folder ``library``'s. A glob without a tag or digest
    fits all of them. Of a reference with both, the engine takes the digest, and so does this.

    Raises:
        ImageReferenceInvalid: it isn't a reference.
    """
    globs = tuple(globs)
    name, version = image_reference(image)
    if ANY in globs:
        return True
    if _ID.fullmatch(image):
        # Engines take what could be an image's id, or the beginning of one, for just that.
        return False
    return any(_fits(normalized(name), version, glob) for glob in globs)


def _fits(name: str, version: str, glob: str) -> bool:
    pattern, at, wanted = glob.partition("@")
    if not at and ":" in pattern.rpartition("/")[2]:
        pattern, _, wanted = pattern.rpartition(":")
    return fnmatchcase(name, normalized(pattern)) and fnmatchcase(version, wanted or ANY)


def normalized(name: str) -> str:
    """A repository's full name, registry first."""
    registry, slash, rest = name.partition("/")
    if not slash or not (registry == "localhost" or set(registry) & {".", ":"}):
        registry, rest = _HUB, name
    if registry == "index.docker.io":
        registry = _HUB
    if registry == _HUB and "/" not in rest:
        rest = f"library/{rest}"
    return f"{registry}/{rest}"
