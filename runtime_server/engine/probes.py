"""Asking a container's own service whether it answers, from the engine's host."""

from __future__ import annotations

import http.client
import time
from typing import Any

from docker import APIClient

from runtime_server.engine.base import Snapshot

POLL = 0.02
"""Seconds between two looks at a command that runs."""


def http_status(snapshot: Snapshot, port: int, path: str, timeout: float) -> int | None:
    """As ``Engine.http_status``: by the published port where there is one, else by the container's own address.

    Neither follows a redirect nor reads a body: the status says enough.
    """
    target = _target(snapshot, port)
    if target is None:
        return None
    connection = http.client.HTTPConnection(*target, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _target(snapshot: Snapshot, port: int) -> tuple[str, int] | None:
    published = snapshot.ports.get(f"{port}/tcp")
    if published:
        return published[0].host, int(published[0].HostPort)
    return (snapshot.address, port) if snapshot.address else None


def command_status(client: APIClient, container: str, command: tuple[str, ...], timeout: float) -> int | None:
    """As ``Engine.command_status``. Its output is thrown away by the engine, which nobody listens to."""
    made: dict[str, Any] = client.exec_create(container, list(command), stdout=False, stderr=False)
    client.exec_start(made["Id"], detach=True)
    end = time.monotonic() + timeout
    while True:
        state: dict[str, Any] = client.exec_inspect(made["Id"])
        if not state.get("Running"):
            code = state.get("ExitCode")
            return None if code is None else int(code)
        if time.monotonic() >= end:
            return None
        time.sleep(POLL)
