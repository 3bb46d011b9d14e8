"""The first schema: runtimes, their history, operations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, their indexes and the triggers that write the history."""
    op.create_table(
        "runtimes",
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
        sa.Column("exit", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("restart_count", sa.Integer, nullable=False),
        sa.Column("logs", sa.Text),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    held = (
        "name IS NOT NULL AND status NOT IN ('removed', 'error')"
        " AND NOT (status = 'stopping' AND stopped_at IS NOT NULL)"
    )
    live = (
        "session_id IS NOT NULL AND (status IN ('starting', 'running', 'paused')"
        " OR (status = 'stopping' AND stopped_at IS NULL))"
    )
    op.create_index("alias", "runtimes", ["owner", "name"], unique=True, sqlite_where=sa.text(held))
    op.create_index("session", "runtimes", ["owner", "session_id"], unique=True, sqlite_where=sa.text(live))
    op.create_index("page", "runtimes", ["owner", "created_at", "runtime_id"])
    op.create_index("expiry", "runtimes", ["expires_at"], sqlite_where=sa.text("expires_at IS NOT NULL"))
    op.create_index("by_status", "runtimes", ["status"])
    op.create_table(
        "history",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("runtime_id", sa.Text, nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
    )
    op.create_table(
        "operations",
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
        sa.UniqueConstraint("kind", "owner", "key", name="one_at_a_time"),
    )
    op.create_index("by_holder", "operations", ["holder", "done"])
    insert = (
        "INSERT INTO history (runtime_id, at, status, detail)"
        " VALUES (NEW.runtime_id, NEW.seen_at, NEW.status, NEW.status_detail); END"
    )
    op.execute(f"CREATE TRIGGER history_of_insert AFTER INSERT ON runtimes BEGIN {insert}")
    op.execute(
        "CREATE TRIGGER history_of_update AFTER UPDATE OF status ON runtimes"
        f" WHEN OLD.status <> NEW.status BEGIN {insert}"
    )
    op.execute(
        "CREATE TRIGGER history_of_delete AFTER DELETE ON runtimes BEGIN"
        " DELETE FROM history WHERE runtime_id = OLD.runtime_id; END"
    )
