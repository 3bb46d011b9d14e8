"""A tar out of a runtime, unpacked here without trust: what is in it was made by whatever runs there.

Names that lead upwards are refused, and nothing is written through a link, be it of this tar or of an earlier one.
The standard library's filters (PEP 706) refuse links to absolute paths, which root file systems are full of.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO


class Refused(Exception):
    """The tar has something in it that leads out of where it is unpacked; the message is a sentence."""


@dataclass
class Unpacked:
    """What was done.

    Attributes:
        entries: files, folders and links.
        size: bytes of files.
        left_out: names of devices and the like.
    """

    entries: int = 0
    size: int = 0
    left_out: list[str] = field(default_factory=list)


def unpack(file: IO[bytes], target: Path, *, owners: bool = False) -> Unpacked:
    """Put what a tar has below one name at ``target``.

    Args:
        file: the tar; the first part of its names is replaced by ``target``.
        target: a file's new path, or a folder's, which may be there.
        owners: keep the owners' numbers, where this user may.

    Raises:
        Refused: a name leads out of it.
        OSError: something can't be written.
    """
    work = _Work(target, owners)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                work.take(tar, member)
    except tarfile.TarError as error:
        raise Refused(f"The server's answer isn't a tar: {error}.") from None
    work.finish()
    return work.done


class _Work:
    """One tar on its way."""

    def __init__(self, target: Path, owners: bool) -> None:
        self.done = Unpacked()
        self._target = target
        self._owners = owners
        self._first: int | None = None
        self._folders: list[tuple[tarfile.TarInfo, Path]] = []

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write what a member says."""
        place = self._place(member.name)
        if member.isdir():
            _make_folder(place, self._target)
            self._folders.append((member, place))
        elif member.isreg():
            self.done.size += _write(tar, member, place)
            _finish(member, place, self._owners)
        elif member.islnk():
            _copy(self._place(member.linkname), place)
        elif member.issym():
            place.parent.mkdir(parents=True, exist_ok=True)
            _fresh(place)
            place.symlink_to(member.linkname)
        else:
            self.done.left_out.append(member.name)
            return
        self.done.entries += 1

    def finish(self) -> None:
        """At last, since a folder may be read-only, and what is put into it changes its time."""
        for member, place in reversed(self._folders):
            if not place.is_symlink():
                _finish(member, place, self._owners)

    def _place(self, name: str) -> Path:
        """Where a member goes; there is no link on the way from ``target``, which may be one of this user's own."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if self._first is None:
            # The tar of / has no name for it that the others begin with.
            self._first = min(1, len(parts))
        if ".." in parts or "\0" in name:
            raise Refused(f"{name!r} in the runtime's answer leads out of the copy.")
        place = self._target
        for part in parts[self._first :]:
            if place != self._target and place.is_symlink():
                raise Refused(f"{name!r} in the runtime's answer is below a link.")
            place = place / part
        return place


def _make_folder(place: Path, target: Path) -> None:
    if place != target and place.is_symlink():
        place.unlink()
    if not place.is_dir():
        place.mkdir(mode=0o700, parents=True)


def _fresh(place: Path) -> None:
    """Nothing is there that would be written through: no link, and no file that has another name."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            place.unlink()


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> int:
    place.parent.mkdir(parents=True, exist_ok=True)
    _fresh(place)
    content = tar.extractfile(member)
    assert content is not None
    with open(place, "xb", opener=_private) as out:
        shutil.copyfileobj(content, out)
    return member.size


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _copy(source: Path, place: Path) -> None:
    """A hard link becomes a file of its own: what it leads to came with the tar, and before it."""
    if not stat.S_ISREG(os.lstat(source).st_mode):
        raise Refused(f"{source.name!r} in the runtime's answer is linked to, and no file.")
    place.parent.mkdir(parents=True, exist_ok=True)
    _fresh(place)
    shutil.copy2(source, place)


def _finish(member: tarfile.TarInfo, place: Path, owners: bool) -> None:
    if owners and os.geteuid() == 0:
        os.chown(place, member.uid, member.gid)
    # No set-user-id: the owner here isn't the one there.
    place.chmod(member.mode & 0o777)
    os.utime(place, (member.mtime, member.mtime))
