"""Archives as the Engine API has them: its words for what is at a path, and listings out of a tar. Pure.

Engine API 1.41, "Get information about files in a container": ``X-Docker-Container-Path-Stat``.
"""

from __future__ import annotations

import base64
import json
import posixpath
import stat
import tarfile
from typing import Any

from runtime_server.engine.files import FileEntry, FileKind, Readable
from runtime_server.engine.translate import unix_time

STAT = "X-Docker-Container-Path-Stat"
"""The header that says what is at a path."""

_FOLDER, _LINK = 1 << 31, 1 << 27
_NO_FILE = _FOLDER | _LINK | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 19
_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
"""Bits of Go's ``fs.FileMode``; the lowest nine are Unix's."""


def file_entry(header: str) -> FileEntry:
    """What is at a path, from the header."""
    found: dict[str, Any] = json.loads(base64.b64decode(header))
    mode = int(found.get("mode") or 0)
    kind = FileKind.FOLDER if mode & _FOLDER else FileKind.LINK if mode & _LINK else FileKind.OTHER
    if not mode & _NO_FILE:
        kind = FileKind.FILE
    return FileEntry(
        name=str(found.get("name") or ""),
        kind=kind,
        size=int(found.get("size") or 0) if kind is FileKind.FILE else 0,
        mode=mode & 0o777 | sum(unix for bit, unix in _SPECIAL if mode & bit),
        mtime=unix_time(found.get("mtime")) or 0.0,
        target=str(found.get("linkTarget") or "") or None,
    )


def of_tar(entry: tarfile.TarInfo) -> FileEntry:
    """What a tar says of one of its entries."""
    kind = FileKind.OTHER
    if entry.isdir():
        kind = FileKind.FOLDER
    elif entry.issym():
        kind = FileKind.LINK
    elif entry.isreg() or entry.islnk():
        kind = FileKind.FILE
    return FileEntry(
        name=posixpath.basename(entry.name.rstrip("/")),
        kind=kind,
        size=entry.size if kind is FileKind.FILE else 0,
        mode=stat.S_IMODE(entry.mode),
        mtime=entry.mtime,
        ids=(entry.uid, entry.gid),
        target=entry.linkname if entry.issym() else None,
    )


def children(archive: Readable, most: int, most_bytes: int) -> tuple[list[FileEntry], bool]:
    """What is in the folder that a tar has, without what is below, and whether there may be more.

    The whole has to be read, since what is below comes in between: beyond ``most_bytes`` that is given up.
    """
    found: dict[str, FileEntry] = {}
    with tarfile.open(fileobj=archive, mode="r|") as tar:  # type: ignore[call-overload]
        while (entry := tar.next()) is not None:
            tar.members = []  # or it keeps them all
            if tar.offset > most_bytes:
                return _sorted(found)[:most], True
            parts = [part for part in entry.name.split("/") if part not in ("", ".")]
            if len(parts) == 2:
                found[parts[1]] = of_tar(entry)
    return _sorted(found)[:most], len(found) > most


def _sorted(found: dict[str, FileEntry]) -> list[FileEntry]:
    return [found[name] for name in sorted(found)]
