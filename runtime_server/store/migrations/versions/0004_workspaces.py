"""Workspaces: which runtime has which, and when each was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, the runtimes' column and the triggers that keep the one by the other."""
    op.add_column("runtimes", sa.Column("workspace", sa.Text))
    op.create_index("by_workspace", "runtimes", ["workspace"], sqlite_where=sa.text("workspace IS NOT NULL"))
    op.create_table(
        "workspaces",
        sa.Column("volume", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("last_used_at", sa.Float, nullable=False),
    )
    op.create_index("unused", "workspaces", ["last_used_at"])
    op.execute(
        "CREATE TRIGGER workspace_of_insert AFTER INSERT ON runtimes WHEN NEW.workspace IS NOT NULL BEGIN"
        " INSERT INTO workspaces (volume, owner, last_used_at) VALUES (NEW.workspace, NEW.owner, NEW.seen_at)"
        " ON CONFLICT (volume) DO UPDATE SET last_used_at = max(last_used_at, excluded.last_used_at); END"
    )
    op.execute(
        "CREATE TRIGGER workspace_of_update AFTER UPDATE OF status ON runtimes"
        " WHEN NEW.workspace IS NOT NULL AND OLD.status <> NEW.status"
        " AND NEW.status IN ('starting', 'stopped', 'error', 'removed') BEGIN"
        " UPDATE workspaces SET last_used_at = max(last_used_at, NEW.seen_at) WHERE volume = NEW.workspace; END"
    )
