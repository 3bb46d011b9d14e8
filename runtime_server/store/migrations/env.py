"""Alembic's environment: one SQLite file, given by ``store.migrate``."""

import sqlalchemy as sa
from alembic import context

from runtime_server.store.schema import metadata

engine = sa.create_engine(f"sqlite:///{context.config.attributes['path']}")
with engine.connect() as connection:
    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
engine.dispose()
