"""The bodies of what is asked of a runtime that there is."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
    field_validator,
)

from runtime_server.models.base import (
    RESERVED_PREFIX,
    Cpus,
    Name,
    Pids,
    PlainText,
    Request,
    Seconds,
    Word,
    parse_size,
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


class RestartRequest(Request):
    """The body of ``POST /runtimes/{id}/restart``."""

    timeout: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = Field(
        5, description="Seconds between TERM and KILL."
    )
    wait: Seconds = Field(8.0, description="Seconds after which the answer comes with `starting`.")


class UpdateRequest(Request):
    """The body of ``PATCH /runtimes/{id}``, a JSON merge patch (RFC 7396): null gives a field its default back."""

    cpus: Cpus | None = Field(None, description="CPU limit; null: the server's default.")
    memory: str | int | None = Field(
        None, description='Memory limit, `"512m"` or bytes; null: the server\'s default.', examples=["512m"]
    )
    pids_limit: Pids | None = Field(None, description="Process limit; null: the server's default.")
    ttl: Seconds | None = Field(None, description="Seconds from now until it is stopped and removed; null: never.")
    retention: Seconds | None = Field(None, description="Seconds that it stays once stopped; null: the server's.")
    labels: dict[Name, PlainText | None] | None = Field(
        None, max_length=256, description="The caller's labels; null as a value takes one away, null as all: all."
    )

    @field_validator("memory")
    @classmethod
    def _size(cls, value: str | int | None) -> str | int | None:
        if value is not None and parse_size(value) <= 0:
            raise ValueError("must be more than 0")
        return value

    @field_validator("labels")
    @classmethod
    def _not_reserved(cls, value: dict[str, str | None] | None) -> dict[str, str | None] | None:
        if any(key.startswith(RESERVED_PREFIX) for key in value or ()):
            raise ValueError(f"labels under {RESERVED_PREFIX} are reserved")
        return value


class RenewRequest(Request):
    """The body of ``POST /runtimes/{id}/renew``."""

    ttl: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = Field(
        description="Seconds from now until the runtime ends; null: never."
    )
