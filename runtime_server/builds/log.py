"""A build's log: a file of bounded size, and its last lines."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SUFFIX = ".log"
"""Of logs' names in the folder of builds."""
MAX_BYTES = 4 * 1_048_576
"""Of a log, over all attempts; what comes later is only remembered for its last lines."""
TAIL_LINES = 20
TAIL_BYTES = 4000

_CUT = b"\n[the log is cut here]\n"


class BuildLog:
    """Writes a log, appending to what an earlier attempt has left. A full disk costs the log, not the build.

    Args:
        path: of the file, made with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self._tail = b""
        self._descriptor: int | None = None
        self._left = 0
        with suppress(OSError):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._left = MAX_BYTES - os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """Add output."""
        self._tail = (self._tail + data)[-2 * TAIL_BYTES :]
        if self._descriptor is None or self._left <= 0:
            return
        whole = len(data) <= self._left
        kept = data if whole else data[: self._left] + _CUT
        self._left -= len(data)
        with suppress(OSError):
            os.write(self._descriptor, kept)

    def note(self, sentence: str) -> None:
        """Add a line of the server's own."""
        self.write(f"[runtime-server] {sentence}\n".encode())

    def tail(self) -> str:
        """The last lines of this attempt."""
        lines = [line for line in self._tail[-TAIL_BYTES:].decode("utf-8", "replace").splitlines() if line.strip()]
        return "\n".join(lines[-TAIL_LINES:])

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
