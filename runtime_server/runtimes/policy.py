"""What a start may ask for, and the specification that comes of it.

``policy_rules`` has the table of rules, ``policy_images`` and ``policy_mounts`` the two that need most care.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Mapping
from fnmatch import fnmatchcase

from runtime_server.engine.base import DeviceMapping, Mount, Publish, RuntimeSpec
from runtime_server.errors import LimitOutOfRange, ValidationFailed
from runtime_server.models import MIN_MEMORY, PortBinding, StartRequest, VolumeMount, parse_size
from runtime_server.runtimes import policy_images, policy_mounts, policy_workspaces, terms
from runtime_server.runtimes.policy_rules import refusal
from runtime_server.settings import Settings

ALL = "ALL"
_NEVER_NETWORKS = ("host", "container", "ns")
"""Another's network namespace: the host's, a container's, or (Podman) one by its path."""


class Policy:
    """The operator's rules, by setting.

    Args:
        settings: the rules.
        forbidden: paths that may never be mounted, nor anything that holds them: the engine's socket.
    """

    def __init__(self, settings: Settings, forbidden: tuple[str, ...] = ()) -> None:
        self._settings = settings
        ours = (str(settings.state_dir.expanduser().absolute()), str(settings.keys_path))
        self._mounts = policy_mounts.Mounts(settings.volume_roots, (*forbidden, *ours))
        self._kept = frozenset(_capability(each) for each in settings.cap_add)
        self._addable = self._kept | {_capability(each) for each in settings.allowed_capabilities}
        self._classes = dict(each.split("=", 1) for each in settings.runtime_classes)
        self._ports = [_range(each) for each in settings.host_ports]
        self._ulimits = dict(_ulimit(each) for each in settings.default_ulimits)
        self._log_size = parse_size(settings.log_max_size)
        self._memory = parse_size(settings.default_memory)
        self._host_cpus = os.cpu_count() or 1

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
            ImageReferenceInvalid, MountSourceMissing
            ValidationFailed: a command that can't be split into words.
        """
        settings = self._settings
        self._check_sizes(request)
        cpus, memory, pids = self.limits(request)
        classes = self._runtime_class(request.runtime_class)
        return RuntimeSpec(
            runtime_id=runtime_id,
            image=self._image(request.image),
            labels=labels,
            command=words(request.command, "command"),
            entrypoint=words(request.entrypoint, "entrypoint"),
            environment={**request.environment, **environment},
            ports=() if settings.routed else tuple(self._publish(port) for port in request.ports),
            exposed=_exposed(request) if settings.routed else (),
            mounts=(
                *(self._mount(request, volume, labels) for volume in request.volumes),
                *policy_workspaces.mounts(request, labels),
            ),
            restart_policy=self._restart_policy(request),
            network=self._network(request.network),
            working_dir=request.working_dir,
            user=request.user,
            group_add=tuple(request.group_add),
            hostname=request.hostname,
            cpus=cpus,
            memory=memory,
            pids_limit=pids,
            shm_size=parse_size(request.shm_size) if request.shm_size is not None else None,
            read_only=request.read_only,
            tmpfs=request.tmpfs,
            extra_hosts=request.extra_hosts,
            init=request.init,
            gpus=self._gpus(request),
            platform=request.platform,
            runtime_class=next(iter(classes), None),
            other_classes=classes[1:],
            cap_add=self._capabilities(request),
            no_new_privileges=self._no_new_privileges(request),
            privileged=self._privileged(request),
            devices=tuple(self._device(each) for each in request.devices),
            ulimits=self._ulimits,
            log_max_size=self._log_size,
            log_max_files=settings.log_max_files,
        )

    def completed(self, request: StartRequest) -> StartRequest:
        """The request with what the server decides where a start says nothing, and what records keep of it.

        Raises:
            ValidationFailed: a workspace that nothing names, or whose path is taken.
        """
        return policy_workspaces.completed(request, self._settings.workspace)

    def check_labels(self, labels: Mapping[str, str]) -> None:
        """Return if a runtime may have that many.

        Raises:
            PolicyRefused: it may not.
        """
        if len(labels) > self._settings.max_labels:
            raise refusal("MAX_LABELS", f"A runtime may have {self._settings.max_labels} labels.")

    def limits(self, request: StartRequest) -> tuple[float | None, int | None, int | None]:
        """CPUs, bytes of memory and processes that a start gets; None: no limit.

        ``resource_factor`` multiplies the defaults, not what the start names itself. Default CPUs are never more
        than this machine's.

        Raises:
            PolicyRefused, LimitOutOfRange
        """
        settings, factor = self._settings, request.resource_factor
        if factor > settings.max_resource_factor:
            raise refusal("MAX_RESOURCE_FACTOR", f"The resource factor may be {settings.max_resource_factor:g}.")
        if settings.max_pids and request.pids_limit and request.pids_limit > settings.max_pids:
            raise refusal("MAX_PIDS", f"The process limit may be {settings.max_pids}.")
        cpus = request.cpus or min(settings.default_cpus * factor, self._host_cpus)
        memory = parse_size(request.memory) if request.memory is not None else int(self._memory * factor)
        if 0 < memory < MIN_MEMORY:
            raise LimitOutOfRange("The memory limit must be at least 6m.")
        pids = request.pids_limit or (max(1, int(settings.default_pids * factor)) if settings.default_pids else 0)
        return cpus or None, memory or None, pids or None

    def note(self, request: StartRequest, given: str | None) -> str | None:
        """What to say where the runtime isn't as it was asked for; None where it is.

        Args:
            request: what was asked.
            given: the engine's OCI runtime that it has.
        """
        asked, notes = request.runtime_class, []
        if asked and given not in (None, asked):
            notes.append(f"runtime_class {asked} is {given} on this server")
        if self._settings.routed and any(port.host_port is not None for port in request.ports):
            notes.append("no port is published on this server: runtimes are reached through its gateway")
        unused = [name for name in terms.FIELDS if getattr(request, name) is not None]
        if unused and not self._settings.routed:
            notes.append(f"{', '.join(unused)} without effect on this server, which has no gateway")
        return "; ".join(notes) or None

    def _image(self, image: str) -> str:
        if not policy_images.allowed(image, self._settings.allowed_images):
            raise refusal("ALLOWED_IMAGES", "That image isn't among RUNTIME_SERVER_ALLOWED_IMAGES.")
        return image

    def _publish(self, port: PortBinding) -> Publish:
        host = port.host_ip or self._settings.publish_host
        if host != self._settings.publish_host and not _loopback(host):
            raise refusal("PUBLISH_HOST", "Ports are published on RUNTIME_SERVER_PUBLISH_HOST or loopback only.")
        if port.host_port is not None and not any(low <= port.host_port <= high for low, high in self._ports):
            raise refusal("HOST_PORTS", f"Host ports may be {', '.join(self._settings.host_ports) or 'picked only'}.")
        return Publish(port.container_port, port.protocol, host, port.host_port)

    def _network(self, name: str | None) -> str | None:
        if name is None:
            return None
        if name.partition(":")[0] in _NEVER_NETWORKS:
            raise refusal("ALLOWED_NETWORKS", "A runtime never joins the host's or a container's own network.")
        if name not in self._settings.allowed_networks:
            raise refusal("ALLOWED_NETWORKS", "That network isn't among RUNTIME_SERVER_ALLOWED_NETWORKS.")
        return name

    def _mount(self, request: StartRequest, volume: VolumeMount, labels: Mapping[str, str]) -> Mount:
        if not volume.host_path.startswith("/"):
            return policy_mounts.volume(volume, labels)
        restarts = request.restart_policy is not None and request.restart_policy.Name != "no"
        return self._mounts.host(volume, restarts=restarts and not self._settings.restart_host_paths)

    def _restart_policy(self, request: StartRequest) -> tuple[str, int] | None:
        asked = request.restart_policy
        if asked is None:
            return None
        if asked.Name not in self._settings.allowed_restart_policies:
            raise refusal("ALLOWED_RESTART_POLICIES", "That restart policy isn't allowed on this server.")
        return asked.Name, asked.MaximumRetryCount

    def _runtime_class(self, asked: str | None) -> tuple[str, ...]:
        """The engine's names for it, to be tried in order."""
        if asked is None:
            return ()
        given = self._classes.get(asked, self._classes.get("*"))
        # Never as it is: engines from 23 on take a path as well, and run what is there as root.
        if given is None:
            raise refusal("RUNTIME_CLASSES", "That runtime class isn't among RUNTIME_SERVER_RUNTIME_CLASSES.")
        return tuple(given.split("|"))

    def _capabilities(self, request: StartRequest) -> tuple[str, ...]:
        added = [_capability(each) for each in request.cap_add]
        if ALL not in self._addable and not self._addable.issuperset(added):
            raise refusal("ALLOWED_CAPABILITIES", "A capability isn't among RUNTIME_SERVER_ALLOWED_CAPABILITIES.")
        dropped = {_capability(each) for each in request.cap_drop}
        kept = set() if ALL in dropped else self._kept - dropped
        return tuple(sorted(kept | set(added)))

    def _no_new_privileges(self, request: StartRequest) -> bool:
        asked, default = request.no_new_privileges, self._settings.no_new_privileges
        if asked is False and default and not self._settings.allow_new_privileges:
            raise refusal("ALLOW_NEW_PRIVILEGES", "Set-user-id programs such as sudo don't work on this server.")
        return default if asked is None else asked

    def _privileged(self, request: StartRequest) -> bool:
        if request.privileged and not self._settings.allow_privileged:
            raise refusal("ALLOW_PRIVILEGED", "Privileged mode isn't allowed on this server.")
        return request.privileged

    def _gpus(self, request: StartRequest) -> str | int | None:
        if request.gpus is not None and not self._settings.allow_gpus:
            raise refusal("ALLOW_GPUS", "GPUs aren't given on this server.")
        return request.gpus

    def _device(self, asked: str) -> DeviceMapping:
        source, _, rest = asked.partition(":")
        target, _, permissions = rest.rpartition(":") if rest.startswith("/") and ":" in rest else (rest, "", "")
        if rest and not rest.startswith("/"):
            target, permissions = "", rest
        real = os.path.realpath(source)
        if not any(
            fnmatchcase(real, glob) or real == os.path.realpath(glob) for glob in self._settings.allowed_devices
        ):
            raise refusal("ALLOWED_DEVICES", "That device isn't among RUNTIME_SERVER_ALLOWED_DEVICES.")
        return DeviceMapping(real, target or source, permissions or "rwm")

    def _check_sizes(self, request: StartRequest) -> None:
        size = sum(len(f"{name}={value}".encode()) + 1 for name, value in request.environment.items())
        if size > self._settings.max_environment_bytes:
            raise refusal(
                "MAX_ENVIRONMENT_BYTES", f"The environment may have {self._settings.max_environment_bytes} bytes."
            )
        self.check_labels(request.labels)


def _exposed(request: StartRequest) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{port.container_port}/{port.protocol}" for port in request.ports))


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


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _ulimit(text: str) -> tuple[str, tuple[int, int]]:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    return name, (int(soft), int(hard or soft))


def _loopback(host: str) -> bool:
    try:
        return "%" not in host and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
