"""Files of runtimes: written, read, listed and deleted, in whatever state they are."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.engine.files import (
    ArchiveReader,
    FileEntry,
    FileKind,
    FolderNotEmpty,
    NoAccess,
    NotAFolder,
    PathMissing,
    Readable,
    ReadOnly,
)
from runtime_server.errors import (
    ArchiveInvalid,
    PathConflict,
    PathNotFound,
    PathReadOnly,
    UserUnknown,
)
from runtime_server.models import FileInfo, FileListing, FilesWritten, RuntimeStatus, parse_size, utc
from runtime_server.runtimes import tars
from runtime_server.runtimes.aside import Ahead, put_aside
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.states import refusal
from runtime_server.settings import Settings
from runtime_server.store.records import Record

KEEP = "keep"
"""As owner: those that a tar says."""
FILE_MODE = 0o644
MAX_LINKS = 8

_NONE_YET = (RuntimeStatus.STARTING, RuntimeStatus.REMOVED)


@dataclass(frozen=True, slots=True)
class Download:
    """A file's bytes, or a folder's tar.

    Attributes:
        chunks: to be read to the end, or closed with ``archive``.
        archive: what they come from.
        entry: what it is.
        size: bytes, where they are known ahead.
    """

    chunks: Iterator[bytes]
    archive: ArchiveReader
    entry: FileEntry
    size: int | None


class Files:
    """Works on files.

    Args:
        settings: the limit on what is sent.
        engine: has them.
        lookup: finds runtimes.
    """

    def __init__(self, settings: Settings, engine: Engine, lookup: Lookup) -> None:
        self.limit = parse_size(settings.max_upload)
        self._engine = engine
        self._lookup = lookup

    def read(self, caller: Caller, name: str, path: str, *, archive: bool) -> Download:
        """A file, or with ``archive`` whatever is there as a tar, whose names begin with its own. Links are followed.

        Raises:
            RuntimeNotFound, InvalidState, PathNotFound
            PathConflict: a folder, and no tar is wanted; or neither a file nor a folder.
        """
        container = self._container(caller, name)
        with _meanings():
            entry, real = self._followed(container, path)
            if archive:
                reader = Ahead(self._engine.read_archive(container, real))
                return Download(_chunks(reader), reader, entry, None)
            if entry.kind is not FileKind.FILE:
                raise PathConflict("That path is no file; a folder can be had as application/x-tar.", path=path)
            reader = Ahead(self._engine.read_archive(container, real))
            try:
                found, content = tars.first_file(reader)
            except ArchiveInvalid:
                reader.close()
                raise PathConflict("What is at that path has become something else.", path=path) from None
            except BaseException:
                reader.close()
                raise
            owned = FileEntry(entry.name, entry.kind, found.size, entry.mode, entry.mtime, (found.uid, found.gid))
            return Download(content, reader, owned, found.size)

    def write_file(
        self,
        caller: Caller,
        name: str,
        path: str,
        content: Iterable[bytes],
        size: int,
        *,
        mode: int | None = None,
        owner: str | None = None,
    ) -> FilesWritten:
        """Write a file; folders on the way to it are made, a link in its place is followed.

        Args:
            caller: who asks.
            name: the runtime's id or alias.
            path: absolute.
            content: exactly ``size`` bytes, which come at once.
            size: of the file.
            mode: permissions; None: those of the file that was there, else 0644.
            owner: a user of the container, with or without a group; None: the runtime's own.

        Raises:
            RuntimeNotFound, InvalidState, PathNotFound, PathReadOnly, UserUnknown
            PathConflict: it is a folder, or something on the way to it isn't one.
        """
        container = self._container(caller, name)
        with _meanings():
            before, real = self._place(container, path)
            if before is not None and before.kind is FileKind.FOLDER:
                raise PathConflict("A folder is at that path.", path=path)
            ids = self._ids(container, owner)
            kept = before.mode if before is not None else FILE_MODE
            attributes: dict[str, Any] = {
                "mode": (kept if mode is None else mode) & tars.MODE,
                "mtime": time.time(),
                "uid": ids[0],
                "gid": ids[1],
            }
            folder, rest = self._existing(container, posixpath.dirname(real))
            inside = posixpath.join(rest, posixpath.basename(real))
            self._engine.write_archive(container, folder, tars.one_file(inside, content, size, attributes))
        return FilesWritten(path=real, entries=1, bytes=size)

    def write_archive(
        self, caller: Caller, name: str, path: str, source: Readable, *, owner: str | None = None
    ) -> FilesWritten:
        """Unpack a tar into a folder, which is made where it is missing.

        Args:
            caller: who asks.
            name: the runtime's id or alias.
            path: of the folder.
            source: the tar.
            owner: of all that is in it: as for ``write_file``, or ``keep``.

        Raises:
            RuntimeNotFound, InvalidState, PathNotFound, PathReadOnly, PathConflict, UserUnknown
            ArchiveInvalid, FileTooLarge: found before anything was unpacked, but for what the engine refuses.
        """
        container = self._container(caller, name)
        with _meanings():
            before, real = self._place(container, path)
            if before is not None and before.kind is not FileKind.FOLDER:
                raise PathConflict("That path is no folder.", path=path)
            ids = None if owner == KEEP else self._ids(container, owner)
            folder, rest = self._existing(container, real)
            count = tars.Unpacked()
            prefix = f"{rest}/" if rest else ""
            chunks = tars.checked(source, limit=self.limit, prefix=prefix, ids=ids, count=count)
            with put_aside(chunks) as whole:
                self._engine.write_archive(container, folder, whole)
        return FilesWritten(path=real, entries=count.entries, bytes=count.size)

    def list(self, caller: Caller, name: str, path: str, *, limit: int) -> FileListing:
        """What is in a folder, or the one thing that isn't a folder.

        Raises:
            RuntimeNotFound, InvalidState, PathNotFound
        """
        container = self._container(caller, name)
        with _meanings():
            entry, real = self._followed(container, path)
            if entry.kind is not FileKind.FOLDER:
                return FileListing(path=real, entries=[info(entry)])
            entries, more = self._engine.list_folder(container, real, limit)
        return FileListing(path=real, entries=[info(each) for each in entries], truncated=more)

    def delete(self, caller: Caller, name: str, path: str, *, recursive: bool) -> FilesWritten:
        """Delete a file, a link, or a folder, with what is in it if ``recursive``.

        Raises:
            RuntimeNotFound, PathNotFound, PathReadOnly
            PathConflict: a folder that isn't empty.
            InvalidState: it doesn't run, or is paused, where the engine is on another host.
        """
        record = self._lookup.find(caller, name)
        container = _container(record)
        try:
            with _meanings():
                self._engine.delete_path(container, path, recursive=recursive)
        except NoAccess:
            raise refusal(
                f"Files can be deleted only while a runtime runs; it is {record.status}.", record.status
            ) from None
        return FilesWritten(path=path, entries=1, bytes=0)

    def _container(self, caller: Caller, name: str) -> str:
        return _container(self._lookup.find(caller, name))

    def _followed(self, container: str, path: str) -> tuple[FileEntry, str]:
        """What is at the path, links followed, and its path without the last of them."""
        found, real = self._place(container, path)
        if found is None:
            raise PathNotFound("There is nothing at that path.", path=path)
        return found, real

    def _place(self, container: str, path: str) -> tuple[FileEntry | None, str]:
        """As ``_followed``; None where there is nothing."""
        for _ in range(MAX_LINKS):
            found = self._engine.file_entry(container, path)
            if found is None or found.kind is not FileKind.LINK or not found.target:
                return found, path
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.target))
        raise PathNotFound("Too many links.", path=path)

    def _existing(self, container: str, folder: str) -> tuple[str, str]:
        """The nearest folder that exists, and what is missing below it."""
        rest: list[str] = []
        while folder not in ("", "/"):
            found, real = self._place(container, folder)
            if found is not None:
                if found.kind is not FileKind.FOLDER:
                    raise PathConflict("Something on the way to that path is no folder.", path=folder)
                return real, "/".join(reversed(rest))
            folder, name = posixpath.split(folder)
            rest.append(name)
        return "/", "/".join(reversed(rest))

    def _ids(self, container: str, owner: str | None) -> tuple[int, int]:
        found = self._engine.file_owner(container, owner)
        if found is None and owner is None:
            return 0, 0  # of a user that the image doesn't know, nothing can run either
        if found is None:
            raise UserUnknown("The runtime has no such user or group.")
        return found


def _container(record: Record) -> str:
    if record.container_id is None or record.status in _NONE_YET:
        raise refusal(f"It has no files; it is {record.status}.", record.status)
    return record.container_id


def _chunks(reader: ArchiveReader) -> Iterator[bytes]:
    while chunk := reader.read(tars.CHUNK):
        yield chunk


def moment(seconds: float) -> datetime | None:
    """When a file was changed; None for times that no date stands for, which its owner can give it."""
    try:
        return utc(seconds)
    except (ValueError, OverflowError, OSError):
        return None


def _text(name: str) -> str:
    """A name as text, whatever bytes it is of (PEP 383)."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def info(entry: FileEntry) -> FileInfo:
    """An entry as answers show it."""
    return FileInfo(
        name=_text(entry.name),
        type=entry.kind.value,
        size=entry.size,
        mode=f"{entry.mode:04o}",
        mtime=moment(entry.mtime),
        owner=None if entry.ids is None else f"{entry.ids[0]}:{entry.ids[1]}",
        target=None if entry.target is None else _text(entry.target),
    )


@contextmanager
def _meanings() -> Iterator[None]:
    """The catalogue's problems for what the engine says of paths."""
    try:
        yield
    except PathMissing:
        raise PathNotFound("There is nothing at that path.") from None
    except NotAFolder:
        raise PathConflict("Something there is, or isn't, a folder.") from None
    except FolderNotEmpty:
        raise PathConflict("The folder isn't empty; say recursive=true.") from None
    except ReadOnly:
        raise PathReadOnly("Nothing can be changed at that path.") from None
    except ContainerMissing:
        raise PathNotFound("The runtime's container is gone.") from None
