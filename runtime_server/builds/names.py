"""How built images may be named: below the server's prefix, there in a folder of the owner's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from runtime_server.engine.translate import image_reference
from runtime_server.errors import ImageReferenceInvalid, PolicyRefused
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.policy_images import normalized
from runtime_server.settings import PREFIX, Settings

_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
"""A part of an image's name (grammar of github.com/distribution/reference)."""
_HASHED = "owner-"
"""Begins the folder of an owner whose name can't be one. No other owner's folder begins so."""


class Names:
    """The operator's rules for names.

    Args:
        settings: ``builds``, ``registry_prefix`` and ``shared_builds``.
    """

    def __init__(self, settings: Settings) -> None:
        self._on = settings.builds == "on"
        self._prefix = settings.registry_prefix
        self._shared = settings.shared_builds

    def prefix(self, caller: Caller) -> str:
        """What the names of the caller's images begin with.

        Raises:
            PolicyRefused: no images are built here; the error names the setting.
        """
        if not self._on:
            raise PolicyRefused("This server builds no images.", setting=f"{PREFIX}BUILDS")
        if not self._prefix:
            raise PolicyRefused(
                "This server builds no images: it has no prefix for their names.", setting=f"{PREFIX}REGISTRY_PREFIX"
            )
        return self._prefix if self._shared else f"{self._prefix}/{folder(caller.owner)}"

    def checked(self, caller: Caller, images: Sequence[str]) -> tuple[str, ...]:
        """The images' references, each once and with a tag.

        Raises:
            PolicyRefused: one isn't below the caller's prefix.
            ImageReferenceInvalid: one isn't a reference, or names a digest, which no build can choose.
        """
        prefix, found = self.prefix(caller), []
        for image in images:
            name, tag = image_reference(image)
            if "@" in image:
                raise ImageReferenceInvalid("A built image can't be named by a digest.", image=image)
            if not _below(name, prefix):
                raise PolicyRefused(f"Your images' names begin with {prefix}/.", setting=f"{PREFIX}REGISTRY_PREFIX")
            found.append(f"{name}:{tag}")
        return tuple(dict.fromkeys(found))

    def own(self, caller: Caller, image: str) -> bool:
        """Whether the image is one of the caller's builds, by its name; nobody's own where owners share a prefix.

        Raises:
            ImageReferenceInvalid: it isn't a reference.
        """
        name, _ = image_reference(image)
        return bool(self._prefix) and not self._shared and _below(name, f"{self._prefix}/{folder(caller.owner)}")

    def visible(self, caller: Caller, image: str) -> bool:
        """Whether the caller may learn if that image is there: another owner's built images don't exist for it.

        Raises:
            ImageReferenceInvalid: it isn't a reference.
        """
        name, _ = image_reference(image)
        if not self._prefix or self._shared or caller.admin or not _below(name, self._prefix):
            return True
        return _below(name, f"{self._prefix}/{folder(caller.owner)}")


def folder(owner: str) -> str:
    """The owner's part of an image's name: its own name, or, where that can't be one, a digest of it."""
    if _COMPONENT.fullmatch(owner) and not owner.startswith(_HASHED):
        return owner
    return _HASHED + sha256(owner.encode()).hexdigest()[:16]


def _below(name: str, prefix: str) -> bool:
    # A prefix of one part is a folder, not a repository of Docker Hub's own.
    return normalized(name).startswith(normalized(f"{prefix}/x")[:-1])
