"""Statements that are compiled once and run on the driver.

PERF: what SQLAlchemy does for each execution (looking the compiled form up, making a context and a result) costs
several times what SQLite does for a row by its key, and a pause makes five such calls, a start that queues thirty.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

_DIALECT = SQLiteDialect_pysqlite(paramstyle="named")
_Processor = Callable[[Any], Any]


def driver(connection: sa.Connection) -> sqlite3.Connection:
    """The driver's own connection."""
    found: Any = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


class Prepared:
    """A statement with named parameters, and the conversions that its columns' types ask for.

    Args:
        statement: a select, insert, update or delete of Core. Its values are ``bindparam``s, or the same each time.
    """

    def __init__(self, statement: sa.sql.expression.Executable) -> None:
        assert isinstance(statement, sa.sql.ClauseElement)
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        self.sql = str(compiled)
        self._fixed = {name: bound.value for bound, name in compiled.bind_names.items() if not bound.required}
        self._into = _used({name: _bind(bound.type) for bound, name in compiled.bind_names.items()})
        columns = compiled._result_columns or []
        self.names = tuple(str(column.keyname) for column in columns)
        self._out = [(index, found) for index, column in enumerate(columns) if (found := _result(column.type))]

    @classmethod
    def text(cls, sql: str) -> Prepared:
        """A statement in SQLite's own words: no value is converted, and its rows have no names (see ``rows``)."""
        return cls(sa.text(sql))

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> sqlite3.Cursor:
        """Execute it."""
        parameters = {**self._fixed, **values}
        for name, convert in self._into.items():
            parameters[name] = convert(parameters[name])
        found: sqlite3.Cursor = driver(connection).execute(self.sql, parameters)
        return found

    def rows(
        self, connection: sa.Connection, values: Mapping[str, Any] = MappingProxyType({})
    ) -> list[tuple[Any, ...]]:
        """All rows as the driver gives them, unlike ``first`` neither named nor converted."""
        return self.run(connection, values).fetchall()

    def first(self, connection: sa.Connection, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The first row by column names, None where there is none. Reads to the end, which ends the statement."""
        rows = self.rows(connection, values)
        if not rows:
            return None
        row = list(rows[0])
        for index, convert in self._out:
            row[index] = convert(row[index])
        return dict(zip(self.names, row, strict=True))


def _bind(kind: sa.types.TypeEngine[Any]) -> _Processor | None:
    return kind.dialect_impl(_DIALECT).bind_processor(_DIALECT)


def _result(kind: sa.types.TypeEngine[Any]) -> _Processor | None:
    convert = kind.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
    if convert is None or not isinstance(kind, sa.JSON):
        return convert

    def read(text: Any) -> Any:
        # PERF: most of a row's JSON columns are empty.
        return {} if text == "{}" else None if text is None else convert(text)

    return read


def _used(processors: Mapping[str, _Processor | None]) -> dict[str, _Processor]:
    return {name: found for name, found in processors.items() if found is not None}
