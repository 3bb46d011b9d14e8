"""The in-memory engine's file systems."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from runtime_server.engine.archives import of_tar
from runtime_server.engine.files import FileEntry, FileKind, FolderNotEmpty, NotAFolder, PathMissing, ReadOnly
from runtime_server.errors import ArchiveInvalid

MAX_LINKS = 40
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
GROUPS = b"root:x:0:\nnogroup:x:65534:\n"

_TYPES = {FileKind.FOLDER: tarfile.DIRTYPE, FileKind.LINK: tarfile.SYMTYPE, FileKind.OTHER: tarfile.FIFOTYPE}


class Tree:
    """Files by their paths; a container of busybox has a few from the beginning.

    Args:
        clock: Unix time in seconds.
        read_only: nothing can be changed.
    """

    def __init__(self, clock: Callable[[], float], *, read_only: bool = False) -> None:
        self._clock = clock
        self._read_only = read_only
        self._nodes: dict[str, tuple[FileEntry, bytes]] = {}
        for path in ("/", "/bin", "/etc", "/root", "/srv", "/tmp"):  # noqa: S108 - in memory
            self._put(path, FileEntry("", FileKind.FOLDER, mode=0o755, ids=(0, 0)))
        for path, data in (("/etc/passwd", PASSWD), ("/etc/group", GROUPS)):
            self._put(path, FileEntry("", FileKind.FILE, mode=0o644, ids=(0, 0)), data)

    def _put(self, path: str, entry: FileEntry, data: bytes = b"") -> None:
        mtime = entry.mtime or self._clock()
        name = posixpath.basename(path) or "/"
        self._nodes[path] = replace(entry, name=name, size=len(data), mtime=mtime), data

    def real(self, path: str, *, follow: bool = False) -> str:
        """The path without links, also at its end with ``follow``. Raises ``PathMissing``, ``NotAFolder``."""
        names, here, links = path.split("/"), "/", 0
        while names:
            name = names.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                here = posixpath.dirname(here)
                continue
            there = posixpath.join(here, name)
            entry = self._nodes[there][0] if there in self._nodes else None
            if entry is None and names:
                raise PathMissing
            if entry is not None and entry.kind is FileKind.LINK and (names or follow):
                links += 1
                if links > MAX_LINKS:
                    raise PathMissing
                target = entry.target or ""
                here = "/" if target.startswith("/") else here
                names = target.split("/") + names
                continue
            if entry is not None and entry.kind is not FileKind.FOLDER and any(names):
                raise NotAFolder
            here = there
        return here

    def entry(self, path: str) -> FileEntry | None:
        """What is at the path; a link's target is told as an absolute path."""
        try:
            real = self.real(path)
        except (PathMissing, NotAFolder):
            return None
        found = self._nodes.get(real)
        if found is None:
            return None
        entry = found[0]
        if entry.kind is FileKind.LINK and entry.target:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(real), entry.target))
            return replace(entry, target=target)
        return entry

    def read(self, path: str) -> bytes:
        """A file's bytes."""
        return self._nodes[self.real(path, follow=True)][1]

    def tar(self, path: str) -> bytes:
        """What is at the path, with all below, as a tar."""
        real = self.real(path)
        if real not in self._nodes:
            raise PathMissing
        out, top = io.BytesIO(), posixpath.basename(real) or "/"
        with tarfile.open(fileobj=out, mode="w") as tar:
            for each in sorted(found for found in self._nodes if found == real or found.startswith(_below(real))):
                entry, data = self._nodes[each]
                inside = each[len(real) :].lstrip("/")
                info = tarfile.TarInfo(f"{top}/{inside}" if inside else top)
                info.type = _TYPES.get(entry.kind, tarfile.REGTYPE)
                info.mode, info.mtime, info.size = entry.mode, int(entry.mtime), len(data)
                info.uid, info.gid = entry.ids or (0, 0)
                info.linkname = entry.target or ""
                tar.addfile(info, io.BytesIO(data))
        return out.getvalue()

    def unpack(self, folder: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar into a folder."""
        real = self._folder(folder)
        if self._read_only:
            raise ReadOnly
        with tarfile.open(fileobj=_Chunks(iter(chunks)), mode="r|") as tar:  # type: ignore[call-overload]
            while (info := tar.next()) is not None:
                path = posixpath.normpath(posixpath.join(real, info.name))
                if info.issym() and not _stays(info.linkname, path, real):
                    raise ArchiveInvalid("The engine refuses a link in the archive that leads above the folder.")
                self._make_parents(path)
                file = tar.extractfile(info) if info.isreg() else None
                if info.isdir() and path in self._nodes and self._nodes[path][0].kind is FileKind.FOLDER:
                    continue
                if path in self._nodes and self._nodes[path][0].kind is FileKind.FOLDER:
                    raise NotAFolder
                self._put(path, of_tar(info), file.read() if file is not None else b"")

    def _make_parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if parent not in self._nodes:
            self._make_parents(parent)
            self._put(parent, FileEntry("", FileKind.FOLDER, mode=0o755, ids=(0, 0)))

    def _folder(self, path: str) -> str:
        real = self.real(path, follow=True)
        if real not in self._nodes:
            raise PathMissing
        if self._nodes[real][0].kind is not FileKind.FOLDER:
            raise NotAFolder
        return real

    def listed(self, path: str, most: int) -> tuple[list[FileEntry], bool]:
        """What is in a folder, and whether there is more."""
        real = self._folder(path)
        found = sorted(each for each in self._nodes if posixpath.dirname(each) == real and each != "/")
        return [self._nodes[each][0] for each in found[:most]], len(found) > most

    def delete(self, path: str, *, recursive: bool) -> None:
        """Delete what is at the path."""
        real = self.real(path)
        if real not in self._nodes:
            raise PathMissing
        if self._read_only or real == "/":
            raise ReadOnly
        below = [each for each in self._nodes if each.startswith(_below(real))]
        if below and not recursive:
            raise FolderNotEmpty
        for each in (real, *below):
            del self._nodes[each]


def _stays(target: str, path: str, folder: str) -> bool:
    """As Docker judges a link: an absolute one is always good."""
    if target.startswith("/"):
        return True
    return _below(posixpath.normpath(posixpath.join(posixpath.dirname(path), target))).startswith(_below(folder))


def _below(path: str) -> str:
    return path.rstrip("/") + "/"


class _Chunks:
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
