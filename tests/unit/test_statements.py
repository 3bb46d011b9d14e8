"""Statements that go straight to the driver, and the transactions around them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from runtime_server.errors import StorageUnavailable
from runtime_server.store.database import Database
from runtime_server.store.statements import Prepared, driver

things = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("open", sa.Boolean),
    sa.Column("facts", sa.JSON),
    sa.Column("stage", sa.String),
)
INSERT = Prepared(sa.insert(things))
SELECT = Prepared(sa.select(things).where(things.c.name == sa.bindparam("name")))
CLOSE = Prepared(
    sa.update(things).where(things.c.name == sa.bindparam("_name")).values(open=False, stage=None).returning(things)
)
NAMES = Prepared.text("SELECT name, open FROM things WHERE open = :open ORDER BY 1")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(tmp_path / "things.db")
    with made.connection() as connection:
        driver(connection).execute(str(sa.schema.CreateTable(things)))
        for name in ("a", "b"):
            INSERT.run(connection, {"name": name, "open": True, "facts": {"n": [1]}, "stage": "queued"})
    return made


def test_values_are_converted_both_ways(database: Database) -> None:
    with database.connection() as connection:
        found = SELECT.first(connection, {"name": "a"})
        assert found == {"name": "a", "open": True, "facts": {"n": [1]}, "stage": "queued"}
        assert SELECT.first(connection, {"name": "c"}) is None


def test_values_that_are_the_same_each_time_are_part_of_the_statement_none_too(database: Database) -> None:
    with database.connection() as connection:
        assert CLOSE.first(connection, {"_name": "a"}) == {
            "name": "a",
            "open": False,
            "facts": {"n": [1]},
            "stage": None,
        }


def test_sqlites_own_words_give_rows_as_they_are(database: Database) -> None:
    with database.connection() as connection:
        assert NAMES.rows(connection, {"open": 1}) == [("a", 1), ("b", 1)]


def test_a_transaction_is_whole_or_not_at_all(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            CLOSE.first(connection, {"_name": "a"})
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with database.transaction() as connection:
        assert NAMES.rows(connection, {"open": 1}) == [("a", 1), ("b", 1)]
        CLOSE.first(connection, {"_name": "b"})
    with database.connection() as connection:
        assert NAMES.rows(connection, {"open": 1}) == [("a", 1)]


def test_an_error_with_which_sqlite_ends_the_transaction_is_told_as_it_is(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            driver(connection).execute("ROLLBACK")  # as SQLite does on a full disk
            driver(connection).execute("SELECT * FROM nowhere")

    with pytest.raises(StorageUnavailable) as caught:
        fail()
    assert "no such table: nowhere" in str(caught.value.__cause__)
    with database.transaction() as connection:
        assert NAMES.rows(connection, {"open": 1}) == [("a", 1), ("b", 1)]


def test_errors_of_both_ways_are_the_storages(database: Database) -> None:
    for run in (lambda c: driver(c).execute("nonsense"), lambda c: c.exec_driver_sql("nonsense")):
        with pytest.raises(StorageUnavailable), database.connection() as connection:
            run(connection)
