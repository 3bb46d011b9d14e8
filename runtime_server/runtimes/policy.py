"""What a start may ask for, and the specification that comes of it."""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from runtime_server.engine.base import Mount, Publish, RuntimeSpec
from runtime_server.errors import LimitOutOfRange, PolicyRefused, ValidationFailed
from runtime_server.models import MIN_MEMORY, PortBinding, StartRequest, VolumeMount, parse_size
from runtime_server.settings import Settings


class Policy:
    """The operator's rules, by setting.

    Args:
        settings: the rules.
        forbidden: paths that may never be mounted, nor anything that holds them: the engine's socket.
    """

    def __init__(self, settings: Settings, forbidden: tuple[str, ...] = ()) -> None:
        self._settings = settings
        self._roots = [os.path.realpath(os.path.expanduser(root)) for root in settings.volume_roots]
        self._never = [os.path.realpath(path) for path in (*forbidden, str(settings.state_dir.expanduser()))]

    def spec(
        self, request: StartRequest, runtime_id: str, labels: Mapping[str, str], environment: Mapping[str, str]
    ) -> RuntimeSpec:
        """The specification of a start.

        Args:
            request: what was asked.
            runtime_id: the container's name.
            labels: all labels, ours included.
            environment: variables of our own, which win over the request's.

        Raises:
            PolicyRefused: a rule forbids it; the error names the setting.
            LimitOutOfRange: a limit that no engine accepts.
            ValidationFailed: a command that can't be split into words.
        """
        settings = self._settings
        restart = request.restart_policy
        return RuntimeSpec(
            runtime_id=runtime_id,
            image=request.image,
            labels=labels,
            command=words(request.command, "command"),
            entrypoint=words(request.entrypoint, "entrypoint"),
            environment={**request.environment, **environment},
            ports=tuple(self._publish(port) for port in request.ports),
            mounts=tuple(self._mount(volume) for volume in request.volumes),
            restart_policy=(restart.Name, restart.MaximumRetryCount) if restart else None,
            network=self._network(request.network),
            working_dir=request.working_dir,
            user=request.user,
            group_add=tuple(request.group_add),
            hostname=request.hostname,
            cpus=request.cpus or settings.default_cpus or None,
            memory=_memory(request.memory if request.memory is not None else settings.default_memory),
            pids_limit=request.pids_limit or settings.default_pids or None,
            shm_size=parse_size(request.shm_size) if request.shm_size is not None else None,
            read_only=request.read_only,
            tmpfs=request.tmpfs,
            extra_hosts=request.extra_hosts,
            init=request.init,
            gpus=request.gpus,
            platform=request.platform,
            runtime_class=request.runtime_class,
            cap_add=settings.cap_add,
            no_new_privileges=settings.no_new_privileges,
        )

    def _publish(self, port: PortBinding) -> Publish:
        host = port.host_ip or self._settings.publish_host
        if host != self._settings.publish_host and not _loopback(host):
            raise PolicyRefused(
                "Ports are published on RUNTIME_SERVER_PUBLISH_HOST or loopback only.",
                setting="RUNTIME_SERVER_PUBLISH_HOST",
            )
        return Publish(port.container_port, port.protocol, host, port.host_port)

    def _network(self, name: str | None) -> str | None:
        if name is not None and name not in self._settings.allowed_networks:
            raise PolicyRefused(
                "That network isn't among RUNTIME_SERVER_ALLOWED_NETWORKS.", setting="RUNTIME_SERVER_ALLOWED_NETWORKS"
            )
        return name

    def _mount(self, volume: VolumeMount) -> Mount:
        read_only = volume.mode == "ro"
        if not volume.host_path.startswith("/"):
            return Mount(volume.host_path, volume.container_path, read_only)
        # The real path is what is mounted: a link that is swapped afterwards is not followed again by us.
        source = os.path.realpath(volume.host_path)
        if not any(_within(source, root) for root in self._roots):
            raise _refused("Host paths can be mounted only under RUNTIME_SERVER_VOLUME_ROOTS.")
        if any(_within(source, never) or _within(never, source) for never in self._never):
            raise _refused("The engine's socket and the state directory can't be mounted.")
        return Mount(source, volume.container_path, read_only)


def words(command: str | list[str] | None, field: str) -> tuple[str, ...] | None:
    """A command's words; a string is split as a POSIX shell would, without expanding anything.

    Raises:
        ValidationFailed: quotes that don't close.
    """
    if command is None:
        return None
    if not isinstance(command, str):
        return tuple(command)
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        wrong = [{"loc": [field], "msg": f"can't be split into words: {error}", "type": "value_error"}]
        raise ValidationFailed("The request is not valid.", errors=wrong) from None


def _memory(value: str | int) -> int | None:
    size = parse_size(value)
    if 0 < size < MIN_MEMORY:
        raise LimitOutOfRange("The memory limit must be at least 6m.")
    return size or None


def _refused(detail: str) -> PolicyRefused:
    return PolicyRefused(detail, setting="RUNTIME_SERVER_VOLUME_ROOTS")


def _within(path: str, root: str) -> bool:
    return Path(path).is_relative_to(root)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
