"""Places for starts: how many are worked on at once over all processes, and whose turn is next.

A start is an operation of the kind ``start``. While it holds a place its ``stage`` is None. Owners take turns: the
one with the fewest starts at work is next, among equals by ``turn``, which each start gets when it queues up: one
more than its owner's last, or that of the start served last for an owner that has none. So an owner that comes later
waits for about one start, however many another has queued before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import sqlalchemy as sa

from runtime_server.store.bell import Bell
from runtime_server.store.database import Database
from runtime_server.store.records import Operation
from runtime_server.store.schema import operations
from runtime_server.store.statements import Prepared

START = "start"
QUEUED = "queued"
"""Waits for a place."""
PULLING = "pulling"
"""Waits for an image, and needs no place meanwhile."""
READYING = "readying"
"""Has started its container, and waits for the service in it."""
DETAIL = "Queued: as many starts are being worked on as may be at once."

_columns = operations.c
_COUNT = Prepared.text(
    "SELECT count(*) FROM operations WHERE kind = 'start' AND coalesce(stage, '') NOT IN ('pulling', 'readying')"
)
_TURN = Prepared.text(
    "SELECT coalesce("
    " (SELECT max(turn) + 1 FROM operations WHERE kind = 'start' AND owner = :owner AND stage = 'queued'),"
    " (SELECT max(turn) FROM operations WHERE kind = 'start' AND stage IS NULL), 0)"
)
_ANY_QUEUED = Prepared.text("SELECT 1 FROM operations WHERE kind = 'start' AND stage = 'queued' LIMIT 1")
_AT_WORK = Prepared.text("SELECT holder, count(*) FROM operations WHERE kind = 'start' AND stage IS NULL GROUP BY 1")
_NEXT = Prepared.text(
    "WITH work AS (SELECT owner, count(*) AS n FROM operations"
    " WHERE kind = 'start' AND stage IS NULL GROUP BY owner),"
    " line AS (SELECT id, owner, holder, turn, queued_at,"
    " row_number() OVER (PARTITION BY owner ORDER BY turn, queued_at, id) AS place"
    " FROM operations WHERE kind = 'start' AND stage = 'queued')"
    " SELECT line.id, line.holder FROM line LEFT JOIN work ON work.owner = line.owner"
    " ORDER BY coalesce(work.n, 0) + line.place, line.turn, line.queued_at, line.id LIMIT :free"
)
_REQUEUE = Prepared.text(
    "UPDATE operations SET stage = 'queued', queued_at = 0.0"
    " WHERE kind = 'start' AND stage IS NULL AND holder = :holder"
)
_TAKE = Prepared(
    sa.update(operations)
    .where(_columns.id == sa.bindparam("_id"))
    .values(holder=sa.bindparam("holder"), lease_until=sa.bindparam("lease_until"), stage=None)
    .returning(operations)
)
_CLEAR = Prepared.text("UPDATE runtimes SET status_detail = NULL WHERE runtime_id = :id AND status_detail = :detail")
_STAGE = Prepared(
    sa.update(operations)
    .where(_columns.id == sa.bindparam("_id"), _columns.holder == sa.bindparam("_holder"))
    .values(stage=sa.bindparam("stage"), queued_at=sa.bindparam("queued_at"))
)
_WITHDRAW = Prepared.text("DELETE FROM operations WHERE id = :id AND stage IN ('queued', 'readying')")
_OWN = Prepared.text("SELECT id FROM operations WHERE kind = 'start' AND holder = :holder AND stage = 'queued'")
_STANDING = Prepared(
    sa.select(
        sa.func.count().filter(_columns.stage.is_(None)).label("at_work"),
        sa.func.count().filter(_columns.stage == QUEUED, _columns.holder == sa.bindparam("holder")).label("queued"),
    ).where(_columns.kind == START)
)

Alive = Callable[[str], bool]
"""Whether the process that goes by this name as a holder lives."""


class Slots:
    """The places of all starts of one database.

    Args:
        database: where operations are.
        places: how many there are; 0: without end.

    Attributes:
        bell: rung where a place was freed, or a start that waits was withdrawn.
    """

    def __init__(self, database: Database, places: int = 0) -> None:
        self._database = database
        self.places = places
        self.bell = Bell(database.path.with_name("places"))

    def placed(self, connection: sa.Connection, operation: Operation, now: float) -> Operation:
        """A start that is about to be inserted, queued where no place is free or others wait already.

        A place that a dead process holds counts as taken here; ``grant`` frees it.
        """
        if not self.places or _COUNT.rows(connection)[0][0] < self.places:
            return operation
        turn = _TURN.rows(connection, {"owner": operation.owner})[0][0]
        return dataclasses.replace(operation, stage=QUEUED, queued_at=now, turn=turn)

    def any_queued(self) -> bool:
        """Whether a start waits for a place."""
        with self._database.connection() as connection:
            return bool(_ANY_QUEUED.rows(connection))

    def standing(self, holder: str) -> tuple[int, int]:
        """How many starts are worked on, and how many wait that this process answers for.

        PERF: asked at each ring by each process that has something queued; on a machine that is busy starting,
        whatever else they ask is taken from the starts.
        """
        with self._database.connection() as connection:
            found = _STANDING.first(connection, {"holder": holder})
        assert found is not None
        return found["at_work"], found["queued"]

    def queued_for(self, holder: str) -> set[str]:
        """Ids of the queued starts that this process answers for."""
        with self._database.connection() as connection:
            return {each for (each,) in _OWN.rows(connection, {"holder": holder})}

    def grant(self, holder: str, lease_until: float, alive: Alive) -> list[Operation]:
        """Give free places to the starts whose turn it is, as far as they are this process's or a dead one's.

        Args:
            holder: this process.
            lease_until: the end of the leases.
            alive: of dead processes, places are freed and starts taken over.

        Returns:
            The starts that this process is to work on now.
        """
        with self._database.connection() as connection:
            if not self._mine(connection, holder, alive):
                return []
        granted = []
        with self._database.transaction() as connection:
            for operation_id in self._mine(connection, holder, alive, requeue=True):
                values = {"_id": operation_id, "holder": holder, "lease_until": lease_until}
                row = _TAKE.first(connection, values)
                assert row is not None
                operation = Operation(**row)
                _CLEAR.run(connection, {"id": operation.key, "detail": DETAIL})
                granted.append(operation)
        return granted

    def _mine(self, connection: sa.Connection, holder: str, alive: Alive, *, requeue: bool = False) -> list[str]:
        free = self.places or 1_000_000
        for its_holder, starts in _AT_WORK.rows(connection):
            if alive(its_holder):
                free -= starts
            elif requeue:
                _REQUEUE.run(connection, {"holder": its_holder})
            else:
                return [its_holder]  # something to do
        if free <= 0:
            return []
        found = _NEXT.rows(connection, {"free": free})
        return [each for each, its_holder in found if its_holder == holder or not alive(its_holder)]

    def requeue(self, operation: Operation, holder: str, lease_until: float, queued_at: float) -> bool:
        """Queue up a start whose holder is gone, under this process; False where another was faster."""
        statement = (
            sa.update(operations)
            .where(_columns.id == operation.id, _columns.holder == operation.holder)
            .values(holder=holder, lease_until=lease_until, stage=QUEUED, queued_at=queued_at)
        )
        with self._database.connection() as connection:
            return connection.execute(statement).rowcount == 1

    def lend(self, operation: Operation) -> None:
        """Give the place back for as long as a pull takes."""
        self._set(operation, PULLING, None)

    def leave(self, operation: Operation) -> bool:
        """Give the place back for good, to wait for the service; False where the start is no longer its holder's."""
        return self._set(operation, READYING, None)

    def rejoin(self, operation: Operation, now: float) -> bool:
        """Want a place again after ``lend``: whether there is one at once. Else it is queued before its owner's."""
        with self._database.transaction() as connection:
            stage = self.placed(connection, operation, now).stage
            self._put(connection, operation, stage, 0.0 if stage else None)
        return stage is None

    def withdraw(self, operation_id: str) -> bool:
        """Delete a start that is queued or waits for its service; False where it doesn't any more."""
        with self._database.connection() as connection:
            withdrawn = _WITHDRAW.run(connection, {"id": operation_id}).rowcount == 1
        self.bell.ring()
        return withdrawn

    def _set(self, operation: Operation, stage: str | None, queued_at: float | None) -> bool:
        with self._database.connection() as connection:
            return self._put(connection, operation, stage, queued_at)

    def _put(
        self, connection: sa.Connection, operation: Operation, stage: str | None, queued_at: float | None
    ) -> bool:
        values = {"_id": operation.id, "_holder": operation.holder, "stage": stage, "queued_at": queued_at}
        return _STAGE.run(connection, values).rowcount == 1
