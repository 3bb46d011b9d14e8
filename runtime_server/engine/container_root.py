"""A container's file system through the host's ``/proc``, where this server is on the engine's host.

What can be done there and not by the Engine API: list a folder without reading all that is below it, and delete. It
also works while the container is frozen.

The kernel is never let follow a link: an absolute one would lead into the host's own files. Each step of a path is
opened without following, and links are followed here, by their text, with the container's root as the root. Folders
are held by descriptors, so that one that is moved or exchanged meanwhile leads nowhere else; their number is bounded,
since whoever is inside can nest folders as deep as they like.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from runtime_server.engine.files import FileEntry, FileKind, FolderNotEmpty, NotAFolder, PathMissing, ReadOnly
from runtime_server.engine.host_processes import PROC, HostProcesses

MAX_LINKS = 40
"""As Linux has it."""
MAX_DEPTH = 128
"""Folders on the way to one another, each of which holds a descriptor of this process."""

_THERE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = ((stat.S_ISREG, FileKind.FILE), (stat.S_ISDIR, FileKind.FOLDER), (stat.S_ISLNK, FileKind.LINK))


class TooDeep(Exception):
    """Folders are nested too deeply to be removed from here."""


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
            there = os.open(name, _READ, dir_fd=folder)
            try:
                with os.scandir(there) as names:
                    found = heapq.nsmallest(most + 1, (each.name for each in names))
                entries = [_entry(there, each, ids) for each in found[:most]]
            finally:
                os.close(there)
        return [each for each in entries if each is not None], len(found) > most

    def deleted(self, root: int, path: str, *, recursive: bool) -> None:
        """As ``FilesEngine.delete_path``. Raises ``TooDeep``, too, with a part deleted."""
        with _failures(), walked(root, path, follow=False) as (folder, name):
            if name == ".":
                raise ReadOnly
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
            elif recursive:
                _remove(folder, name, MAX_DEPTH)
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
        folders, names = [(root, ".")], deque(_parts(path))
        links = steps = 0
        while names:
            name, here = names.popleft(), folders[-1][0]
            if name == "..":
                folders = folders[:-1] or folders
                continue
            steps += 1
            if steps > MAX_DEPTH:
                raise OSError(errno.ENAMETOOLONG, "too many folders on the way")
            # What it is and where it leads are asked of what was opened, whatever has its name by then.
            there = os.open(name, _THERE, dir_fd=here)
            opened.callback(os.close, there)
            kind = os.fstat(there).st_mode
            if stat.S_ISLNK(kind) and (names or follow):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, "too many links")
                target = os.readlink("", dir_fd=there)
                folders = folders[:1] if target.startswith("/") else folders
                names.extendleft(reversed(_parts(target)))
            elif stat.S_ISDIR(kind):
                folders.append((there, name))
            elif names:
                raise OSError(errno.ENOTDIR, "not a folder")
            else:
                yield here, name
                return
        yield (folders[-2][0] if len(folders) > 1 else root), folders[-1][1]


def _remove(folder: int, name: str, depth: int) -> None:
    """Remove a folder with what is in it. As ``shutil.rmtree``, which has no bound to how deep it goes."""
    if depth == 0:
        raise TooDeep
    here = os.open(name, _READ, dir_fd=folder)
    try:
        with os.scandir(here) as found:
            names = [(each.name, each.is_dir(follow_symlinks=False)) for each in found]
        for inner, is_folder in names:
            with suppress(FileNotFoundError):  # gone meanwhile
                if is_folder:
                    _remove(here, inner, depth - 1)
                else:
                    os.unlink(inner, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=folder)


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
        name=name,
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
        errno.EISDIR: FolderNotEmpty,  # a folder has taken a file's place
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
