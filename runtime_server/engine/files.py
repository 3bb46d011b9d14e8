"""A container's files: the third part of the Engine protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Ids = tuple[int, int]
"""User and group, as the container counts them."""


class FileKind(StrEnum):
    """What is at a path."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What is at a path; links are not followed.

    Attributes:
        name: the last part of its path.
        size: bytes of a file.
        mode: permissions, with set-user-id, set-group-id and sticky, without the type.
        mtime: Unix seconds.
        ids: its owner; None where the engine doesn't tell.
        target: of a link: where it leads, as an absolute path in the container where the engine knows.
    """

    name: str
    kind: FileKind
    size: int = 0
    mode: int = 0
    mtime: float = 0.0
    ids: Ids | None = None
    target: str | None = None


class Readable(Protocol):
    """What can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many of the next bytes; none at the end."""


class ArchiveReader(Protocol):
    """A tar as it comes. For one thread."""

    def read(self, size: int) -> bytes:
        """At most so many of the next bytes, none at the end. Raises ``Problem`` where it breaks off."""

    def close(self) -> None:
        """Give the connection back, also before the end."""


class PathMissing(Exception):
    """There is nothing at the path, or on the way to it."""


class NotAFolder(Exception):
    """Something on the way to the path isn't a folder."""


class FolderNotEmpty(Exception):
    """A folder has something in it."""


class ReadOnly(Exception):
    """Nothing can be changed at the path."""


class NoAccess(Exception):
    """It can't be done from here in the container's present state."""


class FilesEngine(Protocol):
    """What is done to a container's files, in its own view: with its volumes, and with no way out of it by a link.

    ``container`` is as for ``Engine``, and so are the errors that all methods may raise. All but ``delete_path`` work
    in any state. Paths are absolute.
    """

    def file_entry(self, container: str, path: str) -> FileEntry | None:
        """What is at the path; None where there is nothing."""

    def read_archive(self, container: str, path: str) -> ArchiveReader:
        """What is at the path as a tar, whose entries begin with its name. Raises ``PathMissing``."""

    def write_archive(self, container: str, folder: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar into a folder, in which folders that entries need are made.

        What ``chunks`` raises comes out as it is, with a part of it unpacked.

        Raises:
            PathMissing, NotAFolder, ReadOnly
            ArchiveInvalid: Docker refuses relative links that lead above the folder (moby's pkg/archive).
        """

    def list_folder(self, container: str, path: str, most: int) -> tuple[Sequence[FileEntry], bool]:
        """What is in a folder, by name, and whether there may be more than that.

        Raises:
            PathMissing, NotAFolder
        """

    def delete_path(self, container: str, path: str, *, recursive: bool) -> None:
        """Delete a file, a link, or a folder, with what is in it if ``recursive``.

        Raises:
            PathMissing, NotAFolder, FolderNotEmpty, ReadOnly
            NoAccess: the container doesn't run, or is paused, and this server isn't where its processes are.
        """

    def file_owner(self, container: str, user: str | None) -> Ids | None:
        """The ids of a user of the container, ``name``, ``uid`` or either with a group; None as user: its own.

        None where the container has no such user.
        """
