"""The tables. Alembic's migrations make them, and the triggers that write ``history``; a test compares the two.

The state history writes itself, so that no caller can forget it and a change of state stays one statement.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

ALIAS_HELD = (
    "name IS NOT NULL AND status NOT IN ('removed', 'error') AND NOT (status = 'stopping' AND stopped_at IS NOT NULL)"
)
"""Which rows hold their alias: a failed start or a removed runtime gives it back, as does an ended one whose removal
has begun (it is ``stopping`` again), since its alias may have gone to another by then."""

SESSION_HELD = (
    "session_id IS NOT NULL AND (status IN ('starting', 'running', 'paused')"
    " OR (status = 'stopping' AND stopped_at IS NULL))"
)
"""Which rows hold their session: the live ones, until they have ended."""

runtimes = sa.Table(
    "runtimes",
    metadata,
    sa.Column("runtime_id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("session_id", sa.Text),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("status_detail", sa.Text),
    sa.Column("container_id", sa.Text),
    sa.Column("image", sa.Text, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("ports", sa.JSON, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("session_api_key", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("stopped_at", sa.Float),
    sa.Column("removed_at", sa.Float),
    sa.Column("expires_at", sa.Float),
    sa.Column("retention", sa.Float),
    sa.Column("auto_remove", sa.Boolean, nullable=False),
    sa.Column("exit", sa.JSON(none_as_null=True)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("restart_count", sa.Integer, nullable=False),
    sa.Column("logs", sa.Text),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("cpus", sa.Float),
    sa.Column("memory", sa.Integer),
    sa.Column("restart_reasons", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("note", sa.Text),
    sa.Column("announced", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("workspace", sa.Text),
    sa.Column("address", sa.Text),
    sa.Column("pid", sa.Integer),
    sa.Column("pausing", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("active_at", sa.Float),
    sa.Index("alias", "owner", "name", unique=True, sqlite_where=sa.text(ALIAS_HELD)),
    sa.Index("session", "owner", "session_id", unique=True, sqlite_where=sa.text(SESSION_HELD)),
    sa.Index("page", "owner", "created_at", "runtime_id"),
    sa.Index("expiry", "expires_at", sqlite_where=sa.text("expires_at IS NOT NULL")),
    sa.Index("by_status", "status"),
    sa.Index("usage", "owner", "status", "cpus", "memory", sqlite_where=sa.text("status <> 'removed'")),
    sa.Index("by_workspace", "workspace", sqlite_where=sa.text("workspace IS NOT NULL")),
)

history = sa.Table(
    "history",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("runtime_id", sa.Text, nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("detail", sa.Text),
    # An id is never used twice, not even that of the last row: followers go on from the last one that they have seen.
    sqlite_autoincrement=True,
)

workspaces = sa.Table(
    "workspaces",
    metadata,
    sa.Column("volume", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("last_used_at", sa.Float, nullable=False),
    sa.Index("unused", "last_used_at"),
)
"""What a volume's labels can't tell. Triggers write it when a runtime that has the workspace begins or ends."""

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("lease_until", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("fingerprint", sa.Text),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("answer", sa.LargeBinary),
    sa.Column("progress", sa.Text),
    sa.Column("stage", sa.Text),
    sa.Column("queued_at", sa.Float),
    sa.Column("turn", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("kind", "owner", "key", name="one_at_a_time"),
)
