"""WebSocket frames (RFC 6455), as far as an echo needs them. Also runs in the container."""

from __future__ import annotations

import base64
import hashlib
import struct

TEXT, CLOSE = 1, 8
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: str) -> str:
    """``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode()).digest()).decode()


def frame(payload: bytes, *, opcode: int = TEXT, mask: bytes = b"") -> bytes:
    """One frame, masked where a mask of four bytes is given, as a client must."""
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | 127, size)
    return head + mask + (masked(payload, mask) if mask else payload)


def masked(payload: bytes, mask: bytes) -> bytes:
    """The payload under the mask, or out of it."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def lengths(head: bytes) -> tuple[int, int, bool]:
    """Of a frame's first two bytes: its opcode, how many more bytes tell its size, and whether it is masked."""
    size = head[1] & 0x7F
    return head[0] & 0x0F, {126: 2, 127: 8}.get(size, 0), bool(head[1] & 0x80)
