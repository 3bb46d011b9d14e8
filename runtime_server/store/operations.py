"""The operations table: starts, stops, pulls and keyed calls, each held by one process at a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from runtime_server.store.database import Database
from runtime_server.store.records import Operation
from runtime_server.store.schema import operations
from runtime_server.store.statements import Prepared

_columns = operations.c
_INSERT = Prepared(sa.insert(operations))
_CLAIM = Prepared(sqlite_insert(operations).on_conflict_do_nothing())
_FIND = Prepared(
    sa.select(operations).where(
        _columns.kind == sa.bindparam("kind"),
        _columns.owner == sa.bindparam("owner"),
        _columns.key == sa.bindparam("key"),
    )
)
_DELETE = Prepared(sa.delete(operations).where(_columns.id == sa.bindparam("_id")))
_DELETE_HELD = Prepared(
    sa.delete(operations).where(_columns.id == sa.bindparam("_id"), _columns.holder == sa.bindparam("_holder"))
)
_HELD = Prepared(
    sa.select(_columns.id).where(_columns.id == sa.bindparam("_id"), _columns.holder == sa.bindparam("_holder"))
)
_FINISH = Prepared(
    sa.update(operations)
    .where(_columns.id == sa.bindparam("_id"), _columns.holder == sa.bindparam("_holder"))
    .values(done=True, answer=sa.bindparam("answer"), expires_at=sa.bindparam("expires_at"))
)
_TAKE = Prepared(
    sa.update(operations)
    .where(_columns.id == sa.bindparam("_id"), _columns.done.is_(False))
    .where(_columns.holder == sa.bindparam("_from"), _columns.lease_until == sa.bindparam("_lease"))
    .values(holder=sa.bindparam("holder"), lease_until=sa.bindparam("lease_until"))
)

_TAKE_AWAY = Prepared(
    sa.delete(operations)
    .where(_columns.kind == sa.bindparam("kind"), _columns.key == sa.bindparam("key"))
    .returning(operations)
)


class Operations:
    """Claims on work. A row that isn't done belongs to its holder while that lives and its lease runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, connection: sa.Connection, operation: Operation) -> None:
        """Insert within a caller's transaction."""
        _INSERT.run(connection, _values(operation))

    def delete(self, connection: sa.Connection, operation_id: str) -> None:
        """Delete within a caller's transaction."""
        _DELETE.run(connection, {"_id": operation_id})

    def replace(self, connection: sa.Connection, operation: Operation) -> None:
        """Insert within a caller's transaction, in place of one of the same kind, owner and key."""
        same = (_columns.kind == operation.kind, _columns.owner == operation.owner, _columns.key == operation.key)
        connection.execute(sa.delete(operations).where(*same))
        _INSERT.run(connection, _values(operation))

    def claim(self, operation: Operation) -> bool:
        """Insert the row; False where the same kind, owner and key has one already."""
        with self._database.connection() as connection:
            return _CLAIM.run(connection, _values(operation)).rowcount == 1

    def find(self, kind: str, owner: str, key: str) -> Operation | None:
        """The row of that kind, owner and key."""
        with self._database.connection() as connection:
            row = _FIND.first(connection, {"kind": kind, "owner": owner, "key": key})
        return None if row is None else Operation(**row)

    def finish(self, operation: Operation, answer: bytes, expires_at: float) -> bool:
        """Keep the answer until ``expires_at``; False where another holder has taken the work over."""
        values = {"_id": operation.id, "_holder": operation.holder, "answer": answer, "expires_at": expires_at}
        with self._database.connection() as connection:
            return _FINISH.run(connection, values).rowcount == 1

    def take_over(self, operation: Operation, holder: str, lease_until: float) -> bool:
        """Become the holder in place of the one that ``operation`` names.

        False where another was faster, or its holder has renewed its lease.
        """
        values = {
            "_id": operation.id,
            "_from": operation.holder,
            "_lease": operation.lease_until,
            "holder": holder,
            "lease_until": lease_until,
        }
        with self._database.connection() as connection:
            return _TAKE.run(connection, values).rowcount == 1

    def release(self, operation: Operation) -> None:
        """Let go of it unfinished, so that anybody can take it over at once."""
        query = sa.update(operations).where(_columns.id == operation.id, _columns.holder == operation.holder)
        with self._database.connection() as connection:
            connection.execute(query.values(holder="", lease_until=0.0))

    def drop(self, operation_id: str, holder: str | None = None) -> None:
        """Delete the row, only while ``holder`` holds it where that is given."""
        with self._database.connection() as connection:
            if holder is None:
                _DELETE.run(connection, {"_id": operation_id})
            else:
                _DELETE_HELD.run(connection, {"_id": operation_id, "_holder": holder})

    def take(self, kind: str, key: str) -> Operation | None:
        """The row of that kind and key, whoever's it is, deleted by this: only one caller gets it."""
        with self._database.connection() as connection:
            row = _TAKE_AWAY.first(connection, {"kind": kind, "key": key})
        return None if row is None else Operation(**row)

    def held(self, operation_id: str, holder: str) -> bool:
        """Whether ``holder`` still holds it."""
        with self._database.connection() as connection:
            return _HELD.first(connection, {"_id": operation_id, "_holder": holder}) is not None

    def renew(self, ids: Collection[str], lease_until: float) -> None:
        """Extend the leases of these operations."""
        with self._database.connection() as connection:
            connection.execute(sa.update(operations).where(_columns.id.in_(ids)).values(lease_until=lease_until))

    def progress(self, operation_id: str, text: str) -> None:
        """Note how far the work is."""
        with self._database.connection() as connection:
            connection.execute(sa.update(operations).where(_columns.id == operation_id).values(progress=text))

    def running(self, *kinds: str) -> list[Operation]:
        """All that aren't done, of these kinds."""
        query = sa.select(operations).where(_columns.kind.in_(kinds), _columns.done.is_(False))
        with self._database.connection() as connection:
            return [Operation(**row._asdict()) for row in connection.execute(query)]

    def expire(self, now: float | None = None) -> int:
        """Delete what is past its time and isn't worked on; returns how many."""
        moment = time.time() if now is None else now
        with self._database.connection() as connection:
            return connection.execute(
                sa.delete(operations).where(
                    _columns.expires_at < moment, sa.or_(_columns.done, _columns.lease_until < moment)
                )
            ).rowcount


def _values(operation: Operation) -> dict[str, Any]:
    return {each.name: getattr(operation, each.name) for each in dataclasses.fields(operation)}
