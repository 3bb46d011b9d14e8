"""Bodies that are too large for memory, read as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

from runtime_server.errors import BadRequest, FileTooLarge
from runtime_server.runtimes.aside import put_aside
from runtime_server.web.body import check_uncompressed
from runtime_server.web.context import ApiRequest
from runtime_server.web.peers import Peer

CHUNK = 65536
PIECE_SECONDS = 30.0
"""Seconds in which each ``CHUNK`` must come: who sends more slowly doesn't keep a thread."""
LOOK = 2.0
"""Seconds between two looks at that."""


class _Pace:
    """Ends the reading of a body that comes too slowly.

    A read of the server's goes on until it has all that was asked for, however few bytes come at a time; no timeout
    of the connection bounds that.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._due: float | None = None
        self._over = threading.Event()
        self.late = False
        threading.Thread(target=self._watch, name="upload-pace", daemon=True).start()

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            due = self._due
            if due is not None and time.monotonic() > due:
                self.late = True
                self._peer.hear_no_more()
                return

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Within this, one piece is waited for."""
        self._due = time.monotonic() + PIECE_SECONDS
        try:
            yield
        finally:
            self._due = None

    def close(self) -> None:
        """Watch no longer."""
        self._over.set()


class Upload:
    """A request's body. For one thread; to be closed.

    Args:
        req: the request.
        limit: bytes that it may have.

    Raises:
        FileTooLarge: it says itself that it has more.
        UnsupportedMediaType: it is compressed.
    """

    def __init__(self, req: ApiRequest, limit: int) -> None:
        check_uncompressed(req)
        self.length = req.content_length
        self._limit = limit
        if self.length is not None and self.length > limit:
            raise self._too_large()
        if self.length is None and not req.env.get("wsgi.input_terminated"):
            self.length = 0
        self._stream: IO[bytes] = req.stream if self.length is None else req.bounded_stream  # type: ignore[assignment]
        self._read = 0
        self._pace = _Pace(Peer(req.env))

    def close(self) -> None:
        """Wait for no more of it."""
        self._pace.close()

    def _too_large(self) -> FileTooLarge:
        return FileTooLarge(f"At most {self._limit} bytes may be sent.", limit=self._limit)

    def read(self, size: int) -> bytes:
        """At most so many of the next bytes, none at the end.

        Raises:
            BadRequest: it ended early, came too slowly, or can't be read.
            FileTooLarge: it has more than it may have.
        """
        try:
            with self._pace.piece():
                found = self._stream.read(min(size, CHUNK))
        except Exception as error:
            # Servers raise errors of their own for a peer that left or that broke the chunks' framing.
            raise BadRequest("The body can't be read to its end.") from error
        if self._pace.late:
            raise BadRequest(f"The body comes too slowly: {CHUNK} bytes must come within {PIECE_SECONDS:.0f} s.")
        self._read += len(found)
        if self._read > self._limit:
            raise self._too_large()
        if not found and size and self.length is not None and self._read < self.length:
            raise BadRequest("The body ended early.")
        return found

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces."""
        while chunk := self.read(CHUNK):
            yield chunk

    def whole(self) -> Whole:
        """All of the body, put aside until it is whole, with its length."""
        return Whole(self)


class Whole:
    """A body that has come to its end; to be closed."""

    def __init__(self, upload: Upload) -> None:
        self._aside = ExitStack()
        self._chunks = self._aside.enter_context(put_aside(self._counted(upload)))

    def _counted(self, upload: Upload) -> Iterator[bytes]:
        self.length = 0
        for chunk in upload.chunks():
            self.length += len(chunk)
            yield chunk

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces, once."""
        return self._chunks

    def close(self) -> None:
        """Drop what was put aside."""
        self._aside.close()
