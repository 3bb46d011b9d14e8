"""The engine's images and volumes, and what is tidied up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pydantic_core

from runtime_server.client.calls import Calls, new_key, post
from runtime_server.client.ndjson import NDJSON
from runtime_server.client.replies import parse
from runtime_server.client.transport import Call, Transport
from runtime_server.client.watching import ModelStream
from runtime_server.errors import ImageReferenceInvalid, VolumeNotFound
from runtime_server.models import (
    Image,
    ImageDeleted,
    ImageList,
    PruneReport,
    PullStatus,
    RegistryAuth,
    Volume,
    VolumeDeleted,
    VolumeList,
)

SIZES_PATIENCE = 60.0
"""Seconds that an engine may take to measure its volumes."""
PRUNE_PATIENCE = 600.0
"""Seconds that an engine may take to remove what it has cached."""


class PullStream(ModelStream[PullStatus]):
    """How far a pull is: lines about layers, with ``layer``, and lines about all of it; the last is ``complete``.

    Where the connection is lost the pull is asked for again, so that an earlier state may be told twice. A pull whose
    last reader has left ends.
    """

    def __init__(self, transport: Transport, body: Mapping[str, Any]) -> None:
        self._body = pydantic_core.to_json(body)
        self._key = new_key()
        super().__init__(transport, PullStatus)

    def _call(self) -> Call:
        return Call("POST", "/images/pull", body=self._body, key=self._key, media_type=NDJSON)

    def wait(self) -> PullStatus | None:
        """Read it to its end, and return the last line that hasn't been read yet.

        Raises:
            ImageNotFound, ImagePullFailed: how it ended.
        """
        last = None
        for status in self:
            last = status
        return last


class StockCalls(Calls):
    """Methods of ``RuntimeServerClient``."""

    def list_images(self) -> list[Image]:
        """The engine's images that this key's owner can start, an admin's are all, newest first (``GET /images``)."""
        return parse(ImageList, self._transport.send(Call("GET", "/images"))).images

    def pull_image(
        self,
        image: str,
        *,
        platform: str | None = None,
        registry_auth: RegistryAuth | Mapping[str, Any] | None = None,
    ) -> PullStream:
        """Pull an image (``POST /images/pull``). It begins when the first line is read.

        Args:
            image: its reference.
            platform: as ``linux/amd64``; none: the host's.
            registry_auth: credentials for this pull: a ``RegistryAuth``, or its fields as a dict.

        Returns:
            An iterator of how far it is; ``client.pull_image(…).wait()`` only waits for the end.

        Raises:
            While reading: ``ImageNotFound``, ``ImagePullFailed``, ``ImageReferenceInvalid``, ``PolicyRefused``.
        """
        body: dict[str, Any] = {"image": image}
        if platform is not None:
            body["platform"] = platform
        if registry_auth is not None:
            if isinstance(registry_auth, RegistryAuth):
                registry_auth = registry_auth.model_dump(mode="json")
            body["registry_auth"] = dict(registry_auth)
        return PullStream(self._transport, body)

    def delete_image(self, image: str, *, idempotency_key: str | None = None) -> ImageDeleted:
        """Take a name off the engine, and with its last one the image (``DELETE /images/{reference}``).

        Args:
            image: its reference, or its id.
            idempotency_key: as for ``start_runtime``.

        Raises:
            ImageInUse: a container is made of it.
            AdminOnly: the key is no admin's, and the image isn't one of its owner's builds.
        """
        # As path segments these would name another route (RFC 3986, section 5.2.4), and no image has one.
        if any(segment in ("", ".", "..") for segment in image.split("/")):
            raise ImageReferenceInvalid(f"{image!r} is not a valid image reference", image=image)
        named = f"{image}:latest" if image == "pull" else image  # the name of a route
        call = Call("DELETE", "/images/" + quote(named, safe="/:@"), key=idempotency_key or new_key())
        return parse(ImageDeleted, self._transport.send(call))

    def list_volumes(self, *, sizes: bool = False, owner: str | None = None) -> list[Volume]:
        """This key's owner's named volumes, an admin's are everybody's, by owner and name (``GET /volumes``).

        Args:
            sizes: also measure them, which may take the engine long.
            owner: only this owner's; for admins.
        """
        query = [("sizes", "true")] if sizes else []
        query += [("owner", owner)] if owner is not None else []
        call = Call("GET", "/volumes", query=tuple(query), patience=SIZES_PATIENCE if sizes else 0.0)
        return parse(VolumeList, self._transport.send(call)).volumes

    def delete_volume(
        self, name: str, *, owner: str | None = None, idempotency_key: str | None = None
    ) -> VolumeDeleted:
        """Remove a named volume with all that is in it (``DELETE /volumes/{volume}``).

        Args:
            name: its owner's name for it, or the engine's.
            owner: whose, where the key is an admin's and several owners have one of that name.
            idempotency_key: as for ``start_runtime``.

        Raises:
            VolumeNotFound: there is none.
            VolumeInUse: a runtime that isn't removed has it.
        """
        if name in ("", ".", "..") or "/" in name:
            raise VolumeNotFound(f"no volume can be named {name!r}")
        query = (("owner", owner),) if owner is not None else ()
        call = Call("DELETE", "/volumes/" + quote(name, safe=""), query=query, key=idempotency_key or new_key())
        return parse(VolumeDeleted, self._transport.send(call))

    def prune(
        self,
        *,
        dry_run: bool = False,
        runtimes: bool = True,
        workspaces: bool = True,
        build_cache: bool = False,
        older_than: float = 0.0,
        workspaces_unused_for: float | None = None,
        owner: str | None = None,
        idempotency_key: str | None = None,
    ) -> PruneReport:
        """Remove what has ended and what nobody uses (``POST /maintenance/prune``).

        Args:
            dry_run: only tell what would be removed.
            runtimes: remove runtimes that have ended.
            workspaces: remove workspaces that nobody has used for long enough.
            build_cache: remove what builds have left on the engine; for admins.
            older_than: seconds since which a runtime has ended, or what builds have left hasn't been used.
            workspaces_unused_for: seconds; none: the server's retention of workspaces.
            owner: only this owner's; none: the key's own, or everybody's where it is an admin's.
            idempotency_key: as for ``start_runtime``.

        Returns:
            What was removed; where it says ``more`` there is more to be removed by another call.
        """
        body = {
            "dry_run": dry_run,
            "runtimes": runtimes,
            "workspaces": workspaces,
            "build_cache": build_cache,
            "older_than": older_than,
            "workspaces_unused_for": workspaces_unused_for,
            "owner": owner,
        }
        call = post("/maintenance/prune", body, idempotency_key, patience=PRUNE_PATIENCE)
        return parse(PruneReport, self._transport.send(call))
