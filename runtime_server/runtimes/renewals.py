"""Ends of life that were renewed, kept beside the database: a container's label still has the first one.

Lose the database, and a runtime that was renewed would end at the time that it was started with.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from runtime_server.paths import put_whole


class Renewals:
    """A file for each renewed runtime.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, runtime_id: str, expires_at: float | None) -> None:
        """Remember the new end, Unix seconds; None: never. On a full disk the database alone knows it."""
        with suppress(OSError):
            put_whole(self._folder / runtime_id, json.dumps(expires_at))

    def end(self, runtime_id: str, first: float | None) -> float | None:
        """The runtime's end: the renewed one, or the ``first``."""
        try:
            kept = json.loads((self._folder / runtime_id).read_text())
        except (OSError, ValueError):
            return first
        return None if kept is None else float(kept)

    def forget(self, runtime_id: str) -> None:
        """Remember nothing of it any more."""
        (self._folder / runtime_id).unlink(missing_ok=True)
