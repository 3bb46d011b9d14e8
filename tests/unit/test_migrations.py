from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from runtime_server.settings import Settings
from runtime_server.state import prepare
from runtime_server.store.migrate import migrate
from runtime_server.store.records import SchemaTooNew
from runtime_server.store.schema import metadata


def test_migrations_make_the_schema(database: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{database}", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        made: dict[str, str] = dict(
            connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index'").all()
        )
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()
    for table in metadata.tables.values():
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            if where is not None:  # which Alembic doesn't compare
                assert made[str(index.name)].endswith(f"WHERE {where}"), index.name


def test_several_prepare_at_once_and_agree(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state_dir": tmp_path / "state"})
    with ThreadPoolExecutor(3) as pool:  # each migrates in a process of its own
        states = list(pool.map(prepare, [settings] * 3))
    assert len(set(states)) == 1
    state = states[0]
    assert state.key_file
    assert not state.rebuilding.exists()
    for path in [state.directory, *state.directory.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_database_of_a_newer_server_is_refused(database: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{database}", poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(SchemaTooNew, match=r"state\.db was made by a newer version"):
        migrate(database)


def test_a_broken_database_says_why(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("this is no database, though it is long enough to be taken for one" * 20)
    with pytest.raises(RuntimeError, match="not a database"):
        migrate(path)
