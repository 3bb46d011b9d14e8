"""Sockets that systemd has made before this process (sd_listen_fds(3)), which gunicorn takes over by itself."""

from __future__ import annotations

import os
import socket

import click

from runtime_server.settings import Settings

_FIRST = 3
"""The first descriptor (SD_LISTEN_FDS_START)."""


def is_activated() -> bool:
    """Whether this process was handed sockets, and makes none itself."""
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and _number() > 0


def check_handed_over(settings: Settings) -> None:
    """See that what the settings name is among them: gunicorn listens on what it is handed, whatever they say.

    Raises:
        click.ClickException: a socket is missing.
    """
    found = {_name(_FIRST + number) for number in range(_number())}
    wanted = {settings.bind.removeprefix("unix:")} if settings.bind else set()
    if settings.routed:
        wanted.add(str(settings.gateway_socket))
    missing = sorted(wanted - found)
    if missing:
        raise click.ClickException(
            f"systemd hands over {', '.join(sorted(found))}, but not {', '.join(missing)}: "
            "name each in a .socket unit, and all of those in Sockets= of the service."
        )


def _number() -> int:
    told = os.environ.get("LISTEN_FDS", "")
    return int(told) if told.isascii() and told.isdigit() else 0


def _name(descriptor: int) -> str:
    """A path, or address and port."""
    with socket.socket(fileno=os.dup(descriptor)) as handed:
        name = handed.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"
