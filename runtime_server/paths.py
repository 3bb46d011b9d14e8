"""Where things lie by default: shared by server and client, so it loads nothing heavy."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

API_KEY_FILE = "api-key"
"""The generated key's file in the state directory, mode 0600."""


KEYS_FILE = "keys.json"
"""The hashed keys' file in the state directory, mode 0600."""


class NotPrivate(Exception):
    """Others can reach what holds secrets; the message is a sentence that says what to do."""


def check_private(path: Path, found: os.stat_result) -> None:
    """See that a file or folder, given what ``stat`` says of it, is this user's and nobody else's.

    Raises:
        NotPrivate: it isn't.
    """
    if found.st_uid != os.geteuid():
        raise NotPrivate(f"{path} belongs to another user (uid {found.st_uid}).")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        wanted = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
        raise NotPrivate(f"{path} is open to other users (mode {mode:04o}); use: chmod {wanted:o} {path}")


def put_whole(path: Path, text: str, *, draft: str = ".new") -> None:
    """Put the text into a file of mode 0600 that others find as it was or as it is, but no half of it.

    It isn't forced to the disk: after a loss of power the file may be the old one, or empty.

    Args:
        path: the file.
        text: all of it.
        draft: the end of the name under which it is written first; unique where several write at once.

    Raises:
        OSError: it can't be written.
    """
    first = path.with_name(f"{path.name}{draft}")
    descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    first.replace(path)


def default_state_dir() -> Path:
    """Records, the instance's id and a generated key: the platform's state directory."""
    return platformdirs.user_state_path("runtime-server")


def default_volume_root() -> Path:
    """The one folder whose content may be mounted by default: in the platform's data directory."""
    return platformdirs.user_data_path("runtime-server") / "volumes"
