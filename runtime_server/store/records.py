"""What the store keeps, as plain data. Times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime_server.errors import StorageUnavailable
from runtime_server.models import RuntimeStatus


class AliasTaken(Exception):
    """Another runtime of the owner holds the alias."""


class SessionTaken(Exception):
    """Another runtime of the owner holds the session."""


class IdTaken(Exception):
    """The runtime id has a record already: an earlier attempt of the same call."""


class SchemaTooNew(StorageUnavailable):
    """The database was made by a newer version of the server."""


@dataclass(frozen=True, slots=True)
class Record:
    """A runtime's row.

    ``seen_at`` is when the engine was last known to be as the row says; ``cpus`` and ``memory`` (bytes) are the
    limits that it runs with, None where it has none; ``note`` is what it got otherwise than it asked for;
    ``announced`` is the published port of a session's main service, as the callers of its start were told;
    ``workspace`` is the volume of its workspace. ``address``
    and ``pid`` are its container's while it runs; ``pausing`` is set while it is being frozen, so that no request is
    sent there any more; ``active_at`` is when it was last known to be of use to somebody.
    """

    runtime_id: str
    owner: str
    status: RuntimeStatus
    image: str
    created_at: float
    seen_at: float
    name: str | None = None
    session_id: str | None = None
    status_detail: str | None = None
    container_id: str | None = None
    spec: dict[str, Any] = field(default_factory=dict, repr=False)
    ports: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    session_api_key: str | None = field(default=None, repr=False)
    started_at: float | None = None
    stopped_at: float | None = None
    removed_at: float | None = None
    expires_at: float | None = None
    retention: float | None = None
    auto_remove: bool = False
    exit: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    restart_count: int = 0
    restart_reasons: list[str] = field(default_factory=list)
    note: str | None = None
    announced: dict[str, Any] = field(default_factory=dict)
    logs: str | None = None
    cpus: float | None = None
    memory: int | None = None
    workspace: str | None = None
    address: str | None = None
    pid: int | None = None
    pausing: bool = False
    active_at: float | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """A row of a runtime's history. ``status`` is its state by then."""

    at: float
    status: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """Work that outlives a request or could be done twice. Its holder's death or its lease's end frees it.

    The last three are for starts: ``stage`` is one of ``store.slots``, ``queued_at`` orders an owner's own, and
    ``turn`` those of different owners.
    """

    id: str
    kind: str
    owner: str
    key: str
    holder: str
    lease_until: float
    done: bool = False
    expires_at: float | None = None
    fingerprint: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    answer: bytes | None = field(default=None, repr=False)
    progress: str | None = None
    stage: str | None = None
    queued_at: float | None = None
    turn: int = 0
