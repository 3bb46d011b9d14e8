"""Migrations, in a process of their own, so that workers never load Alembic.

Run as ``python -m runtime_server.store.migrate DATABASE``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runtime_server.store.records import SchemaTooNew

TOO_NEW = 3
"""Exit status for a database that a newer server made."""


def migrate(path: Path) -> None:
    """Bring the database to this version's schema, making it where there is none, with file mode 0600.

    Raises:
        SchemaTooNew: a newer server made it.
        RuntimeError: the migration failed; its output is in the message.
    """
    path.touch(mode=0o600)
    path.chmod(0o600)
    done = subprocess.run(  # noqa: S603 - our own module, by this interpreter
        [sys.executable, "-m", "runtime_server.store.migrate", os.fspath(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )
    if done.returncode == TOO_NEW:
        raise SchemaTooNew(f"{path} was made by a newer version of Runtime Server; use that version or a later one.")
    if done.returncode:
        raise RuntimeError(f"migrating {path} failed: {done.stderr.strip()[-2000:]}")


def _upgrade(path: str) -> int:
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", os.fspath(Path(__file__).with_name("migrations")))
    config.attributes["path"] = path
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if "Can't locate revision" in str(error):
            return TOO_NEW
        raise
    return 0


if __name__ == "__main__":
    sys.exit(_upgrade(sys.argv[1]))
