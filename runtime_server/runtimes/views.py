"""Records as the wire shows them, and snapshots as the store keeps them. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from runtime_server.engine.base import ContainerState, Snapshot
from runtime_server.errors import Problem
from runtime_server.models import Exit, Failure, HostPort, Runtime, RuntimeStatus, utc
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.states import seen
from runtime_server.store.records import Record

ENDED = (ContainerState.EXITED, ContainerState.DEAD, ContainerState.REMOVING)


def wire(record: Record) -> dict[str, Any]:
    """The fields of ``Runtime`` for a record."""
    return {
        "runtime_id": record.runtime_id,
        "container_id": record.container_id,
        "name": record.name,
        "session_id": record.session_id,
        "owner": record.owner,
        "image": record.image,
        "status": record.status,
        "status_detail": record.status_detail,
        "created_at": utc(record.created_at),
        "started_at": utc(record.started_at),
        "stopped_at": utc(record.stopped_at),
        "expires_at": utc(record.expires_at),
        "ports": {port: [HostPort(**each) for each in hosts] for port, hosts in record.ports.items()},
        "labels": record.labels,
        "environment": environment(record),
        "session_api_key": record.session_api_key,
        "exit": Exit.model_validate(record.exit) if record.exit else None,
        "error": Failure.model_validate(record.error) if record.error else None,
        "restart_count": record.restart_count,
        "logs": record.logs,
    }


def environment(record: Record, *, values: bool = False) -> dict[str, str | None] | None:
    """The variables that the start asked for, None as values unless wanted; None where they aren't known."""
    if not record.spec:
        return None  # adopted, of a server that left nothing of it in the labels
    asked: dict[str, str] = record.spec.get("environment", {})
    return {name: value if values else None for name, value in asked.items()}


def runtime(record: Record, caller: Caller, *, values: bool = False) -> Runtime:
    """The record as the caller sees it; secrets are its owner's alone, whoever else may see the rest.

    Args:
        record: the runtime.
        caller: who looks.
        values: also the environment's values.
    """
    if record.owner != caller.owner:
        return Runtime(**(wire(record) | {"session_api_key": None}))
    if not values:
        return Runtime(**wire(record))
    return Runtime(**(wire(record) | {"environment": environment(record, values=True)}))


def failure(problem: Problem) -> dict[str, Any]:
    """A problem as a record keeps it, able to be raised again for a later caller."""
    return {**problem.extensions, "code": problem.code, "detail": problem.detail, "status": problem.status}


def raised(kept: Mapping[str, Any]) -> Problem:
    """The problem that ``failure`` kept."""
    return Problem.from_body(kept, status=int(kept["status"]))


def ports(snapshot: Snapshot) -> dict[str, Any]:
    """Published ports, as JSON."""
    return {
        port: [{"HostIp": each.HostIp, "HostPort": each.HostPort} for each in hosts]
        for port, hosts in snapshot.ports.items()
    }


def ending(snapshot: Snapshot) -> dict[str, Any] | None:
    """How the container's process ended; None while it hasn't."""
    if snapshot.state not in ENDED or snapshot.exit_code is None:
        return None
    return exit_of(snapshot.exit_code, oom_killed=snapshot.oom_killed, finished_at=snapshot.finished_at)


def exit_of(exit_code: int, *, oom_killed: bool = False, finished_at: float | None = None) -> dict[str, Any]:
    """An exit as a record keeps it."""
    finished = utc(finished_at)
    return {
        "exit_code": exit_code,
        "signal": _signal(exit_code),
        "oom_killed": oom_killed,
        "finished_at": None if finished is None else finished.isoformat(),
    }


def _signal(exit_code: int) -> str | None:
    try:
        return signal.Signals(exit_code - 128).name
    except ValueError:
        return None


def facts(snapshot: Snapshot, at: float, status: RuntimeStatus | None = None) -> dict[str, Any]:
    """The columns that a snapshot decides; ``status`` overrides what it looks like."""
    status = status or seen(snapshot)
    end = ending(snapshot)
    gone = status in (RuntimeStatus.STOPPED, RuntimeStatus.ERROR)
    return {
        "status": status,
        "status_detail": _detail(snapshot, status),
        "container_id": snapshot.container_id,
        "ports": ports(snapshot),
        "started_at": snapshot.started_at,
        "stopped_at": (snapshot.finished_at or at) if gone else None,
        "exit": end if gone else None,
        "restart_count": snapshot.restart_count,
        "seen_at": at,
    }


def _detail(snapshot: Snapshot, status: RuntimeStatus) -> str | None:
    if snapshot.state is ContainerState.RESTARTING:
        return f"The engine is restarting it, {snapshot.restart_count} times so far."
    if status is not RuntimeStatus.ERROR:
        return None
    if snapshot.oom_killed:
        return "The process was ended for lack of memory."
    known = {126: ": the command is not executable", 127: ": the command was not found"}
    return f"The process ended with exit code {snapshot.exit_code}{known.get(snapshot.exit_code or 0, '')}."
