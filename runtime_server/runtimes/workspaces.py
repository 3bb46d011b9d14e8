"""Workspaces as callers see them, and what becomes of those that nobody uses.

What exists the engine tells, by volumes and their labels; when each was last used, and who has it, the store.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from runtime_server.engine import labels as tags
from runtime_server.engine.base import Engine, Volume, VolumeInUse
from runtime_server.errors import EngineFailed, EngineTimeout, StorageUnavailable, WorkspaceInUse, WorkspaceNotFound
from runtime_server.models import Workspace, WorkspaceDeleted, WorkspacePage, utc
from runtime_server.runtimes import cursors
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.policy_workspaces import named, workspace_id
from runtime_server.runtimes.waits import SlowLane
from runtime_server.store.store import Store

log = structlog.get_logger("runtime_server.workspaces")


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of all workspaces at one moment."""

    last_used: Mapping[str, float]
    users: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int] = field(default_factory=dict)


class Workspaces:
    """The workspaces of an instance.

    Args:
        instance: its id.
        engine: has the volumes.
        store: knows of their use.
        lane: bounds those who wait for sizes.
        rebuilding: while this file is there, records are missing.
        retention: seconds that an unused one stays; 0: for ever.
    """

    def __init__(
        self, *, instance: str, engine: Engine, store: Store, lane: SlowLane, rebuilding: Path, retention: float
    ) -> None:
        self._instance = instance
        self._engine = engine
        self._store = store
        self._lane = lane
        self._rebuilding = rebuilding
        self._retention = retention

    def list(
        self,
        caller: Caller,
        *,
        owner: str | None = None,
        session_id: str | None = None,
        sizes: bool = False,
        limit: int = 100,
        cursor: str | None = None,
    ) -> WorkspacePage:
        """The caller's workspaces, an admin's are everybody's, newest first.

        Args:
            caller: who asks.
            owner: only this owner's; for all but admins, others have none.
            session_id: only this session's.
            sizes: also measure them.
            limit: how many at most.
            cursor: where the last page ended.

        Raises:
            ValidationFailed: not a cursor of ours.
            TooManyWaiting: sizes are asked for, and all threads that may wait do.
            EngineUnreachable, EngineTimeout: the engine doesn't answer.
        """
        after = cursors.decode(cursor) if cursor else None
        found = [
            each
            for each in self._volumes(caller)
            if owner in (None, _owner(each)) and session_id in (None, each.labels.get(tags.SESSION_ID))
        ]
        found.sort(key=_place, reverse=True)
        found = [each for each in found if after is None or _place(each) < after]
        shown, more = found[:limit], found[limit:]
        known = self._known(caller, sizes=sizes and bool(shown))
        return WorkspacePage(
            workspaces=[self._told(each, known) for each in shown],
            next_cursor=cursors.encode_place(*_place(shown[-1])) if more else None,
        )

    def get(self, caller: Caller, name: str, *, sizes: bool = False) -> Workspace:
        """A workspace.

        Args:
            caller: who asks.
            name: its id, its session's, or the alias that it belongs to.
            sizes: also measure it.

        Raises:
            WorkspaceNotFound: there is none.
            TooManyWaiting, EngineUnreachable, EngineTimeout: as ``list``.
        """
        volume = self._find(caller, name)
        if volume is None:
            raise WorkspaceNotFound("No workspace has that id, session or alias.")
        return self._told(volume, self._known(caller, sizes=sizes))

    def delete(self, caller: Caller, name: str) -> WorkspaceDeleted:
        """Remove a workspace with all that is in it.

        Args:
            caller: who asks.
            name: as for ``get``.

        Raises:
            WorkspaceNotFound: there is none.
            WorkspaceInUse: a runtime that isn't removed has it.
            EngineUnreachable, EngineTimeout: it may be removed later all the same.
        """
        volume = self._find(caller, name)
        gone = volume.name if volume is not None else self._gone(caller, name)
        if gone is None:
            raise WorkspaceNotFound("No workspace has that id, session or alias.")
        if users := self._store.workspaces.users(gone).get(gone):
            raise _in_use(users)
        try:
            changed = volume is not None and self._engine.remove_volume(gone)
        except VolumeInUse:
            raise _in_use(self._store.workspaces.users(gone).get(gone, ())) from None
        self._store.workspaces.forget([gone])
        message = "The workspace is removed." if changed else "The workspace is removed already."
        return WorkspaceDeleted(workspace_id=workspace_id(gone), message=message, changed=changed)

    def _volumes(self, caller: Caller) -> Sequence[Volume]:
        if self._rebuilding.exists():
            raise StorageUnavailable("The records are being rebuilt from the containers' labels.", retry_after=1)
        return [each for each in self._engine.list_volumes(tags.WORKSPACE) if caller.sees(_owner(each))]

    def _find(self, caller: Caller, name: str) -> Volume | None:
        """The workspace of that id, else the caller's own of that session or alias, else an admin's only one."""
        visible = self._volumes(caller)
        own = [each for each in visible if _owner(each) == caller.owner]
        for group, label in ((visible, None), (own, tags.SESSION_ID), (own, tags.NAME), (visible, tags.SESSION_ID)):
            found = [each for each in group if name == (each.labels.get(label) if label else workspace_id(each.name))]
            if len(found) > 1:
                raise WorkspaceNotFound("Several owners have a workspace of that session; an id says which is meant.")
            if found:
                return found[0]
        return None

    def _gone(self, caller: Caller, name: str) -> str | None:
        """The volume that an earlier attempt of the same call removed, its answer being lost."""
        rows = self._store.workspaces.last_used(None if caller.admin else caller.owner)
        own = {named(self._instance, caller.owner, session_id=name), named(self._instance, caller.owner, name=name)}
        return next((each for each in rows if each in own or workspace_id(each) == name), None)

    def _known(self, caller: Caller, *, sizes: bool) -> _Known:
        measured: Mapping[str, int] = {}
        if sizes:
            # An engine that is measuring for another, that can't, or takes too long, has none to tell.
            with self._lane.place(), suppress(EngineFailed, EngineTimeout):
                measured = self._engine.volume_sizes()
        rows = self._store.workspaces
        return _Known(rows.last_used(None if caller.admin else caller.owner), rows.users(), measured)

    def _told(self, volume: Volume, known: _Known) -> Workspace:
        last, users = known.last_used.get(volume.name), list(known.users.get(volume.name, ()))
        expires = None if last is None or users or not self._retention else last + self._retention
        return Workspace(
            workspace_id=workspace_id(volume.name),
            session_id=volume.labels.get(tags.SESSION_ID),
            name=volume.labels.get(tags.NAME),
            owner=_owner(volume),
            volume=volume.name,
            path=volume.labels.get(tags.WORKSPACE, ""),
            size_bytes=known.sizes.get(volume.name),
            created_at=utc(_created_at(volume)),
            last_used_at=utc(last),
            expires_at=utc(expires),
            in_use_by=users,
        )

    def compare(self) -> None:
        """Have a row for each workspace that there is, and none for others, where no runtime has them.

        Raises:
            EngineUnreachable, EngineTimeout: the engine doesn't answer.
        """
        there = self._engine.list_volumes(tags.WORKSPACE)
        self._store.workspaces.compare({each.name: _owner(each) for each in there}, time.time())

    def expired(self, now: float) -> Sequence[str]:
        """The volumes of those whose retention is over."""
        return self._store.workspaces.unused_since(now - self._retention) if self._retention else ()

    def expire(self, volume: str) -> None:
        """Remove a workspace whose retention is over, unless it was used meanwhile.

        Raises:
            EngineUnreachable, EngineTimeout, EngineFailed: it is tried again later.
        """
        now = time.time()
        if volume not in self.expired(now):
            return
        try:
            log.info("removing an unused workspace", volume=volume)
            self._engine.remove_volume(volume)
            self._store.workspaces.forget([volume])
        except VolumeInUse:  # by a container that this service doesn't know of
            self._store.workspaces.used_now(volume, now)


def _owner(volume: Volume) -> str:
    return volume.labels.get(tags.OWNER, "")


def _created_at(volume: Volume) -> float:
    try:
        return float(volume.labels.get(tags.CREATED_AT, ""))
    except ValueError:
        return 0.0


def _place(volume: Volume) -> tuple[float, str]:
    """Where it is in a listing."""
    return _created_at(volume), volume.name


def _in_use(users: Sequence[str]) -> WorkspaceInUse:
    return WorkspaceInUse(
        "A runtime has the workspace; it can be removed once the runtime is removed.", runtime_ids=list(users)
    )
