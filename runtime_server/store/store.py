"""The store of runtimes: each method is one statement or one transaction.

What a call needs is prepared; what lists or sweeps goes through SQLAlchemy as usual.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from runtime_server.models import RuntimeStatus
from runtime_server.store.database import Database
from runtime_server.store.events import Events
from runtime_server.store.operations import Operations
from runtime_server.store.records import AliasTaken, Happening, IdTaken, Operation, Record, SessionTaken
from runtime_server.store.schema import ALIAS_HELD, SESSION_HELD, history, runtimes
from runtime_server.store.slots import DETAIL as QUEUED_DETAIL
from runtime_server.store.slots import QUEUED, Slots
from runtime_server.store.statements import Prepared
from runtime_server.store.usage import Limits
from runtime_server.store.workspaces import Workspaces

LIVE = (RuntimeStatus.STARTING, RuntimeStatus.RUNNING, RuntimeStatus.PAUSED)
"""States in which a runtime can still do something."""


def _is_one_of(statuses: Collection[str]) -> sa.ColumnElement[bool]:
    # Written into the statement: they are few, and an expanding parameter can't be compiled ahead.
    return runtimes.c.status.in_([sa.literal_column(f"'{RuntimeStatus(status).value}'") for status in statuses])


_BY_ID = Prepared(sa.select(runtimes).where(runtimes.c.runtime_id == sa.bindparam("id")))
_BY_ALIAS = Prepared(
    sa.select(runtimes)
    .where(runtimes.c.owner == sa.bindparam("owner"), runtimes.c.name == sa.bindparam("name"))
    .order_by(sa.literal_column(f"({ALIAS_HELD})").desc(), runtimes.c.created_at.desc())
)
_NAMED = sa.select(runtimes).where(runtimes.c.name == sa.bindparam("name")).order_by(runtimes.c.created_at.desc())
_BY_SESSION = Prepared(
    sa.select(runtimes)
    .where(runtimes.c.owner == sa.bindparam("owner"), runtimes.c.session_id == sa.bindparam("session"))
    .where(sa.text(SESSION_HELD))
)
_LAST_OF_SESSION = Prepared(
    sa.select(runtimes)
    .where(runtimes.c.owner == sa.bindparam("owner"), runtimes.c.session_id == sa.bindparam("session"))
    .where(runtimes.c.status != sa.literal_column("'removed'"))
    .order_by(runtimes.c.created_at.desc())
    .limit(sa.literal_column("1"))
)
_INSERT = Prepared(sa.insert(runtimes))
_IN_ONE = 500
"""Runtimes whose histories are read by one statement."""
_HISTORY = Prepared(
    sa.select(history.c.at, history.c.status, history.c.detail)
    .where(history.c.runtime_id == sa.bindparam("id"))
    .order_by(history.c.id)
)
_RECENT = Prepared(
    sa.select(history.c.at, history.c.status, history.c.detail)
    .where(history.c.runtime_id == sa.bindparam("id"))
    .order_by(history.c.id.desc())
    .limit(sa.bindparam("most"))
)
_RECENT_OF_ALL = Prepared(
    sa.select(history.c.runtime_id, history.c.at, history.c.status, history.c.detail)
    .where(
        sa.text(
            "history.id IN (SELECT mine.id FROM json_each(:ids) AS wanted JOIN history AS mine ON mine.id IN"
            " (SELECT id FROM history WHERE runtime_id = wanted.value ORDER BY id DESC LIMIT :most))"
        ).bindparams(sa.bindparam("ids"), sa.bindparam("most"))
    )
    .order_by(history.c.id)
)
_NOTE = sa.text(
    "INSERT INTO history (runtime_id, at, status, detail)"
    " SELECT runtime_id, :at, status, :detail FROM runtimes WHERE runtime_id = :id"
)
_AGAIN = (
    *("status", "status_detail", "error", "exit", "stopped_at", "spec", "session_api_key", "expires_at"),
    *("cpus", "memory", "restart_reasons", "note", "announced", "workspace"),
)
"""What a second attempt sets anew."""


class Store:
    """Records of runtimes, and the operations on them.

    All methods raise ``StorageUnavailable`` where the database can't be used.

    Args:
        database: where they are.
        places: how many starts are worked on at once; 0: without end.
    """

    def __init__(self, database: Database, places: int = 0) -> None:
        self.database = database
        self.operations = Operations(database)
        self.slots = Slots(database, places)
        self.events = Events(database)
        self.workspaces = Workspaces(database)

    def get(self, runtime_id: str) -> Record | None:
        """The runtime with that id."""
        return self._one(_BY_ID, {"id": runtime_id})

    def by_alias(self, owner: str, name: str) -> Record | None:
        """The owner's runtime with that alias: the one that holds it, else the newest that held it."""
        return self._one(_BY_ALIAS, {"owner": owner, "name": name})

    def named(self, name: str) -> list[Record]:
        """The runtimes of all owners with that alias, newest first: those that hold it, else those that held it."""
        found = self._all(_NAMED, {"name": name})
        ended = (RuntimeStatus.REMOVED, RuntimeStatus.ERROR)
        return [each for each in found if each.status not in ended] or found

    def by_session(self, owner: str, session: str) -> Record | None:
        """The owner's live runtime of that session."""
        return self._one(_BY_SESSION, {"owner": owner, "session": session})

    def last_of_session(self, owner: str, session: str) -> Record | None:
        """The newest of the owner's runtimes of that session that aren't removed, live or not."""
        return self._one(_LAST_OF_SESSION, {"owner": owner, "session": session})

    def _one(self, statement: Prepared, values: Mapping[str, Any]) -> Record | None:
        with self.database.connection() as connection:
            row = statement.first(connection, values)
        return None if row is None else _record(row)

    def add(
        self, record: Record, operation: Operation | None = None, *, limits: Limits | None = None
    ) -> Operation | None:
        """Insert a runtime, and the start that works on it, at once.

        Args:
            record: the runtime.
            operation: its start.
            limits: what may be in use, this one included.

        Returns:
            The start as it was inserted: queued where no place was free.

        Raises:
            IdTaken, AliasTaken, SessionTaken: somebody else has it.
            QuotaExceeded: a limit is reached.
        """
        try:
            with self.database.transaction() as connection:
                if operation is not None:
                    operation = self.slots.placed(connection, operation, record.created_at)
                    if operation.stage == QUEUED:
                        record = dataclasses.replace(record, status_detail=QUEUED_DETAIL)
                # Inserted first: a call that was sent before is that, whatever has been used up meanwhile.
                _INSERT.run(connection, _values(record))
                if operation is not None:
                    self.operations.insert(connection, operation)
                if limits:
                    limits.check(connection, record)
        except (IntegrityError, sqlite3.IntegrityError) as error:
            raise _taken(error) from error
        return operation

    def begin_again(self, record: Record, operation: Operation, *, limits: Limits | None = None) -> Operation | None:
        """Start a runtime that failed to start once more, under its old record.

        Args:
            record: as a new start would insert it.
            operation: the new start.
            limits: what may be in use, this one included.

        Returns:
            The start as it was inserted; None where the runtime is no longer in error.

        Raises:
            IdTaken: a start of this runtime is there already.
            AliasTaken, SessionTaken: another has the alias or session meanwhile.
            QuotaExceeded: a limit is reached.
        """
        values = {name: getattr(record, name) for name in _AGAIN} | {"seen_at": time.time()}
        try:
            with self.database.transaction() as connection:
                operation = self.slots.placed(connection, operation, record.created_at)
                values["status_detail"] = QUEUED_DETAIL if operation.stage == QUEUED else None
                statement = _update(tuple(sorted(values)), (RuntimeStatus.ERROR,), False)
                if statement.first(connection, {"_id": record.runtime_id, **values}) is None:
                    return None
                self.operations.insert(connection, operation)
                if limits:
                    limits.to_start_again().check(connection, record)
        except (IntegrityError, sqlite3.IntegrityError) as error:
            raise _taken(error) from error
        return operation

    def reserve_run(self, record: Record, operation: Operation, limits: Limits) -> None:
        """Insert the operation of a resume, counted as running until it ends; an earlier one is a crash's.

        Raises:
            QuotaExceeded: a limit is reached; nothing is inserted.
        """
        with self.database.transaction() as connection:
            self.operations.replace(connection, operation)
            limits.to_run().check(connection, record)

    def change(
        self,
        runtime_id: str,
        *,
        only_from: Collection[RuntimeStatus] = (),
        due_at: float | None = None,
        begin: Operation | None = None,
        end: str | None = None,
        limits: Limits | None = None,
        **values: Any,
    ) -> Record | None:
        """Change a runtime's row, if its status still is one of ``only_from`` (empty: any).

        Args:
            runtime_id: whose.
            only_from: statuses; empty: any.
            due_at: only if it expires by this moment.
            begin: an operation that starts with this change.
            end: id of an operation that ends with this change, if the row still fits.
            limits: what may be in use, the runtime as changed included.
            values: the columns.

        Returns:
            The row after the change; None where it doesn't fit any more.

        Raises:
            IdTaken: ``begin`` is an operation that exists already.
            AliasTaken, SessionTaken: the new status would hold what another has meanwhile.
            QuotaExceeded: a limit is reached; nothing is changed.
        """
        statement = _update(tuple(sorted(values)), tuple(sorted(only_from)), due_at is not None)
        parameters = {"_id": runtime_id, **values}
        if due_at is not None:
            parameters["_due"] = due_at
        try:
            if begin is None and end is None and not limits:
                with self.database.connection() as connection:
                    row = statement.first(connection, parameters)
            else:
                with self.database.transaction() as connection:
                    row = statement.first(connection, parameters)
                    if begin is not None and row is not None:
                        self.operations.insert(connection, begin)
                    if end is not None and row is not None:
                        self.operations.delete(connection, end)
                    if limits and row is not None:
                        limits.check(connection, _record(dict(row)))
        except (IntegrityError, sqlite3.IntegrityError) as error:
            raise _taken(error) from error
        return None if row is None else _record(row)

    def put(
        self, runtime_id: str, *, only_from: Collection[RuntimeStatus] = (), end: str | None = None, **values: Any
    ) -> bool:
        """As ``change``, for who doesn't need the row: whether it still fitted.

        PERF: reading a row back costs more than changing it.

        Raises:
            AliasTaken, SessionTaken: the new status would hold what another has meanwhile.
        """
        statement = _update(tuple(sorted(values)), tuple(sorted(only_from)), due=False, returning=False)
        parameters = {"_id": runtime_id, **values}
        try:
            if end is None:
                with self.database.connection() as connection:
                    return statement.run(connection, parameters).rowcount == 1
            with self.database.transaction() as connection:
                fitted = statement.run(connection, parameters).rowcount == 1
                if fitted:
                    self.operations.delete(connection, end)
                return fitted
        except (IntegrityError, sqlite3.IntegrityError) as error:
            raise _taken(error) from error

    def give_up(self, operation_id: str, holder: str | None = None) -> None:
        """Delete an operation that may hold a start's place, as ``Operations.drop``, and wake who waits for one."""
        self.operations.drop(operation_id, holder)
        self.slots.bell.ring()

    def page(
        self,
        owner: str | None,
        *,
        statuses: Sequence[RuntimeStatus],
        labels: Mapping[str, str | None],
        after: tuple[float, str] | None,
        limit: int | None,
    ) -> list[Record]:
        """The owner's runtimes (None: everybody's), newest first, after the given (created_at, runtime_id)."""
        columns = runtimes.c
        query = sa.select(runtimes)
        if owner is not None:
            query = query.where(columns.owner == owner)
        if statuses:
            query = query.where(columns.status.in_([str(status) for status in statuses]))
        for key, value in labels.items():
            # A JSON path can't name every key: SQLite knows no escape for a quote in one.
            label = sa.func.json_each(columns.labels).table_valued("key", "value")
            found = sa.select(sa.literal(1)).select_from(label).where(label.c.key == key)
            query = query.where((found if value is None else found.where(label.c.value == value)).exists())
        if after is not None:
            query = query.where(
                sa.tuple_(columns.created_at, columns.runtime_id) < sa.tuple_(*map(sa.literal, after))
            )
        query = query.order_by(columns.created_at.desc(), columns.runtime_id.desc()).limit(limit)
        return self._all(query)

    def present(self) -> list[Record]:
        """All runtimes that aren't removed."""
        return self._all(sa.select(runtimes).where(runtimes.c.status != RuntimeStatus.REMOVED))

    def due(self, now: float) -> list[Record]:
        """Runtimes whose end has come."""
        columns = runtimes.c
        live = [str(status) for status in LIVE]
        return self._all(sa.select(runtimes).where(columns.expires_at <= now, columns.status.in_(live)))

    def ended(self) -> list[Record]:
        """Runtimes that have ended and aren't removed."""
        return self._all(sa.select(runtimes).where(runtimes.c.status.in_(["stopped", "error"])))

    def in_state(self, status: RuntimeStatus, since: float = 0.0, *, sleepy: bool = False) -> list[Record]:
        """All runtimes in that state, seen in it first at that moment or later.

        Args:
            status: the state.
            since: Unix time.
            sleepy: only those whose start names an ``idle_timeout``.
        """
        query = sa.select(runtimes).where(runtimes.c.status == status, runtimes.c.seen_at >= since)
        if sleepy:
            query = query.where(sa.func.json_extract(runtimes.c.spec, "$.idle_timeout") > 0)
        return self._all(query)

    def marked(self) -> list[Record]:
        """Runtimes that are marked as being frozen."""
        return self._all(sa.select(runtimes).where(runtimes.c.pausing.is_(True)))

    def forget(self, before: float) -> list[str]:
        """Delete the records of runtimes that were removed before that moment; returns their ids."""
        with self.database.connection() as connection:
            gone = connection.execute(
                sa.delete(runtimes)
                .where(runtimes.c.status == RuntimeStatus.REMOVED, runtimes.c.removed_at < before)
                .returning(runtimes.c.runtime_id)
            )
            return [row[0] for row in gone]

    def history(self, runtime_id: str) -> list[Happening]:
        """All that happened to the runtime, oldest first."""
        with self.database.connection() as connection:
            return [Happening(*row) for row in _HISTORY.run(connection, {"id": runtime_id})]

    def recent(self, runtime_id: str, most: int) -> list[Happening]:
        """What happened to the runtime last, oldest first."""
        with self.database.connection() as connection:
            rows = _RECENT.run(connection, {"id": runtime_id, "most": most}).fetchall()
        return [Happening(*row) for row in reversed(rows)]

    def recents(self, runtime_ids: Sequence[str], most: int) -> dict[str, list[Happening]]:
        """What happened to each of them last, oldest first."""
        found: dict[str, list[Happening]] = {each: [] for each in runtime_ids}
        with self.database.connection() as connection:
            for start in range(0, len(runtime_ids), _IN_ONE):
                values = {"ids": json.dumps(list(runtime_ids[start : start + _IN_ONE])), "most": most}
                for runtime_id, at, status, detail in _RECENT_OF_ALL.run(connection, values):
                    found[runtime_id].append(Happening(at, status, detail))
        return found

    def note(self, runtime_id: str, detail: str) -> None:
        """Add to the runtime's history something that changes nothing of its state."""
        with self.database.connection() as connection:
            connection.execute(_NOTE, {"id": runtime_id, "at": time.time(), "detail": detail})

    def _all(self, query: sa.Select[Any], values: Mapping[str, Any] | None = None) -> list[Record]:
        with self.database.connection() as connection:
            return [_record(row._asdict()) for row in connection.execute(query, values)]


@lru_cache(maxsize=256)
def _update(columns: tuple[str, ...], statuses: tuple[str, ...], due: bool, returning: bool = True) -> Prepared:
    statement = sa.update(runtimes).where(runtimes.c.runtime_id == sa.bindparam("_id"))
    if statuses:
        statement = statement.where(_is_one_of(statuses))
    if due:
        statement = statement.where(runtimes.c.expires_at <= sa.bindparam("_due"))
    changed = statement.values({name: sa.bindparam(name) for name in columns})
    return Prepared(changed.returning(runtimes) if returning else changed)


def _values(record: Record) -> dict[str, Any]:
    return {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}


def _record(row: dict[str, Any]) -> Record:
    row["status"] = RuntimeStatus(row["status"])
    return Record(**row)


def _taken(error: IntegrityError | sqlite3.IntegrityError) -> Exception:
    text = str(error)
    if "runtimes.session_id" in text:
        return SessionTaken()
    if "runtimes.name" in text:
        return AliasTaken()
    return IdTaken()
