"""API keys in a file: hashed, changed by the command line, seen by every worker at its next request.

A key holds 256 random bits, so that one SHA-256 of it can't be turned back: slow hashes are for what people make up.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

from runtime_server.paths import check_private

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
"""What a key, and so an owner, can be called."""
PREFIX = "rsk_"
"""How generated keys begin, so that scanners of repositories can know them."""

_VERSION = 1
_ID = re.compile(r"key-[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
Stamp = tuple[int, int, int, int]
T = TypeVar("T")


class KeyFileBroken(Exception):
    """The file can't be read as keys; the message is a sentence that holds nothing of it."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the file has it; ``created_at`` is Unix seconds."""

    id: str
    name: str
    sha256: str = field(repr=False)
    admin: bool
    created_at: float


def digest(key: str) -> str:
    """SHA-256 of the key, in hex digits."""
    # WSGI hands headers over as latin-1 text: any byte may come.
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyFile:
    """The keys of one file, JSON of mode 0600. Missing is as good as empty.

    Args:
        path: the file; its folder exists once a key is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[StoredKey, ...]:
        """All keys, in the order in which they were added.

        Raises:
            NotPrivate: others can read or write the file.
            KeyFileBroken: it isn't ours, or can't be read.
        """
        try:
            # Checked and read by one descriptor: it can't be another file in between.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileBroken(f"{self.path} can't be read: {error.strerror}.") from None
        with os.fdopen(descriptor, "rb") as file:
            check_private(self.path, os.fstat(descriptor))
            try:
                return _parsed(json.loads(file.read()))
            except (ValueError, KeyError, TypeError, RecursionError):
                raise KeyFileBroken(f"{self.path} is not a file of keys that this version can read.") from None

    def add(self, name: str, *, admin: bool = False) -> tuple[StoredKey, str]:
        """Make a key.

        Args:
            name: the owner that it stands for; several keys may share it.
            admin: it sees all owners.

        Returns:
            What was stored, and the key itself, which is never to be had again.

        Raises:
            ValueError: the name can't be one.
            NotPrivate, KeyFileBroken: as ``read``.
            OSError: the file can't be written.
        """
        if not NAME.fullmatch(name):
            raise ValueError("a name is 1 to 64 letters, digits, dots, dashes and underscores")
        key = PREFIX + secrets.token_urlsafe(32)
        with self._changing() as keys:
            made = StoredKey(f"key-{secrets.token_hex(4)}", name, digest(key), admin, round(time.time(), 3))
            keys.append(made)
        return made, key

    def revoke(self, name: str) -> tuple[StoredKey, ...]:
        """Forget the key of that id, or all keys of that name; they are refused from now on.

        Returns:
            What was revoked; nothing where there is no such key.

        Raises:
            NotPrivate, KeyFileBroken: as ``read``.
            OSError: the file can't be written.
        """
        with self._changing() as keys:
            gone = tuple(each for each in keys if name in (each.id, each.name))
            keys[:] = [each for each in keys if each not in gone]
        return gone

    @contextmanager
    def _changing(self) -> Iterator[list[StoredKey]]:
        """The keys, written back as a whole if they were changed; one process at a time."""
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read()
            keys = list(before)
            yield keys
            if tuple(keys) != before:
                self._replace(keys)
        finally:
            os.close(lock)

    def _replace(self, keys: list[StoredKey]) -> None:
        draft = self.path.with_name(self.path.name + ".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"version": _VERSION, "keys": [dataclasses.asdict(each) for each in keys]}, file, indent=1)
            file.flush()
            # The kernel's clock for files is coarse: two changes in one tick must not look like one.
            with suppress(FileNotFoundError):
                last = self.path.stat().st_mtime_ns
                moment = max(time.time_ns(), last + 1)
                os.utime(descriptor, ns=(moment, moment))
            os.fsync(descriptor)
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _parsed(document: dict[str, Any]) -> tuple[StoredKey, ...]:
    if document["version"] != _VERSION:
        raise ValueError("another version's")
    keys = tuple(StoredKey(**each) for each in document["keys"])
    for each in keys:
        fits = _ID.fullmatch(each.id) and NAME.fullmatch(each.name) and _DIGEST.fullmatch(each.sha256)
        if not fits or not isinstance(each.admin, bool) or not isinstance(each.created_at, int | float):
            raise ValueError("not a key")
    return keys


class Watched(Generic[T]):
    """A file's content as ``load`` makes it, made again once the file is another; one ``stat`` a look. Thread-safe.

    Args:
        path: the file.
        load: reads it.
    """

    def __init__(self, path: Path, load: Callable[[], Mapping[str, T]]) -> None:
        self._path = path
        self._load = load
        self._lock = threading.Lock()
        self._seen: tuple[Stamp | None, Mapping[str, T]] = (None, {})

    def look(self) -> Mapping[str, T]:
        """What the file holds now; nothing where it is missing.

        Raises:
            NotPrivate, KeyFileBroken: as ``load``; once for each content, which then counts as nothing.
        """
        before, content = self._seen
        if self._stamp() == before:
            return content
        with self._lock:
            # What is read may be newer than the stamp: then the next look reads again.
            stamp = self._stamp()
            if stamp != self._seen[0]:
                content = {}
                try:
                    content = self._load()
                finally:
                    self._seen = (stamp, content)
            return self._seen[1]

    def _stamp(self) -> Stamp | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
