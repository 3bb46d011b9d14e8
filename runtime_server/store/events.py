"""The history of all runtimes, read on from where a reader is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from runtime_server.models import RuntimeStatus
from runtime_server.store.database import Database
from runtime_server.store.schema import history, runtimes

_LAST = sa.select(sa.func.max(history.c.id))


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a runtime's state, in the order in which they were written. ``at`` is Unix seconds."""

    id: int
    at: float
    runtime_id: str
    status: RuntimeStatus
    detail: str | None
    owner: str
    name: str | None
    session_id: str | None
    image: str


class Events:
    """Reads the history. A writer holds the database while it writes, so that ids become seen in their order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self) -> int:
        """The id of the newest event; 0 where there is none."""
        with self._database.connection() as connection:
            return int(connection.execute(_LAST).scalar() or 0)

    def after(
        self,
        position: int,
        *,
        owner: str | None = None,
        runtime_id: str | None = None,
        statuses: Collection[RuntimeStatus] = (),
        limit: int = 500,
    ) -> list[Event]:
        """The events after that id, the oldest first.

        Args:
            position: an id.
            owner: only of this owner's runtimes.
            runtime_id: only of this one.
            statuses: only of changes to one of these; empty: all.
            limit: how many at most.
        """
        columns = runtimes.c
        query = (
            sa.select(
                history.c.id,
                history.c.at,
                history.c.runtime_id,
                history.c.status,
                history.c.detail,
                columns.owner,
                columns.name,
                columns.session_id,
                columns.image,
            )
            .join_from(history, runtimes, history.c.runtime_id == columns.runtime_id)
            .where(history.c.id > position)
            .order_by(history.c.id)
            .limit(limit)
        )
        if owner is not None:
            query = query.where(columns.owner == owner)
        if runtime_id is not None:
            query = query.where(history.c.runtime_id == runtime_id)
        if statuses:
            query = query.where(history.c.status.in_([str(status) for status in statuses]))
        with self._database.connection() as connection:
            rows = connection.execute(query).all()
        return [Event(**{**row._asdict(), "status": RuntimeStatus(row.status)}) for row in rows]
