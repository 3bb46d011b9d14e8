"""No index that nothing asks: each is one more page to write, for every call with an Idempotency-Key twice."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop it."""
    op.drop_index("by_holder", "operations")
