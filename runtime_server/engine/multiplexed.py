"""The framing in which an engine sends stdout and stderr over one connection, without I/O.

Each frame has a header of eight bytes, the stream's number, three zeros and the payload's length as a big-endian
32-bit integer (Docker Engine API 1.41, "Attach to a container", stream format; Podman's is the same).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from runtime_server.errors import EngineFailed

STREAMS = {0: "stdin", 1: "stdout", 2: "stderr", 3: "error"}
"""The streams' names by number; the engine's own complaints come as the last (moby's ``stdcopy.Systemerr``)."""
MOST = 64 * 1024 * 1024
"""Bytes of one frame: engines send at most a log entry, or 32 KiB of output, so more is no frame."""

_HEADER = struct.Struct(">BxxxL")


class Demultiplexer:
    """Takes bytes as they come, gives frames.

    Args:
        whole: give only whole frames; else also the parts of one that are there.
    """

    def __init__(self, *, whole: bool = True) -> None:
        self._whole = whole
        self._buffer = bytearray()
        self._stream = ""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The frames that these bytes complete, as stream and payload; empty ones are left out.

        Raises:
            EngineFailed: the bytes aren't frames, or the engine says in one what went wrong with it.
        """
        self._buffer += data
        while (part := self._next()) is not None:
            stream, payload = part
            if stream == "error":
                raise EngineFailed("The container engine can't read the container's output.")
            if payload:
                yield stream, payload

    def _next(self) -> tuple[str, bytes] | None:
        if not self._left and not self._begin():
            return None
        ready = min(self._left, len(self._buffer))
        if self._left and (not ready or (self._whole and ready < self._left)):
            return None
        payload = bytes(self._buffer[:ready])
        del self._buffer[:ready]
        self._left -= ready
        return self._stream, payload

    def _begin(self) -> bool:
        if len(self._buffer) < _HEADER.size:
            return False
        number, self._left = _HEADER.unpack_from(self._buffer)
        del self._buffer[: _HEADER.size]
        if number not in STREAMS or self._left > MOST:
            raise EngineFailed("The container engine sent output that can't be read.")
        self._stream = STREAMS[number]
        return True
