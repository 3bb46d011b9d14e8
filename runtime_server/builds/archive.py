"""What a build context may hold, looked at without unpacking any of it.

It goes to the engine as it is, which unpacks it by itself in a root of its own. So these rules guard against an
engine that doesn't, and refuse what can only be an attack: paths and links that lead out, devices, and bombs.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from runtime_server.errors import BuildContextInvalid

MAX_MEMBERS = 100_000
MAX_NAMES = 8 * 1_048_576
"""Characters of all members' names and links' targets together, which are kept in memory."""
MAX_DEPTH = 64
"""Parts of one path, or of a link's target."""
MAX_STEPS = 2_000_000
"""Parts of paths that are walked along in all to see where links lead."""
MAX_HEADER = 1_048_576
"""Bytes of one extended header (pax, GNU long name), which is read into memory."""
MAX_LINKS = 40
"""Links followed on one path, as many as Linux follows."""
MAX_TOLD = 128
"""Characters of a member's name that are told."""

_EXTENDED = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
_DOCKERFILE = ("Dockerfile",)

Parts = tuple[str, ...]


def check(path: Path, *, unpacked: int) -> None:
    """Look through a gzipped tar.

    Args:
        path: where it lies.
        unpacked: bytes that it may have when it is unpacked.

    Raises:
        BuildContextInvalid: it can't be used; ``member`` names the member at fault.
    """
    found = _Members(unpacked)
    with _told(), path.open("rb") as file, gzip.GzipFile(fileobj=file) as plain:
        limited = _Limited(plain, unpacked)
        with tarfile.open(fileobj=limited, mode="r|", tarinfo=_TarInfo, errorlevel=2) as tar:  # type: ignore[call-overload]
            for member in tar:
                found.add(member)
                tar.members = []  # or it remembers them all
        limited.drain()
    found.check_links()
    if not found.has_dockerfile:
        raise BuildContextInvalid("The build context has no Dockerfile at its root.", member=None)


class _TarInfo(tarfile.TarInfo):
    """Refuses extended headers that would fill the memory, before they are read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENDED and found.size > MAX_HEADER:
            raise BuildContextInvalid("A header of the build context is too large.", member=None)
        return found


class _Limited:
    """A file that refuses to give more than so many bytes."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file = file
        self._left = limit

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large()
        return data

    def drain(self) -> None:
        """Read what follows the archive's end: it counts too, and its checksum is looked at."""
        while self.read(1_048_576):
            pass


class _Members:
    """The paths seen so far: which are links, and which are files."""

    def __init__(self, unpacked: int) -> None:
        self._left = unpacked
        self._count = 0
        self._names = 0
        self._steps = 0
        self._links: dict[Parts, str] = {}
        self._hard: list[tuple[str, str]] = []
        self._all: set[Parts] = set()
        self.files: set[Parts] = set()

    def add(self, member: tarfile.TarInfo) -> None:
        """Look at one member."""
        self._measure(member)
        path = _parts(member.name, member.name)
        if member.issym():
            _parts_of_target(member)
            self._links[path] = member.linkname
        elif member.islnk():
            _parts_of_target(member)
            self._hard.append((member.name, member.linkname))
            self.files.add(path)
        elif member.isreg():
            self.files.add(path)
        elif not member.isdir():
            raise _refused("is neither a file, a folder nor a link", member.name)
        self._all.add(path)

    def _measure(self, member: tarfile.TarInfo) -> None:
        self._count += 1
        self._names += len(member.name) + len(member.linkname)
        # A sparse file's size is the one that it has when it's unpacked.
        self._left -= member.size
        if self._count > MAX_MEMBERS or self._names > MAX_NAMES:
            raise BuildContextInvalid("The build context has too many members.", member=None)
        if member.size < 0:
            raise _refused("has no size", member.name)
        if self._left < 0:
            raise _too_large()

    @property
    def has_dockerfile(self) -> bool:
        """Whether there is one at the root."""
        return _DOCKERFILE in self.files or _DOCKERFILE in self._links

    def check_links(self) -> None:
        """See where the links lead, once all of them are known: each may lead through others."""
        for path in self._all if self._links else ():
            if any(path[:length] in self._links for length in range(1, len(path))):
                raise _refused("lies behind a link", "/".join(path))
        for path, target in self._links.items():
            if target.startswith("/"):
                raise _refused("is a link that leads out of it", "/".join(path))
            self._follow(path[:-1], target, "/".join(path))
        for name, target in self._hard:
            if target.startswith("/"):
                raise _refused("is a link that leads out of it", name)
            self._follow((), target, name)

    def _follow(self, folder: Parts, target: str, name: str) -> None:
        """Walk along a path as the kernel would; a path that runs in circles leads nowhere."""
        here, ahead, links = folder, target.split("/")[::-1], 0
        while ahead:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise BuildContextInvalid("The build context has too many links through links.", member=None)
            part = ahead.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                if not here:
                    raise _refused("is a link that leads out of it", name)
                here = here[:-1]
                continue
            here = (*here, part)
            leads_to = self._links.get(here)
            if leads_to is not None:
                links += 1
                if links > MAX_LINKS or leads_to.startswith("/"):
                    return  # an absolute one is refused by itself
                here = here[:-1]
                ahead += leads_to.split("/")[::-1]


def _parts(path: str, name: str) -> Parts:
    """The path's parts, which never lead upwards."""
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise _refused("lies outside of it", name)
    if len(parts) > MAX_DEPTH:
        raise _refused("lies too deep", name)
    return parts


def _parts_of_target(member: tarfile.TarInfo) -> None:
    if member.linkname.count("/") >= MAX_DEPTH:
        raise _refused("is a link with too long a path", member.name)


def _refused(what: str, name: str) -> BuildContextInvalid:
    told = name[:MAX_TOLD].encode("utf-8", "backslashreplace").decode()
    return BuildContextInvalid(f"A member of the build context {what}.", member=told)


def _too_large() -> BuildContextInvalid:
    return BuildContextInvalid(
        "The build context is too large when it is unpacked (RUNTIME_SERVER_MAX_BUILD_UNPACKED).", member=None
    )


@contextmanager
def _told() -> Iterator[None]:
    """What gzip and tarfile raise for files that aren't theirs, as ours."""
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError, OverflowError):
        raise BuildContextInvalid("The build context is not a gzipped tar.", member=None) from None
