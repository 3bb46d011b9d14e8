"""Folders of created containers, by the Engine's archive routes: the one way to a volume before anything runs in it.

An engine unpacks an archive with the ids and the mode that it says, in the container's own view: its volumes are
mounted, its links can't lead out of it. Engine API 1.41; an archive can't change the folder that it is unpacked into,
so it is unpacked into the one above.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import tarfile
import time

import docker.errors
from docker import APIClient

from runtime_server.engine import archive_routes, archives
from runtime_server.engine.docker_client import check
from runtime_server.engine.files import FileEntry, FileKind, Ids

MAX_FILE = 1_048_576
"""Bytes of ``/etc/passwd`` that are read: images come from anywhere."""
MAX_LINKS = 8


def folder(client: APIClient, container: str, path: str) -> tuple[str, int] | None:
    """The folder's real path, and its mode as in Unix, without its type; None where there is no folder."""
    for _ in range(MAX_LINKS):
        found = _entry_at(client, container, path)
        if found is None:
            return None
        if found.kind is FileKind.FOLDER:
            return path, found.mode
        if found.kind is not FileKind.LINK or not found.target:
            return None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.target))
    return None


def give(client: APIClient, container: str, path: str, mode: int, ids: Ids) -> None:
    """Set the owner of a folder that isn't a link.

    Raises:
        docker.errors.APIError: among others, where the container's root is read-only.
    """
    above, name = posixpath.split(path)
    archive_routes.put(client, container, above, _entry(name, mode, ids))


def text(client: APIClient, container: str, path: str) -> str:
    """The text of a file, empty where there is none; links are followed."""
    for _ in range(MAX_LINKS):
        content, target = _read(client, container, path)
        if target is None:
            return content
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return ""


def _entry(name: str, mode: int, ids: Ids) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(f"{name}/")
        entry.type, entry.mode, (entry.uid, entry.gid) = tarfile.DIRTYPE, mode, ids
        entry.mtime = int(time.time())
        tar.addfile(entry)
    return out.getvalue()


def _entry_at(client: APIClient, container: str, path: str) -> FileEntry | None:
    try:
        return archives.file_entry(check(archive_routes.head(client, container, path)).headers[archives.STAT])
    except docker.errors.NotFound:
        return None


def _read(client: APIClient, container: str, path: str) -> tuple[str, str | None]:
    """A file's text, or where it leads as a link."""
    with contextlib.closing(archive_routes.get(client, container, path)) as response:
        try:
            check(response)
        except docker.errors.NotFound:
            return "", None
        try:
            with tarfile.open(fileobj=response.raw, mode="r|") as tar:
                entry = tar.next()
                if entry is not None and entry.issym():
                    return "", entry.linkname
                file = tar.extractfile(entry) if entry is not None and entry.isreg() else None
                return ("" if file is None else file.read(MAX_FILE).decode("utf-8", "replace")), None
        except tarfile.TarError as error:
            raise ValueError("not a tar") from error
