"""The record itself: which calls each version makes in a session's life, in their order, and with which bodies."""

from __future__ import annotations

from typing import Any

from tests.golden.conftest import Make, clients
from tests.golden.test_clients import body_of
from tests.golden.v0 import RemoteRuntime009
from tests.golden.world import SDK, SESSIONS, V0, V1, Kind

LIVES: dict[str, list[str]] = {
    "sdk 1.58.2": ["GET /sessions/S", "POST /start", "GET /sessions/S", "POST /stop"],
    "sdk 1.6.0": ["GET /sessions/S", "POST /start", "GET /sessions/S", "POST /stop"],
    "v0 0.62.0": ["GET /sessions/S", "POST /start", "GET /runtime/R", "POST /stop"],
    "v0 0.20.0": ["GET /sessions/S", "POST /start", "GET /sessions/S", "POST /stop"],
    "v0 0.14.3": ["GET /sessions/S", "POST /start", "GET /sessions/S", "POST /stop"],
    "v0 0.12.3": ["GET /runtime/S", "POST /start", "GET /runtime/R", "POST /stop"],
    "v0 0.9.8": ["POST /start", "POST /stop"],
    "v1 1.11.0": ["GET /list", "POST /start", "GET /sessions/S", "POST /stop"],
    "v1 1.6.0": ["GET /list", "POST /start", "GET /sessions/S", "POST /stop"],
    "v1 1.3.0": ["GET /list", "POST /start", "GET /sessions/S", "POST /stop"],
    "v1 1.0.0": ["POST /start", "GET /sessions/S", "POST /stop"],
}
"""From nothing to the end, S being the session and R the runtime. Repeated looks count once."""

RESUMED: dict[str, list[str]] = {
    "sdk 1.58.2": ["GET /sessions/S", "POST /resume", "GET /sessions/S"],
    "sdk 1.6.0": ["GET /sessions/S", "POST /resume", "GET /sessions/S"],
    "v0 0.62.0": ["GET /sessions/S", "POST /resume", "GET /runtime/R"],
    "v0 0.20.0": ["GET /sessions/S", "POST /resume", "GET /sessions/S"],
    "v0 0.14.3": ["GET /sessions/S", "POST /resume", "GET /sessions/S"],
    "v0 0.12.3": ["GET /runtime/S", "POST /resume", "GET /runtime/R"],
    "v1 1.11.0": ["GET /sessions/S", "GET /list", "GET /sessions/S", "POST /resume", "GET /sessions/S"],
    "v1 1.6.0": ["GET /sessions/S", "GET /list", "GET /sessions/S", "POST /resume", "GET /sessions/S"],
    "v1 1.3.0": ["GET /sessions/S", "GET /list", "GET /sessions/S", "POST /resume", "GET /sessions/S"],
    "v1 1.0.0": ["GET /sessions/S", "POST /resume", "GET /sessions/S"],
}
"""A session that is paused, to one that runs."""

FIELDS: dict[str, set[str]] = {
    "sdk 1.58.2": {
        *("image", "command", "working_dir", "environment", "session_id", "run_as_user", "fs_group"),
        *("image_pull_policy", "runtime_class", "resource_factor"),
    },
    "v0 0.62.0": {
        *("image", "command", "working_dir", "environment", "session_id", "resource_factor", "runtime_class"),
    },
    "v0 0.20.0": {"image", "command", "working_dir", "environment", "session_id", "resource_factor"},
    "v0 0.14.3": {"image", "command", "working_dir", "environment", "session_id"},
    "v0 0.12.3": {"image", "command", "working_dir", "environment", "runtime_id"},
    "v0 0.9.8": {"image", "command", "working_dir", "environment", "name"},
    "v1 1.11.0": {
        *("image", "command", "working_dir", "environment", "session_id", "resource_factor", "runtime_class"),
        *("run_as_user", "run_as_group", "fs_group"),
    },
}
"""What a start names, at most."""


@clients((*SESSIONS, RemoteRuntime009))
def test_a_life(kind: Kind, make: Make) -> None:
    client = make(kind)
    client.connect()
    client.close()
    assert client.wire.paths(S=client.session_id, R=str(client.runtime_id)) == LIVES[kind.version]


@clients(SESSIONS)
def test_a_resume(kind: Kind, make: Make) -> None:
    first = make(kind)
    first.connect()
    first.pause()
    second = make(kind, first.session_id)
    if kind in V1:
        second.stored = first.stored  # type: ignore[attr-defined]
    second.connect()
    assert second.wire.paths(S=first.session_id, R=str(first.runtime_id)) == RESUMED[kind.version]


@clients((SDK[0], *V0, RemoteRuntime009, V1[0]))
def test_a_starts_fields(kind: Any, make: Make, world: Any) -> None:
    client: Any = kind(world.wire(), "fields", "image", resource_factor=4)
    body = body_of(client)
    assert set(body) == FIELDS[kind.version]
    assert all(type(body[name]) is int for name in ("run_as_user", "run_as_group", "fs_group") if name in body)
