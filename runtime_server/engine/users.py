"""Which ids a container's ``user`` stands for, by the image's own files. Pure.

The rules are those by which engines start a process (``GetExecUser`` of github.com/moby/sys/user).
"""

from __future__ import annotations

from collections.abc import Iterator

from runtime_server.engine.files import Ids

MOST = 2**31 - 1
"""The largest id that engines take."""


def is_root(user: str) -> bool:
    """Whether it is root by its spelling alone; none given is root as well."""
    return user.partition(":")[0] in ("", "0", "root")


def by_numbers(user: str) -> Ids | None:
    """The ids of ``uid:gid``, which no file is needed for."""
    name, colon, group = user.partition(":")
    uid, gid = _number(name), _number(group)
    return (uid, gid) if colon and uid is not None and gid is not None else None


def by_files(user: str, passwd: str, groups: str) -> Ids | None:
    """The ids of a user, and its group, by name or number.

    Args:
        user: ``name``, ``uid``, or either with ``:group``.
        passwd: the text of ``/etc/passwd``.
        groups: the text of ``/etc/group``.

    Returns:
        None where the image has no such user or group: the container can't be started either.
    """
    name, _, group = user.partition(":")
    entry = next(((int(each[2]), int(each[3])) for each in _entries(passwd, 4) if _is(name, each)), None)
    if entry is None:
        uid = _number(name)
        if uid is None:
            return None
        entry = (uid, 0)
    if not group:
        return entry
    gid = next((int(each[2]) for each in _entries(groups, 3) if _is(group, each)), _number(group))
    return None if gid is None else (entry[0], gid)


def _is(wanted: str, entry: list[str]) -> bool:
    """Whether the entry is meant; what looks like a number is one, even where it is somebody's name."""
    number = _number(wanted)
    return entry[0] == wanted if number is None else int(entry[2]) == number


def _entries(text: str, numbers_up_to: int) -> Iterator[list[str]]:
    """The lines whose third field, and those up to that many, are ids."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= numbers_up_to and all(_number(each) is not None for each in fields[2:numbers_up_to]):
            yield fields


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MOST else None
