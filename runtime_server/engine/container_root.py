"""A container's file system through the host's ``/proc``, where this server is on the engine's host.

What can be done there and not by the Engine API: list a folder without reading all that is below it, and delete. It
also works while the container is frozen.

The kernel is never let follow a link: an absolute one would lead into the host's own files. Each step of a path is
opened without following, and links are followed here, by their text, with the container's root as the root. Folders are
held by descriptors, so that one that is moved or exchanged meanwhile leads nowhere else.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from runtime_server.engine.files import FileEntry, FileKind, FolderNotEmpty, NotAFolder, PathMissing, ReadOnly
from runtime_server.engine.host_processes import PROC, HostProcesses

MAX_LINKS = 40
"""As Linux has it."""

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = ((stat.S_ISREG, FileKind.FILE), (stat.S_ISDIR, FileKind.FOLDER), (stat.S_ISLNK, FileKind.LINK))


class ContainerRoot:
    """One container's files.

    Args:
        container_id: the container's.
        pid: of its first process, as the engine tells it.
    """

    def __init__(self, container_id: str, pid: int | None) -> None:
        self._processes = HostProcesses(container_id, pid)
        self._pid = pid

    @contextmanager
    def opened(self) -> Iterator[int | None]:
        """The root's descriptor; None where it can't be had."""
        descriptor = None
        if self._processes.seen:
            with suppress(OSError):
                descriptor = os.open(PROC / str(self._pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Looked at again: the process may have ended in between, and its number be another's.
            yield descriptor if descriptor is not None and self._processes.seen else None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def listed(self, root: int, path: str, most: int) -> tuple[list[FileEntry], bool]:
        """As ``FilesEngine.list_folder``."""
        ids = _Ids(self._pid)
        with _failures(), walked(root, path, follow=True) as (folder, name):
            there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                found = sorted(os.listdir(there))
                entries = [_entry(there, each, ids) for each in found[:most]]
            finally:
                os.close(there)
        return [each for each in entries if each is not None], len(found) > most

    def deleted(self, root: int, path: str, *, recursive: bool) -> None:
        """As ``FilesEngine.delete_path``."""
        with _failures(), walked(root, path, follow=False) as (folder, name):
            if name == ".":
                raise ReadOnly
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
            elif recursive:
                shutil.rmtree(name, dir_fd=folder)
            else:
                os.rmdir(name, dir_fd=folder)


@contextmanager
def walked(root: int, path: str, *, follow: bool) -> Iterator[tuple[int, str]]:
    """The folder that holds what the path names, by descriptor, and its name there (``.``: the root itself).

    Args:
        root: descriptor of the root.
        path: from there on.
        follow: also the link that the path names.

    Raises:
        OSError: it leads nowhere.
    """
    with ExitStack() as opened:
        folders, names = [(root, ".")], _parts(path)
        links = 0
        while names:
            name = names.pop(0)
            here = folders[-1][0]
            if name == "..":
                folders = folders[:-1] or [(root, ".")]
                continue
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode) and (names or follow):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, "too many links")
                target = os.readlink(name, dir_fd=here)
                folders = [(root, ".")] if target.startswith("/") else folders
                names = _parts(target) + names
            elif names or stat.S_ISDIR(status.st_mode):
                there = os.open(name, _FOLDER, dir_fd=here)
                opened.callback(os.close, there)
                folders.append((there, name))
            else:
                yield here, name
                return
        _, name = folders[-1]
        yield (folders[-2][0] if len(folders) > 1 else root), name


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _entry(folder: int, name: str, ids: _Ids) -> FileEntry | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else None
    except OSError:
        return None  # gone meanwhile
    kind = next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), FileKind.OTHER)
    return FileEntry(
        name=name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        kind=kind,
        size=status.st_size if kind is FileKind.FILE else 0,
        mode=stat.S_IMODE(status.st_mode),
        mtime=status.st_mtime,
        ids=(ids.user(status.st_uid), ids.group(status.st_gid)),
        target=target,
    )


class _Ids:
    """The host's ids as the container's own user namespace counts them."""

    def __init__(self, pid: int | None) -> None:
        self._users = _map(PROC / str(pid) / "uid_map")
        self._groups = _map(PROC / str(pid) / "gid_map")

    def user(self, outer: int) -> int:
        return _inner(self._users, outer)

    def group(self, outer: int) -> int:
        return _inner(self._groups, outer)


def _map(path: Path) -> list[tuple[int, int, int]]:
    """Lines of ``uid_map`` (user_namespaces(7)): inner, outer, how many."""
    with suppress(OSError, ValueError):
        lines = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
        return [(line[0], line[1], line[2]) for line in lines if len(line) == 3]
    return []


def _inner(ranges: list[tuple[int, int, int]], outer: int) -> int:
    for inner, first, count in ranges:
        if first <= outer < first + count:
            return inner + outer - first
    return outer if not ranges else 65534


@contextmanager
def _failures() -> Iterator[None]:
    meanings: dict[int, type[Exception]] = {
        errno.ENOENT: PathMissing,
        errno.ELOOP: PathMissing,
        errno.ENAMETOOLONG: PathMissing,
        errno.ENOTDIR: NotAFolder,
        errno.ENOTEMPTY: FolderNotEmpty,
        errno.EEXIST: FolderNotEmpty,
        errno.EROFS: ReadOnly,
        errno.EBUSY: ReadOnly,
        errno.EPERM: ReadOnly,
        errno.EACCES: ReadOnly,
    }
    try:
        yield
    except OSError as error:
        found = meanings.get(error.errno or 0)
        if found is None:
            raise
        raise found from error
