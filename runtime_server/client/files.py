"""A runtime's files through the client: bodies that are never whole in memory unless they come from there."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from runtime_server.client.calls import Calls, runtime_path
from runtime_server.client.replies import parse
from runtime_server.client.transport import Call, OpenBody, OpenReply, Readable, Source
from runtime_server.errors import RuntimeClientError, ServerUnreachable
from runtime_server.models import FileInfo, FileListing, FilesWritten

TAR = "application/x-tar"
BYTES = "application/octet-stream"
UPLOAD = 600.0
"""Seconds that sending and unpacking may take, beyond what any call may."""

Content: TypeAlias = bytes | str | os.PathLike[str] | Readable
Target: TypeAlias = str | os.PathLike[str] | IO[bytes]


class FileCalls(Calls):
    """What ``RuntimeServerClient`` does with a runtime's files."""

    def put_file(
        self,
        runtime_id: str,
        path: str,
        content: Content,
        *,
        mode: int | str | None = None,
        owner: str | None = None,
    ) -> FilesWritten:
        """Write a file (``PUT /runtimes/{id}/files``), also while the runtime is paused or stopped.

        Args:
            runtime_id: id or alias.
            path: absolute path in the runtime; missing folders are made.
            content: bytes, the path of a local file, or an open one, or what reads like one, which is read from where
                it is; one that can't be rewound is sent once, without retries.
            mode: permissions, a number (``0o755``) or octal text; none: those that it had, else 0644.
            owner: a user of the runtime, with or without ``:group``; none: the runtime's own.

        Raises:
            OSError: the local file can't be read.
            PathConflict: a folder is there, or something on the way isn't one.
            PathReadOnly, FileTooLarge, UserUnknown, InvalidState
        """
        query = [("path", path), *_given(mode=_octal(mode), owner=owner)]
        return self._send_body(runtime_id, query, _source(content), BYTES)

    def put_archive(self, runtime_id: str, path: str, content: Content, *, owner: str | None = None) -> FilesWritten:
        """Unpack a tar into a folder of a runtime, which is made where it is missing.

        Args:
            runtime_id: id or alias.
            path: absolute path of the folder.
            content: a tar as for ``put_file``, not compressed; or the path of a local folder, of which one is made,
                of what is in it.
            owner: of everything in it; none: the runtime's own user; ``keep``: as the tar says.

        Raises:
            As ``put_file``; ArchiveInvalid: it isn't a tar, or has tricks in it.
        """
        query = [("path", path), *_given(owner=owner)]
        if isinstance(content, str | os.PathLike) and Path(content).is_dir():
            with _packed(Path(content)) as packed:
                return self._send_body(runtime_id, query, packed, TAR)
        return self._send_body(runtime_id, query, _source(content), TAR)

    def _send_body(self, runtime_id: str, query: list[tuple[str, str]], source: Source, kind: str) -> FilesWritten:
        path = runtime_path(runtime_id) + "/files"
        call = Call("PUT", path, query=tuple(query), source=source, content_type=kind, patience=UPLOAD)
        return parse(FilesWritten, self._transport.send(call))

    def get_file(self, runtime_id: str, path: str) -> bytes:
        """A file's bytes (``GET /runtimes/{id}/files``); links are followed. ``download_file`` for large ones.

        Raises:
            PathNotFound: there is none.
            PathConflict: it is a folder.
        """
        out = io.BytesIO()
        self.download_file(runtime_id, path, out)
        return out.getvalue()

    def download_file(self, runtime_id: str, path: str, target: Target) -> int:
        """Copy a file of a runtime into a local one, and return its size.

        Args:
            runtime_id: id or alias.
            path: absolute path in the runtime.
            target: path of the local file, which is written only once there is something to write, or an open one,
                which is rewound where the connection broke off.

        Raises:
            OSError: the local file can't be written.
            PathNotFound, PathConflict
        """
        return self._fetch(runtime_id, path, BYTES, target)

    def get_archive(self, runtime_id: str, path: str, target: Target) -> int:
        """Copy a file or folder of a runtime into a local tar, and return the tar's size.

        Args:
            runtime_id: id or alias.
            path: absolute path in the runtime; the names in the tar begin with its last part.
            target: as for ``download_file``.
        """
        return self._fetch(runtime_id, path, TAR, target)

    def _fetch(self, runtime_id: str, path: str, kind: str, target: Target) -> int:
        call = Call("GET", runtime_path(runtime_id) + "/files", query=(("path", path),), media_type=kind)
        with ExitStack() as opened:
            reply = opened.enter_context(closing(self._transport.open(call)))
            # Only now: a call that is refused leaves the local file as it was.
            file = opened.enter_context(open(target, "wb")) if isinstance(target, str | os.PathLike) else target
            return self._download(call, reply, file)

    def _download(self, call: Call, reply: OpenReply | None, file: IO[bytes]) -> int:
        policy, failures, begin = self._transport.policy, 0, _tell(file)
        while True:
            try:
                with closing(reply or self._transport.open(call)) as found:
                    return _copy(found, file)
            except RuntimeClientError as error:
                failures += 1
                error.attempts = max(error.attempts, failures)
                if not isinstance(error, ServerUnreachable) or failures >= policy.max_attempts or begin is None:
                    raise
            reply = None
            policy.sleep(policy.backoff(failures))
            file.seek(begin)
            file.truncate()

    def list_files(self, runtime_id: str, path: str, *, limit: int = 1000) -> list[FileInfo]:
        """What is in a folder of a runtime, by name.

        Args:
            runtime_id: id or alias.
            path: absolute path in the runtime.
            limit: how many entries at most, up to 10000; ``list_folder`` tells whether there are more.
        """
        return self.list_folder(runtime_id, path, limit=limit).entries

    def list_folder(self, runtime_id: str, path: str, *, limit: int = 1000) -> FileListing:
        """As ``list_files``, with the folder's real path, and whether there is more."""
        query = (("path", path), ("list", "true"), ("limit", str(limit)))
        call = Call("GET", runtime_path(runtime_id) + "/files", query=query)
        return parse(FileListing, self._transport.send(call))

    def delete_file(self, runtime_id: str, path: str, *, recursive: bool = False) -> FilesWritten:
        """Delete a file, a link or a folder of a runtime (``DELETE /runtimes/{id}/files``).

        Args:
            runtime_id: id or alias.
            path: absolute path in the runtime.
            recursive: also a folder that isn't empty.

        Raises:
            PathNotFound: there is nothing; also where a lost answer's call had deleted it.
            PathConflict: the folder isn't empty.
        """
        query = [("path", path), *_given(recursive="true" if recursive else None)]
        call = Call("DELETE", runtime_path(runtime_id) + "/files", query=tuple(query))
        return parse(FilesWritten, self._transport.send(call))


def _given(**values: str | None) -> list[tuple[str, str]]:
    return [(name, value) for name, value in values.items() if value is not None]


def _octal(mode: int | str | None) -> str | None:
    return f"{mode:04o}" if isinstance(mode, int) else mode


def _copy(reply: OpenReply, file: IO[bytes]) -> int:
    size = 0
    for piece in reply.pieces():
        file.write(piece)
        size += len(piece)
    length = reply.headers.get("Content-Length", "")
    if length.isdecimal() and size != int(length):
        raise ServerUnreachable(f"the answer broke off: {size} of {length} bytes")
    return size


def _tell(file: Any) -> int | None:
    """Where an open file is; None where it can't be brought back there."""
    try:
        return int(file.tell()) if file.seekable() else None
    except (OSError, AttributeError):
        return None


class _Again:
    """A body that can be opened as often as needed."""

    again = True

    def __init__(self, length: int, opener: Callable[[], OpenBody]) -> None:
        self.length: int | None = length
        self._opener = opener

    def open(self) -> OpenBody:
        return self._opener()


class _Once:
    """An open file that can be read once, and stays open."""

    again = False

    def __init__(self, file: Readable) -> None:
        self.length: int | None = None
        self._file = file

    def open(self) -> OpenBody:
        return _Kept(self._file)


class _Kept:
    """Reads another's file, and doesn't close it."""

    def __init__(self, file: Readable) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        pass


def _source(content: Content) -> Source:
    if isinstance(content, bytes):
        return _Again(len(content), lambda: io.BytesIO(content))
    if isinstance(content, str | os.PathLike):
        path = Path(content)
        return _Again(path.stat().st_size, lambda: path.open("rb"))
    begin = _tell(content)
    if begin is None:
        return _Once(content)
    file = cast("IO[bytes]", content)
    end = file.seek(0, os.SEEK_END)

    def rewound() -> OpenBody:
        file.seek(begin)
        return _Kept(file)

    return _Again(end - begin, rewound)


@contextmanager
def _packed(folder: Path) -> Iterator[Source]:
    """A tar of what is in a folder, in a temporary file."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for each in sorted(folder.iterdir()):
                tar.add(each, each.name)
        file.seek(0)
        yield _source(file)
