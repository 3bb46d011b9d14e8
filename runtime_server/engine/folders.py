"""Folders of created containers, by the Engine's archive routes: the one way to a volume before anything runs in it.

An engine unpacks an archive with the ids and the mode that it says, in the container's own view: its volumes are
mounted, its links can't lead out of it. Engine API 1.41; an archive can't change the folder that it is unpacked into,
so it is unpacked into the one above.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import posixpath
import stat
import tarfile
import time
from typing import Any

import docker.errors
from docker import APIClient

from runtime_server.engine.docker_client import check, url
from runtime_server.engine.users import Ids

MAX_FILE = 1_048_576
"""Bytes of ``/etc/passwd`` that are read: images come from anywhere."""
MAX_LINKS = 8

_DIRECTORY, _SYMLINK = 1 << 31, 1 << 27
_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
"""Bits of Go's ``fs.FileMode``, in which the Engine tells modes; the lowest nine are Unix's."""


def folder(client: APIClient, container: str, path: str) -> tuple[str, int] | None:
    """The folder's real path, and its mode as in Unix, without its type; None where there is no folder."""
    for _ in range(MAX_LINKS):
        status = _status(client, container, path)
        if status is None:
            return None
        mode = int(status.get("mode") or 0)
        if mode & _DIRECTORY:
            return path, mode & 0o777 | sum(unix for bit, unix in _SPECIAL if mode & bit)
        target = str(status.get("linkTarget") or "")
        if not mode & _SYMLINK or not target:
            return None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return None


def give(client: APIClient, container: str, path: str, mode: int, ids: Ids) -> None:
    """Set the owner of a folder that isn't a link.

    Raises:
        docker.errors.APIError: among others, where the container's root is read-only.
    """
    above, name = posixpath.split(path)
    params = {"path": above, "noOverwriteDirNonDir": "1"}
    check(client.put(_path(client, container), params=params, data=_entry(name, mode, ids), timeout=client.timeout))


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


def _status(client: APIClient, container: str, path: str) -> dict[str, Any] | None:
    response = client.head(_path(client, container), params={"path": path}, timeout=client.timeout)
    try:
        header = check(response).headers["X-Docker-Container-Path-Stat"]
    except docker.errors.NotFound:
        return None
    found: dict[str, Any] = json.loads(base64.b64decode(header))
    return found


def _read(client: APIClient, container: str, path: str) -> tuple[str, str | None]:
    """A file's text, or where it leads as a link."""
    response = client.get(
        _path(client, container),
        params={"path": path},
        headers={"Accept-Encoding": "identity"},
        stream=True,
        timeout=client.timeout,
    )
    with contextlib.closing(response):
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


def _path(client: APIClient, container: str) -> str:
    return url(client, f"/containers/{container}/archive")
