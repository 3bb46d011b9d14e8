"""SQLite as this service needs it: WAL, immediate writes, failures as ``StorageUnavailable``."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from runtime_server.errors import StorageUnavailable
from runtime_server.metrics.timings import STORE, spent
from runtime_server.store.statements import driver

BUSY_TIMEOUT = 10.0
"""Seconds that a writer waits for another."""


class Database:
    """Connections to one SQLite file; opened lazily, so that it survives a fork before its first use.

    Args:
        path: the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # PERF: whole connections are kept here: handing one out by SQLAlchemy's pool costs as much as a query.
        self._idle: list[sa.Connection] = []
        self._engine = sa.create_engine(
            f"sqlite:///{path}",
            poolclass=sa.pool.NullPool,
            # One statement is one transaction; as an option of each connection it would cost a PRAGMA each time.
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # rows hold secrets, and errors are logged
            connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
        )
        sa.event.listen(self._engine, "connect", _set_up)

    def connection(self) -> AbstractContextManager[sa.Connection]:
        """A connection on which each statement is a transaction."""
        return _Lent(self._engine, self._idle)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A write transaction: ``BEGIN IMMEDIATE``, since a deferred one can lose its update to another's."""
        with self.connection() as connection:
            direct = driver(connection)  # PERF: see ``statements``
            direct.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                # SQLite ends a transaction by itself on some errors, a full disk among them.
                if direct.in_transaction:
                    direct.execute("ROLLBACK")
                raise
            direct.execute("COMMIT")

    def close(self) -> None:
        """Close the connections that aren't in use."""
        while self._idle:
            self._idle.pop().close()
        self._engine.dispose()


def _set_up(connection: sqlite3.Connection, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}").close()


class _Lent:
    """A connection for as long as a ``with`` block lasts; the driver's errors come out as ``StorageUnavailable``.

    PERF: a class, since a generator as context manager costs as much as a short query, and a pause has four of them.
    """

    __slots__ = ("_began", "_connection", "_engine", "_idle")

    def __init__(self, engine: sa.Engine, idle: list[sa.Connection]) -> None:
        self._engine = engine
        self._idle = idle

    def __enter__(self) -> sa.Connection:
        self._began = time.perf_counter()
        try:
            self._connection = self._idle.pop()
        except IndexError:
            try:
                self._connection = self._engine.connect()
            except (DBAPIError, sqlite3.Error) as error:
                raise _unavailable() from error
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        spent(STORE, time.perf_counter() - self._began)
        if error is None:
            self._idle.append(self._connection)
            return
        try:
            self._connection.close()  # whatever state it is in
        except (DBAPIError, sqlite3.Error) as failed:
            raise _unavailable() from failed
        if isinstance(error, DBAPIError | sqlite3.Error) and not isinstance(error, _RULES):
            raise _unavailable() from error


_RULES = (IntegrityError, sqlite3.IntegrityError)
"""A rule of the tables is broken, which tells the caller something."""


def _unavailable() -> StorageUnavailable:
    return StorageUnavailable("The server's records can't be read or written now.", retry_after=2)
