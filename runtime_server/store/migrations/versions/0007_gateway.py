"""Where a runtime's container answers, and whether a request may still be sent there."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runtimes", sa.Column("address", sa.Text))
    op.add_column("runtimes", sa.Column("pid", sa.Integer))
    op.add_column("runtimes", sa.Column("pausing", sa.Boolean, nullable=False, server_default="0"))
    op.add_column("runtimes", sa.Column("active_at", sa.Float))
