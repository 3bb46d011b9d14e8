"""How much there is of what, for the metrics: two statements that read indexes only."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from runtime_server.store.database import Database

_RUNTIMES = sa.text(
    "SELECT owner, status, count(*) AS n FROM runtimes WHERE status <> 'removed' GROUP BY owner, status"
)
_OPERATIONS = sa.text(
    "SELECT kind, coalesce(stage, '') AS stage, count(*) AS n FROM operations WHERE done = 0 GROUP BY 1, 2"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Runtimes that aren't removed by owner and status, and operations that aren't done by kind and stage."""

    runtimes: dict[tuple[str, str], int] = field(default_factory=dict)
    operations: dict[tuple[str, str], int] = field(default_factory=dict)

    def at_work(self, kind: str, stage: str = "") -> int:
        """Operations of that kind and stage; no stage: that are worked on."""
        return self.operations.get((kind, stage), 0)


def counted(database: Database) -> Counts:
    """What there is now.

    Raises:
        StorageUnavailable: the database can't be read.
    """
    with database.connection() as connection:
        runtimes = {(each.owner, each.status): each.n for each in connection.execute(_RUNTIMES)}
        operations = {(each.kind, each.stage): each.n for each in connection.execute(_OPERATIONS)}
    return Counts(runtimes, operations)
