"""Columns for quotas and for the queue of starts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what a runtime may use, and where a start stands in the queue."""
    op.add_column("runtimes", sa.Column("cpus", sa.Float))
    op.add_column("runtimes", sa.Column("memory", sa.Integer))
    # What a start had asked for; a size with a unit stays unknown, and counts as without a limit until it ends.
    op.execute(
        "UPDATE runtimes SET cpus = json_extract(spec, '$.cpus'),"
        " memory = CASE WHEN json_type(spec, '$.memory') = 'integer' THEN json_extract(spec, '$.memory') END"
    )
    op.create_index(
        "usage", "runtimes", ["owner", "status", "cpus", "memory"], sqlite_where=sa.text("status <> 'removed'")
    )
    op.add_column("operations", sa.Column("stage", sa.Text))
    op.add_column("operations", sa.Column("queued_at", sa.Float))
    op.add_column("operations", sa.Column("turn", sa.Integer, nullable=False, server_default="0"))
