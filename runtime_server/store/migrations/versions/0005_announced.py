"""The address that callers of a session's start were told."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("runtimes", sa.Column("announced", sa.JSON, nullable=False, server_default="{}"))
