"""What a start gets because it has a session, and what it asks for in the words of OpenHands' clients. Pure.

Their contract: `command` is the whole command line, so it takes the place of the image's ENTRYPOINT; four services
listen inside, whose ports nobody names; a session is ready once its main service answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from runtime_server.models import HttpReady, PortBinding, ReadyCheck, StartRequest, VolumeMount
from runtime_server.store.records import Record

MAIN_PORT = 60000
"""OpenHands' agent server."""
VSCODE_PORT = 60001
WORK_PORTS = (12000, 12001)
MAIN, VSCODE = "", "vscode"
SERVICES = {VSCODE: VSCODE_PORT, "work-1": WORK_PORTS[0], "work-2": WORK_PORTS[1]}
"""What the services beside the main one are called in addresses; any other port is ``p`` and its number."""
SERVICE_PORTS = (MAIN_PORT, VSCODE_PORT, *WORK_PORTS)
WORKSPACE = "/workspace"
EARLIEST = "oh-remote-runtime-"
"""What names begin with that OpenHands 0.9 gives, which knows no `session_id` yet."""

_NUMBERED = re.compile(r"p([1-9]\d{0,4})", re.ASCII)
_SHELL = re.compile(r"[;&|<>()$`\\\n*?{}~#!]|(^|\s)(cd|exec|export|source|\.)\s|^\s*\w+=")
"""What a string has that only a shell understands."""


def completed(request: StartRequest) -> StartRequest:
    """The request with what its session brings along, and with its synonyms in this API's own words."""
    changes = _synonyms(request)
    if is_session(request.session_id, request.name):
        changes["ports"] = [*request.ports, *_missing_ports(request)]
        if request.command is not None and request.entrypoint is None:
            changes["entrypoint"], changes["command"] = [], _command_line(request.command)
    return request.model_copy(update=changes) if changes else request


def named(request: StartRequest) -> StartRequest:
    """The request with its session under its own name."""
    if request.runtime_id is None:
        return request
    return request.model_copy(update={"session_id": request.session_id or request.runtime_id, "runtime_id": None})


def is_session(session_id: str | None, name: str | None) -> bool:
    """Whether a runtime is an OpenHands client's: by its session, or by the name that the earliest ones send."""
    return session_id is not None or (name or "").startswith(EARLIEST)


def _synonyms(request: StartRequest) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if request.run_as_user is not None:
        group = "" if request.run_as_group is None else f":{request.run_as_group}"
        changes["user"] = f"{request.run_as_user}{group}"
    if request.fs_group is not None:
        changes["group_add"] = list(dict.fromkeys([*request.group_add, str(request.fs_group)]))
    if request.enable_gpu and request.gpus is None:
        changes["gpus"] = "all"
    if request.use_host_network and request.network is None:
        changes["network"] = "host"
    if request.workspace_mount_path is not None:
        target = request.workspace_mount_path_in_sandbox or WORKSPACE
        mount = VolumeMount(host_path=request.workspace_mount_path, container_path=target, mode="rw")
        changes["volumes"] = [*request.volumes, mount]
    return changes


def _missing_ports(request: StartRequest) -> list[PortBinding]:
    named = {each.container_port for each in request.ports if each.protocol == "tcp"}
    wanted = dict.fromkeys([request.main_port or MAIN_PORT, *SERVICE_PORTS[1:]])
    return [
        PortBinding(container_port=port, host_port=None, protocol="tcp", host_ip=None)
        for port in wanted
        if port not in named
    ]


def _command_line(command: str | list[str]) -> str | list[str]:
    """A string that needs a shell gets one; any other is split into words, so that no shell is needed."""
    if isinstance(command, str) and _SHELL.search(command):
        return ["/bin/sh", "-c", command]
    return command


def main_port(spec: Mapping[str, Any], ports: Iterable[str]) -> int | None:
    """The port of the main service inside; None where nothing says which it is.

    Args:
        spec: what the start asked for, as its record keeps it.
        ports: published and exposed ones, as ``8000/tcp``.
    """
    if spec.get("main_port"):
        return int(spec["main_port"])
    if is_session(spec.get("session_id"), spec.get("name")):
        return MAIN_PORT
    found = [port.partition("/")[0] for port in ports if port.endswith("/tcp")]
    return int(found[0]) if len(found) == 1 else None


def service_of(port: int) -> str:
    """A port's name in addresses."""
    return next((name for name, known in SERVICES.items() if known == port), f"p{port}")


def port_of(service: str) -> int | None:
    """The port inside that a name in an address means; None for what is no name of one, or the main service's."""
    if service in SERVICES:
        return SERVICES[service]
    match = _NUMBERED.fullmatch(service)
    return int(match[1]) if match and int(match[1]) <= 65535 else None


def ready_check(request: StartRequest) -> ReadyCheck | None:
    """What makes the runtime ready; None: whatever the image says."""
    if request.readiness is not None:
        return request.readiness
    return HttpReady(type="http", port=None) if is_session(request.session_id, request.name) else None


def of_record(record: Record) -> Mapping[str, Any]:
    """What the record's start asked for, as far as it is known."""
    return {"session_id": record.session_id, "name": record.name, **record.spec}
