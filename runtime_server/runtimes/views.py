"""Records as the wire shows them, and snapshots as the store keeps them."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from runtime_server.engine.base import ContainerState, Snapshot
from runtime_server.errors import Problem, StorageUnavailable
from runtime_server.models import (
    ActionResponse,
    Exit,
    Failure,
    HostPort,
    Runtime,
    RuntimeStatus,
    RuntimeWorkspace,
    StartResponse,
    utc,
)
from runtime_server.runtimes import pods
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.policy_workspaces import workspace_id
from runtime_server.runtimes.states import seen
from runtime_server.runtimes.urls import Urls
from runtime_server.store.records import Happening, Record
from runtime_server.store.store import Store

MOST_EVENTS = 10
"""How many events of a runtime answers show; one that sleeps and wakes has ever more."""
ENDED = (ContainerState.EXITED, ContainerState.DEAD, ContainerState.REMOVING)


class Views:
    """Makes what callers see of records.

    Args:
        store: has their histories.
        urls: knows where their services answer.
    """

    def __init__(self, store: Store, urls: Urls) -> None:
        self._store = store
        self._urls = urls

    def runtime(self, record: Record, caller: Caller, *, values: bool = False, output: str | None = None) -> Runtime:
        """The record as the caller sees it; secrets are its owner's alone, whoever else may see the rest.

        Args:
            record: the runtime.
            caller: who looks.
            values: also the environment's values.
            output: its last lines, where it hasn't ended.
        """
        fields = self._fields(record, self._store.recent(record.runtime_id, MOST_EVENTS), output)
        if record.owner != caller.owner:
            fields["session_api_key"] = None
        elif values:
            fields["environment"] = environment(record, values=True)
        return Runtime(**fields)

    def runtimes(self, records: Sequence[Record], caller: Caller) -> list[Runtime]:
        """Several, as ``runtime``."""
        histories = self._store.recents([each.runtime_id for each in records], MOST_EVENTS)
        found = []
        for record in records:
            fields = self._fields(record, histories[record.runtime_id])
            if record.owner != caller.owner:
                fields["session_api_key"] = None
            found.append(Runtime(**fields))
        return found

    def started(self, record: Record, *, created: bool, warnings: Sequence[str] = ()) -> StartResponse:
        """The answer of a start."""
        noted = [record.note] if record.note else []
        fields = self._fields(record, self._store.recent(record.runtime_id, MOST_EVENTS))
        return StartResponse(**fields, created=created, warnings=[*noted, *warnings])

    def acted(self, record: Record, caller: Caller, message: str, *, changed: bool) -> ActionResponse:
        """The answer of an action."""
        fields = self._fields(record, self._history(record))
        if record.owner != caller.owner:
            fields["session_api_key"] = None
        return ActionResponse(**fields, message=message, changed=changed)

    def switched(self, foreseen: ActionResponse, happening: Happening) -> ActionResponse:
        """An answer that was made ahead, with what happened since."""
        foreseen.events.extend(pods.events([happening]))
        del foreseen.events[:-MOST_EVENTS]
        return foreseen

    def _history(self, record: Record) -> Sequence[Happening]:
        """What happened; nothing where that can't be read, since an action was done all the same."""
        with suppress(StorageUnavailable):
            return self._store.recent(record.runtime_id, MOST_EVENTS)
        return ()

    def _fields(self, record: Record, happened: Sequence[Happening], output: str | None = None) -> dict[str, Any]:
        return {
            "runtime_id": record.runtime_id,
            "container_id": record.container_id,
            "name": record.name,
            "session_id": record.session_id,
            "owner": record.owner,
            "image": record.image,
            "status": record.status,
            "status_detail": record.status_detail or record.note,
            "created_at": utc(record.created_at),
            "started_at": utc(record.started_at),
            "stopped_at": utc(record.stopped_at),
            "expires_at": utc(record.expires_at),
            "ports": {port: [HostPort(**each) for each in hosts] for port, hosts in record.ports.items()},
            "labels": record.labels,
            "environment": environment(record),
            "workspace": workspace(record),
            "session_api_key": record.session_api_key,
            "url": self._urls.main(record),
            "work_hosts": self._urls.others(record),
            "services": self._urls.services(record),
            "pod_status": pods.pod_status(record),
            "container_statuses": pods.container_statuses(record),
            "events": pods.events(happened),
            "pod_logs": record.logs or output or "",
            "exit": Exit.model_validate(record.exit) if record.exit else None,
            "error": Failure.model_validate(record.error) if record.error else None,
            "restart_count": record.restart_count,
            "restart_reasons": record.restart_reasons,
            "logs": record.logs,
        }


def workspace(record: Record) -> RuntimeWorkspace | None:
    """The workspace that the runtime has."""
    if record.workspace is None:
        return None
    return RuntimeWorkspace(workspace_id=workspace_id(record.workspace), path=record.spec.get("workspace", ""))


def environment(record: Record, *, values: bool = False) -> dict[str, str | None] | None:
    """The variables that the start asked for, None as values unless wanted; None where they aren't known."""
    if not record.spec:
        return None  # adopted, of a server that left nothing of it in the labels
    asked: dict[str, str] = record.spec.get("environment", {})
    return {name: value if values else None for name, value in asked.items()}


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


def facts(
    snapshot: Snapshot, at: float, status: RuntimeStatus | None = None, *, record: Record | None = None
) -> dict[str, Any]:
    """The columns that a snapshot decides.

    Args:
        snapshot: the container.
        at: Unix time of the look at it.
        status: instead of what it looks like.
        record: what was known of it, where there is anything.
    """
    status = status or seen(snapshot)
    end = ending(snapshot)
    gone = status in (RuntimeStatus.STOPPED, RuntimeStatus.ERROR)
    return {
        "status": status,
        "status_detail": _detail(snapshot, status) or _kept_detail(record, status),
        "container_id": snapshot.container_id,
        "ports": ports(snapshot),
        "address": snapshot.address,
        "pid": snapshot.pid,
        "started_at": snapshot.started_at,
        "stopped_at": (snapshot.finished_at or at) if gone else None,
        "exit": end if gone else None,
        "restart_count": snapshot.restart_count,
        "restart_reasons": [] if record is None else pods.restart_reasons(record, snapshot),
        "seen_at": at,
    }


def _kept_detail(record: Record | None, status: RuntimeStatus) -> str | None:
    """Why it is paused, which no engine knows."""
    same = record is not None and record.status is status is RuntimeStatus.PAUSED
    return record.status_detail if record is not None and same else None


def _detail(snapshot: Snapshot, status: RuntimeStatus) -> str | None:
    loop = crash_loop(snapshot)
    if loop is not None:
        return loop
    if status is not RuntimeStatus.ERROR:
        return None
    if snapshot.oom_killed:
        return "The process was ended for lack of memory."
    known = {126: ": the command is not executable", 127: ": the command was not found"}
    return f"The process ended with exit code {snapshot.exit_code}{known.get(snapshot.exit_code or 0, '')}."


def crash_loop(snapshot: Snapshot) -> str | None:
    """What to say of a container that the engine starts again and again; None of any other."""
    if snapshot.state is not ContainerState.RESTARTING:
        return None
    ended = "" if snapshot.exit_code is None else f" after exit code {snapshot.exit_code}"
    return f"{pods.CRASH_LOOP}: the engine is restarting it{ended}, {snapshot.restart_count} times so far."
