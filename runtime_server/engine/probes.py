"""Asking a container's own service whether it answers, from the engine's host."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import docker.errors
from docker import APIClient

from runtime_server.engine.base import Snapshot
from runtime_server.errors import EngineTimeout

LARGEST = 65_536
"""Bytes of an answer that are read."""
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


def http_json(snapshot: Snapshot, port: int, path: str, timeout: float) -> object | None:
    """As ``Engine.http_json``. The whole answer has ``timeout`` seconds and ``LARGEST`` bytes, however it drips."""
    target = _target(snapshot, port)
    if target is None:
        return None
    late = threading.Event()
    connection = http.client.HTTPConnection(*target, timeout=timeout)

    def give_up() -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(LARGEST)
        if late.is_set():
            raise TimeoutError
        return json.loads(body) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise EngineTimeout("The runtime's service didn't answer in time.") from None
        return None
    finally:
        timer.cancel()
        connection.close()


def _target(snapshot: Snapshot, port: int) -> tuple[str, int] | None:
    published = snapshot.ports.get(f"{port}/tcp")
    if published:
        return published[0].host, int(published[0].HostPort)
    return (snapshot.address, port) if snapshot.address else None


def commands(client: APIClient, attrs: Mapping[str, Any]) -> int:
    """As ``Engine.commands``, of an inspected container: engines list execs that have ended for a while."""
    running = 0
    for each in attrs.get("ExecIDs") or ():
        with contextlib.suppress(docker.errors.NotFound):
            running += bool(client.exec_inspect(each).get("Running"))
    return running


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
