"""What all wire models are made of: their base classes, and the kinds of values that they hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

MIN_MEMORY = 6 * 1024 * 1024
"""Docker's least memory limit in bytes (Engine API 1.41: 400 below it)."""

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_MOST = 2**63 - 1
"""The Engine's sizes are 64-bit integers."""
RESERVED_PREFIX = "runtime-server."
"""Labels under this prefix are the service's own."""


def parse_size(value: str | int) -> int:
    """Bytes of ``"512m"``, ``"1.5g"`` or a number; units are powers of 1024, as Docker's.

    Raises:
        ValueError: it isn't a size.
    """
    if isinstance(value, int):
        return _bounded(value)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("must be bytes, or a number with one of the units b, k, m, g, t")
    return _bounded(int(float(match[1]) * _UNITS[match[2].lower()]))


def _bounded(size: int) -> int:
    if size > _MOST:
        raise ValueError("must be less than 2^63 bytes")
    return size


class RuntimeStatus(StrEnum):
    """A runtime's state."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ERROR = "error"
    REMOVED = "removed"


class Request(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(BaseModel):
    """An answer's body; fields of a newer server are kept in ``model_extra``."""

    model_config = ConfigDict(extra="allow", frozen=True)


Alias = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]*$", max_length=4096)]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[^=\x00-\x1f\x7f]+$", max_length=1024)]
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", min_length=1, max_length=1024)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Cpus = Annotated[float, Field(ge=0.01, le=4096, allow_inf_nan=False)]
Pids = Annotated[int, Field(ge=1, le=4_194_304)]
Port = Annotated[int, Field(ge=1, le=65535)]
Capability = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]{1,64}$")]
Device = Annotated[
    str,
    StringConstraints(
        pattern=r"^/[^:\x00-\x1f\x7f]+(:/[^:\x00-\x1f\x7f]+)?(:(r|w|m|rw|rm|wm|rwm))?$", max_length=1024
    ),
]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,252})$")]
HostAddress = Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F.:]{2,45}|host-gateway)$")]


def _readable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must hold printable characters only, no invisible or direction-changing ones")
    return value


Name = Annotated[Word, AfterValidator(_readable)]
"""A caller's own word, shown to people: nothing in it may hide or reorder what they see."""


def utc(seconds: float | None) -> datetime | None:
    """An aware datetime of Unix ``seconds``."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
