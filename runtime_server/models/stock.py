"""Images, named volumes and what is tidied up, on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from runtime_server.models.base import Answer, Name, Request, Seconds, Word
from runtime_server.models.start import RegistryAuth


class Image(Answer):
    """An image that the engine has."""

    image_id: str = Field(description="The engine's id.")
    references: list[str] = Field(description="Its names, those that the caller may know of.")
    size_bytes: int = Field(description="Of its layers, unpacked.")
    created_at: AwareDatetime | None = Field(None, description="When it was built, where that is known.")


class ImageList(Answer):
    """The answer of ``GET /images``."""

    images: list[Image] = Field(description="The newest first.")


class ImageDeleted(Answer):
    """The answer of ``DELETE /images/{reference}``."""

    image: str = Field(description="The reference.")
    message: str = Field(description="What happened, for people.")
    changed: bool = Field(description="False where it wasn't there.")


class PullRequest(Request):
    """The body of ``POST /images/pull``."""

    image: Name = Field(description="Image reference.", examples=["busybox"])
    platform: Word | None = Field(None, description="Platform, e.g. `linux/amd64`; none: the host's.")
    registry_auth: RegistryAuth | None = Field(None, repr=False, description="Credentials for this pull.")


class PullStatus(Answer):
    """A line of the answer of ``POST /images/pull``."""

    image: str = Field(description="The reference.")
    status: Literal["pulling", "complete"] = Field(description="`complete` is the last line but the stream's own.")
    detail: str | None = Field(
        None,
        description="How far it is, for people; of a layer what is done with it, in the engine's words, e.g. "
        "`Downloading`, `Extracting` and at last `Pull complete` or `Already exists`.",
    )
    layer: str | None = Field(None, description="The layer that the line is about; null: all of the image.")
    current_bytes: int | None = Field(None, description="Of the layer: how much of `total_bytes` is done.")
    total_bytes: int | None = Field(None, description="Of the layer, in what is done now; null: unknown.")
    size_bytes: int | None = Field(None, description="Of the image, once it is there.")


class Volume(Answer):
    """A named volume."""

    name: str = Field(description="As its owner named it in a start.")
    owner: str = Field(description="Whose.")
    volume: str = Field(description="The engine's name for it.")
    size_bytes: int | None = Field(None, description="Where it was asked for and the engine can tell.")
    in_use_by: list[str] = Field(default_factory=list, description="Runtimes that were started with it.")


class VolumeList(Answer):
    """The answer of ``GET /volumes``."""

    volumes: list[Volume] = Field(description="By owner and name.")


class VolumeDeleted(Answer):
    """The answer of ``DELETE /volumes/{volume}``."""

    name: str = Field(description="As its owner named it.")
    owner: str = Field(description="Whose it was.")
    message: str = Field(description="What happened, for people.")
    changed: bool = Field(description="False where another call has removed it meanwhile.")


class PruneRequest(Request):
    """The body of ``POST /maintenance/prune``."""

    dry_run: bool = Field(False, description="Only tell what would be removed.")
    runtimes: bool = Field(True, description="Remove runtimes that have ended.")
    workspaces: bool = Field(True, description="Remove workspaces that nobody has used for long enough.")
    build_cache: bool = Field(False, description="Remove what builds have left on the engine; admins only.")
    older_than: Seconds = Field(
        0.0, description="Seconds since which a runtime has ended, or what builds have left hasn't been used."
    )
    workspaces_unused_for: Seconds | None = Field(
        None, description="Seconds; null: the server's retention of workspaces, and none where that is without end."
    )
    owner: Word | None = Field(
        None, description="Only this owner's; null: the caller's own, or everybody's where it is an admin."
    )


class PruneFailure(Answer):
    """What couldn't be removed."""

    id: str = Field(description="Of the runtime or workspace; `build_cache`.")
    code: str = Field(description="The problem's code.")
    detail: str = Field(description="A sentence.")


class PruneReport(Answer):
    """The answer of ``POST /maintenance/prune``."""

    dry_run: bool = Field(description="Whether it is only what would be removed.")
    runtimes: list[str] = Field(description="Ids of the removed runtimes.")
    workspaces: list[str] = Field(description="Ids of the removed workspaces.")
    build_cache_bytes: int | None = Field(None, description="Freed on the engine; null where it wasn't asked for.")
    failed: list[PruneFailure] = Field(default_factory=list, description="What couldn't be removed.")
    more: bool = Field(False, description="Whether there is more to remove: call again.")
