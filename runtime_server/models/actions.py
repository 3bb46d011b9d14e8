"""The bodies of what is asked of a runtime that there is."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
)

from runtime_server.models.base import (
    Request,
    Word,
)


class RuntimeRequest(Request):
    """A body that names a runtime."""

    runtime_id: Word = Field(description="The runtime's id or alias.", examples=["runtime-0123456789ab"])


class PauseRequest(RuntimeRequest):
    """The body of ``POST /pause``."""


class ResumeRequest(RuntimeRequest):
    """The body of ``POST /resume``."""


class StopRequest(RuntimeRequest):
    """The body of ``POST /stop``."""

    timeout: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = Field(
        5, description="Seconds between TERM and KILL."
    )
    remove: bool = Field(False, description="Also remove the container.")


class RenewRequest(Request):
    """The body of ``POST /runtimes/{id}/renew``."""

    ttl: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = Field(
        description="Seconds from now until the runtime ends; null: never."
    )
