"""Ids of history that are never used twice, so that followers can say how far they are."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INSERT = (
    "INSERT INTO history (runtime_id, at, status, detail)"
    " VALUES (NEW.runtime_id, NEW.seen_at, NEW.status, NEW.status_detail); END"
)
_TRIGGERS = {
    "history_of_insert": f"AFTER INSERT ON runtimes BEGIN {_INSERT}",
    "history_of_update": f"AFTER UPDATE OF status ON runtimes WHEN OLD.status <> NEW.status BEGIN {_INSERT}",
    "history_of_delete": "AFTER DELETE ON runtimes BEGIN DELETE FROM history WHERE runtime_id = OLD.runtime_id; END",
}


def upgrade() -> None:
    """Make the table anew: SQLite can't change how a key is made."""
    for name in _TRIGGERS:
        op.execute(f"DROP TRIGGER {name}")
    op.create_table(
        "history_anew",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("runtime_id", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sqlite_autoincrement=True,
    )
    op.execute("INSERT INTO history_anew SELECT id, runtime_id, at, status, detail FROM history ORDER BY id")
    op.drop_table("history")
    op.rename_table("history_anew", "history")
    op.create_index("ix_history_runtime_id", "history", ["runtime_id"])
    for name, text in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {text}")
