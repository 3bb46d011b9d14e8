"""A build context on its way from a request into a file: decoded, measured and digested as it comes."""

from __future__ import annotations

import binascii
import os
import uuid
from hashlib import sha256
from pathlib import Path

from runtime_server.errors import BodyTooLarge, BuildContextInvalid, StorageUnavailable

SUFFIX = ".context"
"""Of contexts' names in the folder of builds."""

_GZIP = b"\x1f\x8b"
_SPACE = b" \t\r\n"


class Upload:
    """A context that is being received, in a file of mode 0600. A context manager: what isn't kept is removed.

    Args:
        folder: where the file lies.
        limit: bytes of the decoded context.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        self._limit = limit
        self._size = 0
        self._digest = sha256()
        self._decode: bool | None = None
        self._rest = b""
        self._padded = False
        self._kept = False
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unavailable() from error
        self._file = os.fdopen(descriptor, "wb")

    @property
    def digest(self) -> str:
        """Of the decoded context, as ``sha256:…``: the same however it was sent."""
        return f"sha256:{self._digest.hexdigest()}"

    @property
    def began(self) -> bool:
        """Whether anything has come."""
        return self._decode is not None or bool(self._rest)

    def write(self, data: bytes) -> None:
        """Take the next bytes: base64 text, or, where they begin as gzip does, the context itself.

        Raises:
            BodyTooLarge: it is larger than the limit.
            BuildContextInvalid: it is neither.
            StorageUnavailable: the disk is full.
        """
        if self._decode is None:
            head = self._rest + data
            if len(head) < len(_GZIP):
                self._rest = head
                return
            self._decode, self._rest, data = not head.startswith(_GZIP), b"", head
        if self._decode:
            data = self._decoded(data)
        self._size += len(data)
        if self._size > self._limit:
            raise BodyTooLarge(f"The build context may have at most {self._limit} bytes.", limit=self._limit)
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise _unavailable() from error

    def _decoded(self, data: bytes) -> bytes:
        text = self._rest + data.translate(None, _SPACE)
        whole = len(text) - len(text) % 4
        text, self._rest = text[:whole], text[whole:]
        if not text:
            return b""
        if self._padded:
            raise _not_base64()
        self._padded = text.endswith(b"=")
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            raise _not_base64() from None

    def finish(self) -> None:
        """There is no more.

        Raises:
            BuildContextInvalid: it ends within a group of base64, or is empty.
            StorageUnavailable: the disk is full.
        """
        if self._rest:
            raise _not_base64()
        if not self._size:
            raise BuildContextInvalid("The build context is empty.", member=None)
        try:
            self._file.close()
        except OSError as error:
            raise _unavailable() from error

    def keep(self) -> None:
        """Leave the file where it is."""
        self._kept = True

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        except OSError:
            self._kept = False
        if not self._kept:
            self.path.unlink(missing_ok=True)


def _not_base64() -> BuildContextInvalid:
    return BuildContextInvalid("The build context is neither base64 text nor gzip.", member=None)


def _unavailable() -> StorageUnavailable:
    return StorageUnavailable("The build context can't be stored.", retry_after=30)
