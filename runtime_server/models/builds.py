"""Image builds and look-ups. The names and states are those that OpenHands' RemoteRuntimeBuilder reads."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from runtime_server.models.base import Answer, Request, Word


class BuildState(StrEnum):
    """How far a build is. The first two are on their way, all others are final."""

    QUEUED = "QUEUED"
    WORKING = "WORKING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def final(self) -> bool:
        """Whether it stays so."""
        return self not in (BuildState.QUEUED, BuildState.WORKING)


class BuildRequest(Request):
    """The form of ``POST /build``."""

    context: str = Field(
        description="A gzipped tar with a `Dockerfile` at its root, as base64 text (RFC 4648) or as it is.",
        json_schema_extra={"contentEncoding": "base64"},
    )
    target_image: Word = Field(description="The image's name, below the prefix of `GET /registry_prefix`.")
    tags: Annotated[list[Word], Field(max_length=32)] = Field(
        default_factory=list, description="Further names, as `target_image`; repeated."
    )


class BuildAccepted(Answer):
    """The answer of ``POST /build``."""

    build_id: str


class BuildStatus(Answer):
    """A build."""

    build_id: str
    status: BuildState = Field(description="`QUEUED` and `WORKING` are on their way; all others are final.")
    image: str = Field(description="The `target_image`; there is one once the status is `SUCCESS`.")
    tags: list[str] = Field(description="Its further names.")
    error: str | None = Field(None, description="Why there is no image, with the log's last lines.")
    created_at: datetime
    started_at: datetime | None = Field(None, description="Null while it waits for its turn.")
    finished_at: datetime | None = None


class RegistryPrefix(Answer):
    """The answer of ``GET /registry_prefix``."""

    registry_prefix: str = Field(description="What the names of the caller's images begin with, a slash after it.")


class ImageInfo(Answer):
    """What is known of an image."""

    upload_time: datetime | None = Field(None, description="When it was built or named on the engine.")
    image_size_bytes: int = Field(description="Its layers, unpacked.")


class ImageExists(Answer):
    """The answer of ``GET /image_exists``. True where there is one."""

    exists: bool
    image: ImageInfo | None = None

    def __bool__(self) -> bool:
        """Whether the image is there."""
        return self.exists
