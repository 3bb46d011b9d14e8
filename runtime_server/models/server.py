"""What the server says of itself, and of a request that it refuses."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from runtime_server.models.base import (
    Answer,
)


class Health(Answer):
    """The answer of ``GET /healthz``."""

    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """The answer of ``GET /readyz``."""

    ready: bool
    reason: str | None = Field(None, description="Why not; only for callers with a key.")


class EngineVersion(Answer):
    """What the container engine says of itself."""

    name: str = Field(description="e.g. `Docker Engine` or `Podman Engine`.")
    version: str
    api_version: str


class Version(Answer):
    """The answer of ``GET /version``."""

    server: str = Field(description="This server's version.")
    api: str = Field(description="The API's version.")
    engine: EngineVersion | None = Field(None, description="Null while the engine doesn't answer.")


class FieldError(Answer):
    """One thing that is wrong with a request; values are never echoed."""

    loc: list[str | int] = Field(description="Where.")
    msg: str = Field(description="What.")
    type: str = Field(description="Pydantic's error type.")


class ProblemBody(Answer):
    """An RFC 9457 problem."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    request_id: str | None = None
