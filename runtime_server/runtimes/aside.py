"""What goes between a caller and an engine, put aside on the way: the engine never waits for the caller.

Docker holds a container's lock for as long as it packs or unpacks something of it (daemon/archive.go, seen in 20.10):
at a slow caller's pace, pausing, stopping and inspecting that container would wait as long.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from runtime_server.engine.files import ArchiveReader

CHUNK = 65536
IN_MEMORY = 1_048_576
"""Bytes that are kept in memory; more of them go into a temporary file."""
MOST_AHEAD = 2**30
"""Bytes that are read ahead; beyond them the engine waits after all."""


@contextmanager
def put_aside(chunks: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """All chunks, once the last of them has come; what they raise is raised before anything is handed on."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        for chunk in chunks:
            file.write(chunk)
        file.seek(0)
        yield iter(lambda: file.read(CHUNK), b"")


class Ahead:
    """Reads an archive as fast as it comes, in a thread where it is large; see ``ArchiveReader``.

    Args:
        source: the archive; closed as soon as it is read.
    """

    def __init__(self, source: ArchiveReader) -> None:
        self._source = source
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._changed = threading.Condition()
        self._filled = self._taken = 0
        self._over = self._closed = False
        self._error: Exception | None = None
        while not self._over and self._filled < IN_MEMORY:
            self._fill_once()
        if not self._over:
            threading.Thread(target=self._fill, name="read-ahead", daemon=True).start()

    def _fill(self) -> None:
        while not self._over:
            self._fill_once()

    def _fill_once(self) -> None:
        chunk = b""
        try:
            if not self._closed:
                chunk = self._source.read(CHUNK)
                self._keep(chunk)
        except Exception as error:  # also of a disk that is full
            self._error, chunk = error, b""
        if not chunk:
            self._source.close()
        with self._changed:
            self._over = not chunk
            self._drop()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._filled - self._taken < MOST_AHEAD)

    def _keep(self, chunk: bytes) -> None:
        with self._changed:
            self._file.seek(self._filled)
            self._file.write(chunk)
            self._filled += len(chunk)

    def read(self, size: int) -> bytes:
        """See ``ArchiveReader``."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._taken < self._filled)
            if self._taken < self._filled:
                self._file.seek(self._taken)
                found = self._file.read(min(size, self._filled - self._taken))
                self._taken += len(found)
                self._changed.notify_all()
                return found
        if self._error is not None:
            raise self._error
        return b""

    def close(self) -> None:
        """See ``ArchiveReader``; what the engine still sends ends with the next of it."""
        with self._changed:
            self._closed = True
            self._drop()
            self._changed.notify_all()

    def _drop(self) -> None:
        if self._closed and self._over:
            self._file.close()
