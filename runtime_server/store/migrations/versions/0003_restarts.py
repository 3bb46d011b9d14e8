"""Why a runtime was restarted, and what it got otherwise than it asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runtimes", sa.Column("restart_reasons", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("runtimes", sa.Column("note", sa.Text))
