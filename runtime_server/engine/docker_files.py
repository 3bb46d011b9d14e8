"""Containers' files, of engines that speak Docker's HTTP API.

Reading and writing go by the Engine's archive routes: the engine resolves each path within the container's own root,
and packs and unpacks in a process whose root that is (moby's chrootarchive), so that no link leads out. What is
mounted only inside, such as a ``tmpfs``, isn't seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from typing import Any

import requests

from runtime_server.engine import archive_routes, archives, folders, translate, users
from runtime_server.engine.answers import mapped
from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.container_root import ContainerRoot, TooDeep
from runtime_server.engine.docker_client import check
from runtime_server.engine.docker_execs import DockerExecs
from runtime_server.engine.docker_volumes import DockerVolumes
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.files import (
    FileEntry,
    FileKind,
    FolderNotEmpty,
    Ids,
    NoAccess,
    NotAFolder,
    PathMissing,
    ReadOnly,
)
from runtime_server.engine.inside import ExecSpec
from runtime_server.errors import EngineFailed, Problem

MOST_LISTED = 2 * 2**30
"""Bytes of a folder, with all below it, that are read to list it where that needs reading."""

_REMOVE = (
    'if [ ! -e "$1" ] && [ ! -h "$1" ]; then exit 44; fi; '
    'if [ -d "$1" ] && [ ! -h "$1" ]; then if [ "$2" ]; then exec rm -rf -- "$1"; fi; '
    'rmdir -- "$1" 2>/dev/null || exit 45; exit 0; fi; exec rm -f -- "$1"'
)
"""Deletes the path in ``$1``; with anything in ``$2`` also a folder that isn't empty."""


class DockerFiles(DockerExecs, DockerVolumes):
    """Reads, writes, lists and deletes files."""

    def file_entry(self, container: str, path: str) -> FileEntry | None:
        """See ``FilesEngine``."""
        with self._call("archive", container) as client:
            response = archive_routes.head(client, container, path)
            if response.ok:
                return archives.file_entry(response.headers[archives.STAT])
        # A HEAD's answer has no words, and a container that is gone looks like a file that is.
        with suppress(PathMissing, NotAFolder):
            self.read_archive(container, path).close()
        return None

    def read_archive(self, container: str, path: str) -> DockerArchive:
        """See ``FilesEngine``."""
        with self._call("archive", container) as client:
            return DockerArchive(check(archive_routes.get(client, container, path)))

    def write_archive(self, container: str, folder: str, chunks: Iterable[bytes]) -> None:
        """See ``FilesEngine``."""
        passed = _Passed(chunks)
        try:
            with self._call("archive", container) as client:
                archive_routes.put(client, container, folder, passed)
        except Exception:
            # What ended the sending says more than what the engine made of it.
            if passed.error is not None:
                raise passed.error from None
            raise

    def list_folder(self, container: str, path: str, most: int) -> tuple[Sequence[FileEntry], bool]:
        """See ``FilesEngine``; by the host's view of the container's files where there is one."""
        root = self._root(container)
        with root.opened() as descriptor:
            if descriptor is not None:
                return root.listed(descriptor, path, most)
        entry = self._followed(container, path)
        if entry is None:
            raise PathMissing
        found, real = entry
        if found.kind is not FileKind.FOLDER:
            raise NotAFolder
        with closing(self.read_archive(container, real)) as archive, mapped("archive"):
            return archives.children(archive, most, MOST_LISTED)

    def _followed(self, container: str, path: str) -> tuple[FileEntry, str] | None:
        """What is at the path, links followed, and its path without them."""
        for _ in range(8):
            found = self.file_entry(container, path)
            if found is None or found.kind is not FileKind.LINK or not found.target:
                return None if found is None else (found, path)
            path = found.target if found.target.startswith("/") else f"{path.rpartition('/')[0]}/{found.target}"
        return None

    def delete_path(self, container: str, path: str, *, recursive: bool) -> None:
        """See ``FilesEngine``; by the host's view where there is one, else by a command inside."""
        root = self._root(container)
        with root.opened() as descriptor:
            if descriptor is not None:
                with suppress(TooDeep):
                    root.deleted(descriptor, path, recursive=recursive)
                    return
        self._delete_inside(container, path, recursive=recursive)

    def _delete_inside(self, container: str, path: str, *, recursive: bool) -> None:
        command = ("sh", "-c", _REMOVE, "rm", path, "yes" if recursive else "")
        try:
            session = self.exec(container, ExecSpec(command, marker="", user="0"))
        except Problem as problem:
            raise NoAccess from problem
        said = b""
        with closing(session):
            try:
                while (piece := session.receive(self._timeout)) is not None:
                    said += piece.data
            except FeedEnded:
                pass
            except (ContainerMissing, EngineFailed):
                raise
            except Problem as problem:
                raise NoAccess from problem
            code = session.exit_code()
        if code != 0:
            otherwise = ReadOnly if b"ead-only" in said or b"busy" in said else NoAccess
            raise {44: PathMissing, 45: FolderNotEmpty}.get(code or 0, otherwise)

    def _root(self, container: str) -> ContainerRoot:
        with self._call("inspect", container) as client:
            found = translate.snapshot(client.inspect_container(container))
        return ContainerRoot(found.container_id, found.pid)

    def file_owner(self, container: str, user: str | None) -> Ids | None:
        """See ``FilesEngine``."""
        with self._call("folder", container) as client:
            attrs: dict[str, Any] = client.inspect_container(container)
            wanted = (attrs["Config"].get("User") or "") if user is None else user
            if users.is_root(wanted) and ":" not in wanted:
                return 0, 0
            if user is None:
                return self._ids(client, attrs)
            # Who is named by a caller may have been made since, by a command in the container.
            if (ids := users.by_numbers(user)) is not None:
                return ids
            passwd, groups = (folders.text(client, attrs["Id"], path) for path in ("/etc/passwd", "/etc/group"))
            return users.by_files(user, passwd, groups)


class DockerArchive:
    """A tar out of a container; see ``ArchiveReader``."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response

    def read(self, size: int) -> bytes:
        """See ``ArchiveReader``."""
        with mapped("archive"):
            found: bytes = self._response.raw.read(size)
            return found

    def close(self) -> None:
        """See ``ArchiveReader``."""
        self._response.close()


class _Passed:
    """Chunks for requests to send, and what ended them before their end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.error: Exception | None = None

    def __iter__(self) -> _Passed:
        return self

    def __next__(self) -> bytes:
        try:
            while not (chunk := next(self._chunks)):
                pass  # an empty chunk would be the end
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        return chunk
