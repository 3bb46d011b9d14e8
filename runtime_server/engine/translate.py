"""Between our models and the Engine API's JSON (Docker Engine API 1.41 and later, and Podman's rendering of it).

Pure: plain dicts in, models out, and the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from runtime_server.engine import labels
from runtime_server.engine.base import (
    ContainerState,
    EngineEvent,
    ImageFacts,
    Listed,
    Mount,
    RuntimeSpec,
    Snapshot,
)
from runtime_server.engine.inside import ExecSpec
from runtime_server.engine.limits import NewLimits
from runtime_server.engine.stock import ListedImage, PullLayer, PullState
from runtime_server.errors import ImageReferenceInvalid
from runtime_server.models import EngineVersion, HostPort

JSON = Mapping[str, Any]

_PATH = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])"
)
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}(?::\d+)?/)?{_PATH}(?:/{_PATH})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
"""An image reference (grammar of github.com/distribution/reference)."""

_PODMAN_STATES = {
    "configured": ContainerState.CREATED,
    "initialized": ContainerState.CREATED,
    "stopping": ContainerState.RUNNING,
    "stopped": ContainerState.EXITED,
    "unknown": ContainerState.DEAD,
}
_WITH_EXIT_CODE = (ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING)
"""Of others it is that of an earlier process, or 0."""

_ACTIONS = {
    **{
        action: action
        for action in ("create", "start", "restart", "die", "oom", "pause", "unpause", "stop", "kill", "destroy")
    },
    "died": "die",
    "remove": "destroy",
}
"""Actions of events that change a state, with Podman's words for them; ``exec_*``, ``attach`` and the like don't."""


def image_reference(image: str) -> tuple[str, str]:
    """Name, and tag or digest (default ``latest``) of an image reference.

    Checked here too, since an engine takes an empty name, and a name with ``..`` would change the request's path.

    Raises:
        ImageReferenceInvalid: it isn't one.
    """
    match = _REFERENCE.fullmatch(image)
    if match is None:
        raise ImageReferenceInvalid("The image reference is not valid.", image=image)
    return match["name"], match["digest"] or match["tag"] or "latest"


def create_body(spec: RuntimeSpec) -> dict[str, Any]:
    """The body of ``POST /containers/create``; what is None, 0 or empty is left to the engine and the image."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Labels": dict(spec.labels),
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "ExposedPorts": {
            port: {} for port in (*(f"{each.container_port}/{each.protocol}" for each in spec.ports), *spec.exposed)
        },
        "WorkingDir": spec.working_dir,
        "User": spec.user,
        "Hostname": _hostname(spec),
        "HostConfig": _host_config(spec),
    }
    # An empty list is a choice here: it takes away what the image has.
    if spec.command is not None:
        body["Cmd"] = list(spec.command)
    if spec.entrypoint is not None:
        body["Entrypoint"] = list(spec.entrypoint)
    return {key: value for key, value in body.items() if value is not None}


def exec_body(spec: ExecSpec, marker: str) -> dict[str, Any]:
    """The body of ``POST /containers/{id}/exec``; ``marker`` is the variable that holds the spec's."""
    marked = {**spec.environment, **({marker: spec.marker} if spec.marker else {})}
    body: dict[str, Any] = {
        "Cmd": list(spec.command),
        "Env": [f"{name}={value}" for name, value in marked.items()],
        "AttachStdin": spec.stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": spec.tty,
        "Privileged": False,
        "WorkingDir": spec.working_dir,
        "User": spec.user,
    }
    return {key: value for key, value in body.items() if value is not None}


def limits_body(limits: NewLimits) -> dict[str, Any]:
    """The body of ``POST /containers/{id}/update``; what is missing there stays."""
    body: dict[str, Any] = {
        "NanoCpus": None if limits.cpus is None else round(limits.cpus * 1_000_000_000),
        "Memory": limits.memory,
        # As at creation: a memory limit can't be above the one with swap.
        "MemorySwap": limits.memory,
        "PidsLimit": limits.pids,
    }
    return {key: value for key, value in body.items() if value is not None}


def _hostname(spec: RuntimeSpec) -> str | None:
    if spec.hostname or (spec.network or "").startswith(("host", "container:")):
        return spec.hostname
    return spec.runtime_id


def _host_config(spec: RuntimeSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NetworkMode": spec.network,
        "PortBindings": _port_bindings(spec),
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "NanoCpus": round(spec.cpus * 1_000_000_000) if spec.cpus else None,
        "Memory": spec.memory,
        # The same: no swap on top (Docker's default is as much again).
        "MemorySwap": spec.memory,
        "PidsLimit": spec.pids_limit,
        "ShmSize": spec.shm_size,
        "ReadonlyRootfs": spec.read_only,
        "Tmpfs": dict(spec.tmpfs),
        "ExtraHosts": [f"{name}:{address}" for name, address in spec.extra_hosts.items()],
        "GroupAdd": list(spec.group_add),
        "DeviceRequests": _gpus(spec.gpus),
        "Runtime": spec.runtime_class,
        "CapDrop": list(spec.cap_drop),
        "CapAdd": list(spec.cap_add),
        # Without ":true", which Podman doesn't take.
        "SecurityOpt": ["no-new-privileges"] if spec.no_new_privileges else [],
        "Privileged": spec.privileged,
        "Devices": [
            {"PathOnHost": each.source, "PathInContainer": each.target, "CgroupPermissions": each.permissions}
            for each in spec.devices
        ],
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in spec.ulimits.items()],
        "LogConfig": _log_config(spec),
    }
    if spec.restart_policy is not None:
        name, count = spec.restart_policy
        config["RestartPolicy"] = {"Name": name, "MaximumRetryCount": count}
    # False is a choice: a daemon may have an init by default.
    return {"Init": spec.init, **{key: value for key, value in config.items() if value}}


def _log_config(spec: RuntimeSpec) -> dict[str, Any] | None:
    if not spec.log_max_size:
        return None
    # Without a type the engine keeps its own driver; one that takes no sizes (journald, syslog) refuses them.
    return {"Type": "", "Config": {"max-size": str(spec.log_max_size), "max-file": str(spec.log_max_files)}}


def _port_bindings(spec: RuntimeSpec) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        host_port = "" if port.host_port is None else str(port.host_port)
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(
            {"HostIp": port.host_ip, "HostPort": host_port}
        )
    return bindings


def _mount(mount: Mount) -> dict[str, Any]:
    # As ``Mounts``, not ``Binds``: with the latter the engine makes a missing source, as root.
    kind = "volume" if mount.is_volume else "bind"
    body = {"Type": kind, "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
    return body | ({"VolumeOptions": {"Labels": dict(mount.labels)}} if mount.labels else {})


def _gpus(gpus: str | int | None) -> list[dict[str, Any]]:
    if not gpus:
        return []
    return [{"Driver": "", "Count": -1 if gpus == "all" else int(gpus), "Capabilities": [["gpu"]]}]


def snapshot(attrs: JSON) -> Snapshot:
    """A container from ``GET /containers/{id}/json``."""
    state, config, host = attrs["State"], attrs.get("Config") or {}, attrs.get("HostConfig") or {}
    status = container_state(state.get("Status") or "")
    return Snapshot(
        container_id=attrs["Id"],
        name=attrs.get("Name", "").lstrip("/"),
        state=status,
        image=config.get("Image") or attrs.get("Image") or "",
        labels=dict(config.get("Labels") or {}),
        ports=ports((attrs.get("NetworkSettings") or {}).get("Ports"), config.get("ExposedPorts")),
        environment=_environment(config.get("Env")),
        exit_code=state.get("ExitCode") if status in _WITH_EXIT_CODE else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        created_at=unix_time(attrs.get("Created")),
        started_at=unix_time(state.get("StartedAt")),
        finished_at=unix_time(state.get("FinishedAt")),
        restart_count=attrs.get("RestartCount") or 0,
        pid=state.get("Pid") or None,
        address=_address(attrs.get("NetworkSettings") or {}),
        health=_health(state.get("Health") or state.get("Healthcheck") or {}),
        cpus=(host.get("NanoCpus") or 0) / 1_000_000_000 or None,
        memory=host.get("Memory") or None,
    )


def _address(settings: JSON) -> str | None:
    """The container's IPv4 address on its first network, else an IPv6 one; "" is none."""
    networks = [settings, *(settings.get("Networks") or {}).values()]
    found = [each.get(name) for name in ("IPAddress", "GlobalIPv6Address") for each in networks if each]
    return next((str(each) for each in found if each), None)


def _health(health: JSON) -> str | None:
    """``none`` (Docker) and "" (Podman) mean that there is no HEALTHCHECK."""
    status = str(health.get("Status") or "").lower()
    return status if status in ("starting", "healthy", "unhealthy") else None


def ports(published: JSON | None, exposed: Iterable[str] | None = None) -> dict[str, list[HostPort]]:
    """Ports in the Engine's shape; one that is exposed and not published is an empty list, never null.

    Podman has an empty ``HostIp`` where Docker has ``0.0.0.0``.
    """
    found: dict[str, list[HostPort]] = {port: [] for port in exposed or ()}
    for port, hosts in (published or {}).items():
        found[port] = [
            HostPort(HostIp=host.get("HostIp") or "0.0.0.0", HostPort=str(host["HostPort"]))  # noqa: S104
            for host in hosts or ()
        ]
    return found


def _environment(entries: Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in entries or ())}


def container_state(word: str) -> ContainerState:
    """An engine's word for a state; one that is not known counts as dead."""
    word = word.lower()
    try:
        return ContainerState(word)
    except ValueError:
        return _PODMAN_STATES.get(word, ContainerState.DEAD)


def unix_time(text: str | None) -> float | None:
    """Unix seconds of an RFC 3339 time with nanoseconds; Go's zero time, year 1, is None."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).timestamp()


def image_facts(attrs: JSON) -> ImageFacts:
    """An image from ``GET /images/{name}/json``; one that was pulled has no time of naming."""
    named = (attrs.get("Metadata") or {}).get("LastTagTime")
    return ImageFacts(
        size=int(attrs.get("Size") or 0), created_at=unix_time(named) or unix_time(attrs.get("Created"))
    )


def listed_image(attrs: JSON) -> ListedImage:
    """An image from ``GET /images/json``; ``<none>`` stands for a name, tag or digest that isn't there."""
    names = [*(attrs.get("RepoTags") or ()), *(attrs.get("RepoDigests") or ())]
    created = attrs.get("Created")
    return ListedImage(
        image_id=str(attrs["Id"]),
        references=tuple(dict.fromkeys(each for each in names if "<none>" not in each)),
        size=int(attrs.get("Size") or 0),
        created_at=float(created) if created else None,
        labels=dict(attrs.get("Labels") or {}),
    )


def unused_cache(attrs: JSON, before: float) -> int:
    """Bytes from ``GET /system/df`` of what builds have left, last used before that Unix time."""
    total = 0
    for each in attrs.get("BuildCache") or ():
        used = unix_time(each.get("LastUsedAt")) or unix_time(each.get("CreatedAt")) or 0.0
        if not each.get("InUse") and not each.get("Shared") and used <= before:
            total += int(each.get("Size") or 0)
    return total


def listed(attrs: JSON) -> Listed:
    """A container from ``GET /containers/json``."""
    # Legacy links add names of the form /other/alias.
    names = [name.lstrip("/") for name in attrs.get("Names") or () if name.count("/") < 2]
    return Listed(
        container_id=attrs["Id"],
        name=names[0] if names else "",
        state=container_state(attrs.get("State") or ""),
        labels=dict(attrs.get("Labels") or {}),
    )


def event(message: JSON) -> EngineEvent | None:
    """An event of ``GET /events``; None where it isn't about a state of a runtime."""
    actor = message.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    runtime_id = attributes.get(labels.RUNTIME_ID)
    # "health_status: healthy" and the like carry a value behind a colon.
    action = _ACTIONS.get(str(message.get("Action", "")).partition(":")[0])
    if message.get("Type") != "container" or not runtime_id or action is None:
        return None
    nanoseconds = message.get("timeNano")
    exit_code = str(attributes.get("exitCode") or attributes.get("containerExitCode") or "")
    return EngineEvent(
        container_id=actor.get("ID", ""),
        runtime_id=runtime_id,
        action=action,
        at=nanoseconds / 1e9 if nanoseconds else float(message.get("time") or 0),
        exit_code=int(exit_code) if exit_code.isdecimal() else None,
        oom_killed=action == "oom",
    )


def engine_version(answer: JSON) -> EngineVersion:
    """The answer of ``GET /version``; Docker calls itself ``Engine`` there."""
    components = answer.get("Components") or [{}]
    name = str(components[0].get("Name") or "Engine")
    return EngineVersion(
        name="Docker Engine" if name == "Engine" else name,
        version=str(answer.get("Version", "")),
        api_version=str(answer.get("ApiVersion", "")),
    )


_DONE = frozenset({"Pull complete", "Already exists"})
_WHOLE = _DONE | {"Verifying Checksum", "Download complete"}
"""Phases of a layer's pull, and those in which all of it has been downloaded."""


class PullProgress:
    """Sums up the messages of ``POST /images/create``."""

    def __init__(self) -> None:
        self._layers: dict[str, PullLayer] = {}
        self._downloads: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()

    def state(self, message: JSON) -> PullState:
        """How far it is after this message."""
        layer, phase = str(message.get("id") or ""), str(message.get("status") or "")
        if layer and not phase.startswith("Pulling from"):
            detail = message.get("progressDetail") or {}
            current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
            _, size = self._downloads.setdefault(layer, (0, 0))
            if phase == "Downloading":
                self._downloads[layer] = (current, total)
            elif phase in _WHOLE:
                self._downloads[layer] = current, total = size, size
                self._done |= {layer} if phase in _DONE else set()
            self._layers[layer] = PullLayer(layer, phase, current, total)
        return PullState(self._sentence(), tuple(self._layers.values()))

    def _sentence(self) -> str:
        """E.g. ``Pulling: 1 of 3 layers, 12.4 of 30.1 MB``."""
        if not self._layers:
            return "Pulling"
        current, total = (sum(each) / 1e6 for each in zip(*self._downloads.values(), strict=True))
        size = f", {current:.1f} of {total:.1f} MB" if total else ""
        return f"Pulling: {len(self._done)} of {len(self._layers)} layers{size}"
