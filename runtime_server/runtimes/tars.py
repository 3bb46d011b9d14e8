"""Tars that callers send, read with suspicion, and files as tars. Pure, but for the reading.

A tar is never handed on as it came: each entry is read, judged, and written anew. What an engine would do with tricks
in one it does within the container's root; this keeps them from getting that far:

- absolute names and ``..`` are refused, and names that go through a link of the same tar;
- of links, hard ones must lead to what the tar had before; symbolic ones may lead anywhere, since nothing follows
  them here, and within a container they lead nowhere else;
- devices, pipes and sparse files are refused;
- set-user-id and set-group-id bits are taken off: files may be on a volume that is the host's folder;
- sizes and numbers of entries are limited, and so are names and headers, which are kept in memory;
- times and owners that no engine could write are refused, or, times, taken for none.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime_server.engine.files import Ids, Readable
from runtime_server.errors import ArchiveInvalid, FileTooLarge

CHUNK = 65536
BLOCK = tarfile.BLOCKSIZE
MAX_ENTRIES = 200_000
MAX_HEADER = 65536
"""Bytes of a header beside an entry's own."""
MAX_GLOBAL = 16
"""Headers about all entries, whose values tarfile gathers."""
MAX_PATH = 4096
"""Characters of a name or a link's target; as Linux has it."""
MAX_DEPTH = 128
"""Folders on the way to an entry."""
MAX_NAMES = 32 * 2**20
"""Characters of all names."""
MAX_ID = 2**32 - 2
"""Of users and groups; the number above it stands for nobody."""
MAX_TIME = 2**33
"""Unix seconds that a tar's plainest form can say: up to the year 2242."""
MODE = 0o1777
"""Permissions and the sticky bit."""

_UNREADABLE = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)
"""What tarfile raises for a tar that makes no sense."""
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Entry(tarfile.TarInfo):
    """Refuses headers that are too large before they are read, and those that tarfile would take for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile, /) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
            raise ArchiveInvalid("The body isn't a tar, or ends early.") from None

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in _HEADERS and self.size > MAX_HEADER:
            raise ArchiveInvalid("A header of the archive is too large.")
        if self.type == tarfile.XGLTYPE:
            tar.globals_seen = getattr(tar, "globals_seen", 0) + 1  # type: ignore[attr-defined]
            if tar.globals_seen > MAX_GLOBAL:  # type: ignore[attr-defined]
                raise ArchiveInvalid("The archive has too many headers that are about all of it.")
        return super()._proc_member(tar)  # type: ignore[misc]


@dataclass(slots=True)
class Unpacked:
    """What has been in a tar so far."""

    entries: int = 0
    size: int = 0


def checked(
    source: Readable, *, limit: int, prefix: str = "", ids: Ids | None = None, count: Unpacked | None = None
) -> Iterator[bytes]:
    """The tar anew, in chunks, as far as it is good.

    Args:
        source: the tar, not compressed.
        limit: bytes of all its files together.
        prefix: put before each name.
        ids: the owner of all entries; None: as the tar says.
        count: is kept up to date.

    Raises:
        ArchiveInvalid: it isn't a tar, or has tricks in it.
        FileTooLarge: it has too much in it.
    """
    count, names = Unpacked() if count is None else count, _Names()
    try:
        with tarfile.open(fileobj=source, mode="r|", tarinfo=_Entry) as tar:  # type: ignore[call-overload]
            while (entry := tar.next()) is not None:
                tar.members = []  # or it keeps them all
                count.entries += 1
                if count.entries > MAX_ENTRIES:
                    raise ArchiveInvalid(f"The archive has more than {MAX_ENTRIES} entries.")
                name = names.judged(entry)
                if not name:
                    continue  # the folder itself
                count.size += entry.size if entry.isreg() else 0
                if count.size > limit:
                    raise FileTooLarge(f"At most {limit} bytes may be sent.", limit=limit)
                yield _header(entry, prefix, name, ids)
                if entry.isreg():
                    yield from _content(tar, entry)
    except _UNREADABLE:
        raise ArchiveInvalid("The body isn't a tar, or ends early.") from None
    yield b"\0" * (BLOCK * 2)


class _Names:
    """The names of a tar so far, and what they stand for."""

    def __init__(self) -> None:
        self._kinds: dict[str, bytes] = {}
        self._size = 0

    def judged(self, entry: tarfile.TarInfo) -> str:
        """The entry's name without detours; empty for the folder that all are in."""
        name = _plain(entry.name)
        self._size += len(name)
        if self._size > MAX_NAMES:
            raise ArchiveInvalid("The archive's names are too long together.")
        above = posixpath.dirname(name)
        while above:
            if self._kinds.get(above) == tarfile.SYMTYPE:
                raise ArchiveInvalid("The archive has a name in it that goes through a link of its own.")
            above = posixpath.dirname(above)
        if entry.issparse() or not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
            raise ArchiveInvalid("The archive has something in it besides files, folders and links.")
        if entry.issym() and not _is_path(entry.linkname):
            raise ArchiveInvalid("The archive has a link in it that leads nowhere.")
        if entry.islnk() and self._kinds.get(posixpath.normpath(entry.linkname)) != tarfile.REGTYPE:
            raise ArchiveInvalid("The archive has a hard link in it that leads to no file before it.")
        if entry.size < 0 or not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
            raise ArchiveInvalid("The archive has a size or an owner in it that can't be.")
        self._kinds[name] = tarfile.REGTYPE if entry.isreg() or entry.islnk() else entry.type
        return name


def _plain(name: str) -> str:
    if name.startswith("/"):
        raise ArchiveInvalid("The archive has an absolute name in it.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or not _is_path(name or "."):
        raise ArchiveInvalid("The archive has a name in it that leads out of it.")
    if len(parts) > MAX_DEPTH:
        raise ArchiveInvalid(f"The archive has more than {MAX_DEPTH} folders within each other.")
    return "/".join(parts)


def _is_path(text: str) -> bool:
    return 0 < len(text) <= MAX_PATH and "\0" not in text


def _header(entry: tarfile.TarInfo, prefix: str, name: str, ids: Ids | None) -> bytes:
    made = tarfile.TarInfo(prefix + name)
    made.type = tarfile.REGTYPE if entry.isreg() else entry.type
    made.size = entry.size if entry.isreg() else 0
    made.mode = entry.mode & MODE
    made.mtime = entry.mtime if 0 <= entry.mtime < MAX_TIME else 0  # also what isn't a number
    made.uid, made.gid = ids or (entry.uid, entry.gid)
    if entry.islnk():
        made.linkname = prefix + posixpath.normpath(entry.linkname)
    elif entry.issym():
        made.linkname = entry.linkname
    return made.tobuf(tarfile.PAX_FORMAT)


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[bytes]:
    file = tar.extractfile(entry)
    assert file is not None
    left = entry.size
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            raise ArchiveInvalid("The archive ends within a file.")
        left -= len(chunk)
        yield chunk
    yield b"\0" * (-entry.size % BLOCK)


def one_file(name: str, content: Iterable[bytes], size: int, attributes: Mapping[str, Any]) -> Iterator[bytes]:
    """A tar with one file in it.

    Args:
        name: of the file, with the folders that it needs.
        content: exactly ``size`` bytes.
        size: of the file.
        attributes: ``mode``, ``mtime``, ``uid`` and ``gid``.
    """
    made = tarfile.TarInfo(name)
    made.size = size
    for key, value in attributes.items():
        setattr(made, key, value)
    yield made.tobuf(tarfile.PAX_FORMAT)
    yield from content
    yield b"\0" * (-size % BLOCK + BLOCK * 2)


def first_file(source: Readable) -> tuple[tarfile.TarInfo, Iterator[bytes]]:
    """The one file of a tar that an engine made: what it is, and its content.

    Raises:
        ArchiveInvalid: it has no file in it.
    """
    try:
        tar = tarfile.open(fileobj=source, mode="r|")  # type: ignore[call-overload]  # noqa: SIM115 - closed with source
        entry = tar.next()
    except _UNREADABLE:
        entry = None
    if entry is None or not entry.isreg():
        raise ArchiveInvalid("There is no file at that path.")

    def content() -> Iterator[bytes]:
        file = tar.extractfile(entry)
        assert file is not None
        while chunk := file.read(CHUNK):
            yield chunk

    return entry, content()
