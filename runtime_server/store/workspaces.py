"""What the store knows of workspaces: when each was last used, and which runtimes have it now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from runtime_server.store.database import Database
from runtime_server.store.schema import runtimes, workspaces

_HAS_IT = sa.text(
    "runtimes.status <> 'removed' AND NOT (runtimes.status IN ('stopped', 'error') AND runtimes.container_id IS NULL)"
)
"""Whether a runtime that was started with a workspace may mount it: until its container is gone."""
_columns = workspaces.c
_UNUSED = ~sa.exists().where(runtimes.c.workspace == _columns.volume, _HAS_IT)


class Workspaces:
    """The rows of workspaces, by the names of their volumes. Most of them are written by triggers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last_used(self, owner: str | None = None) -> dict[str, float]:
        """When the owner's (None: everybody's) were last used: when a runtime with it last began or ended."""
        query = sa.select(_columns.volume, _columns.last_used_at)
        if owner is not None:
            query = query.where(_columns.owner == owner)
        with self._database.connection() as connection:
            return {row.volume: row.last_used_at for row in connection.execute(query)}

    def users(self, volume: str | None = None) -> dict[str, list[str]]:
        """The ids of the runtimes that have each workspace (or that one), oldest first."""
        query = sa.select(runtimes.c.workspace, runtimes.c.runtime_id).where(_HAS_IT)
        query = query.where(
            runtimes.c.workspace.is_not(None) if volume is None else runtimes.c.workspace == volume
        ).order_by(runtimes.c.created_at)
        found: dict[str, list[str]] = {}
        with self._database.connection() as connection:
            for row in connection.execute(query):
                found.setdefault(row.workspace, []).append(row.runtime_id)
        return found

    def unused_since(self, moment: float) -> list[str]:
        """Those that no runtime has, and that were last used before that moment."""
        query = sa.select(_columns.volume).where(_columns.last_used_at < moment, _UNUSED)
        with self._database.connection() as connection:
            return [row.volume for row in connection.execute(query)]

    def compare(self, owners: Mapping[str, str], now: float) -> None:
        """Bring the rows up to what the engine has: last use of one without a row counts from now.

        Args:
            owners: of all volumes that there are, by name.
            now: Unix seconds.
        """
        with self._database.connection() as connection:
            known = {row.volume for row in connection.execute(sa.select(_columns.volume))}
        new = [{"volume": each, "owner": owners[each], "last_used_at": now} for each in owners.keys() - known]
        if new:
            with self._database.transaction() as connection:
                connection.execute(insert(workspaces).on_conflict_do_nothing(), new)
        self.forget(known - owners.keys())

    def used_now(self, volume: str, now: float) -> None:
        """Count it as used, by what no record tells of."""
        with self._database.connection() as connection:
            connection.execute(sa.update(workspaces).where(_columns.volume == volume).values(last_used_at=now))

    def forget(self, volumes: Iterable[str]) -> None:
        """Delete the rows of volumes that are gone, unless a runtime has one: it may be about to be made."""
        for volume in volumes:
            with self._database.connection() as connection:
                connection.execute(sa.delete(workspaces).where(_columns.volume == volume, _UNUSED))
