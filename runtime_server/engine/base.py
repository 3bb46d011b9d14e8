"""The Engine protocol: runtimes, specifications and snapshots; nothing of any engine's own JSON.

Errors are the catalogue's (``runtime_server.errors``), and the two below that callers act upon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from runtime_server.engine.files import FilesEngine
from runtime_server.engine.inside import InsideEngine
from runtime_server.engine.limits import LimitsEngine
from runtime_server.engine.stock import PullState, StockEngine
from runtime_server.models import EngineVersion, HostPort


class ContainerMissing(Exception):
    """The engine has no container of that id or name."""


class NameTaken(Exception):
    """A container of that name exists already: an earlier attempt of the same start."""


class VolumeInUse(Exception):
    """A container, running or not, mounts the volume."""


class ContainerState(StrEnum):
    """What an engine says of a container (Docker's words; Podman's are translated)."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Publish:
    """A container port on a host address; ``host_port`` None lets the engine choose."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder (absolute ``source``) or a named volume at ``target``."""

    source: str
    target: str
    read_only: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of a named volume that the engine makes."""
    identity: tuple[int, int] | None = field(default=None, compare=False)
    """Device and inode that policy found at ``source``."""

    @property
    def is_volume(self) -> bool:
        """Whether the source is a volume's name."""
        return not self.source.startswith("/")


@dataclass(frozen=True, slots=True)
class DeviceMapping:
    """A host device in the container; ``permissions`` of ``rwm``: read, write, make."""

    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """Everything an engine needs to create a runtime's container; policy has been applied.

    Sizes are bytes, ``cpus`` is in whole CPUs, 0 or None means the engine's own default.
    """

    runtime_id: str
    image: str
    labels: Mapping[str, str]
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[Publish, ...] = ()
    exposed: tuple[str, ...] = ()
    """Ports such as ``8000/tcp`` that are declared and not published."""
    mounts: tuple[Mount, ...] = ()
    restart_policy: tuple[str, int] | None = None
    network: str | None = None
    working_dir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    hostname: str | None = None
    cpus: float | None = None
    memory: int | None = None
    pids_limit: int | None = None
    shm_size: int | None = None
    read_only: bool = False
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    init: bool = True
    gpus: str | int | None = None
    platform: str | None = None
    runtime_class: str | None = None
    other_classes: tuple[str, ...] = ()
    """OCI runtimes to be taken instead where the engine doesn't know the first, in order."""
    cap_drop: tuple[str, ...] = ("ALL",)
    cap_add: tuple[str, ...] = ()
    no_new_privileges: bool = True
    privileged: bool = False
    devices: tuple[DeviceMapping, ...] = ()
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Name to soft and hard limit."""
    log_max_size: int = 0
    """Bytes of one log file; engines whose log driver doesn't know of sizes leave it out."""
    log_max_files: int = 1


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an engine knows of an image that it has.

    Attributes:
        size: bytes of its layers, unpacked.
        created_at: Unix seconds when it was built, or named on this engine; None where that isn't known.
    """

    size: int
    created_at: float | None


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the engine's.

    Attributes:
        bridge: the interface on the engine's host.
        subnets, gateways: addresses in CIDR notation, and the host's own in each of them.
        ours: this instance made it; ``foreign``: another did. Neither: an operator.
        is_default: the engine's default bridge.
    """

    name: str
    bridge: str
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    ours: bool = True
    foreign: bool = False
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume that carries this instance's label."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A container as it was at one moment. Times are Unix seconds; limits of None are none."""

    container_id: str
    name: str
    state: ContainerState
    image: str
    labels: Mapping[str, str]
    ports: Mapping[str, list[HostPort]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    restart_count: int = 0
    cpus: float | None = None
    memory: int | None = None
    pid: int | None = None
    """Of its first process, in the engine's own process namespace."""
    address: str | None = None
    """On its first network, while it runs."""
    health: str | None = None
    """By the image's HEALTHCHECK: ``starting``, ``healthy`` or ``unhealthy``; None where it has none."""


@dataclass(frozen=True, slots=True)
class Connections:
    """TCP connections that others hold to a container's services.

    Attributes:
        open: established ones.
        waiting: those among them that the container hasn't accepted, or that hold bytes which it hasn't read.
    """

    open: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A container in a listing: what costs the engine no inspection."""

    container_id: str
    name: str
    state: ContainerState
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something that happened to one of our containers.

    ``at`` is Unix seconds, ``exit_code`` that of a ``die``; ``oom_killed`` is what an ``oom`` tells of its end.
    """

    container_id: str
    runtime_id: str
    action: str
    at: float
    exit_code: int | None = None
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Credentials for one pull."""

    username: str
    password: str = field(repr=False)


class EventStream(Protocol):
    """Events as they come; iteration ends when the engine goes away or ``close`` is called by any thread."""

    def __iter__(self) -> Iterator[EngineEvent]: ...

    def close(self) -> None: ...


class Engine(InsideEngine, FilesEngine, LimitsEngine, StockEngine, Protocol):
    """A container engine, limited to the containers that carry one instance's label.

    ``container`` parameters take a container id, or a runtime id, which is the container's name. All methods may
    raise ``EngineUnreachable``, ``EngineTimeout`` and ``EngineFailed``; those on a container ``ContainerMissing``.
    """

    instance: str

    def ping(self) -> None:
        """Return if the engine answers."""

    def version(self) -> EngineVersion:
        """What the engine says of itself."""

    def image_present(self, image: str) -> bool:
        """Whether the image is on the engine. Raises ``ImageReferenceInvalid``."""

    def image_facts(self, image: str) -> ImageFacts | None:
        """What is known of the image; None where it isn't on the engine. Raises ``ImageReferenceInvalid``."""

    def pull(
        self,
        image: str,
        *,
        platform: str | None = None,
        login: RegistryLogin | None = None,
        progress: Callable[[PullState], None] | None = None,
    ) -> None:
        """Pull the image, telling ``progress`` how far it is.

        Raises ``ImageNotFound``, ``ImagePullFailed``, ``ImageReferenceInvalid``.
        """

    def create(self, spec: RuntimeSpec) -> str:
        """Create the container and return its id.

        Raises ``NameTaken``, ``ImageNotFound`` and the catalogue's errors of a specification.
        """

    def start(self, container: str) -> None:
        """Start it; a running one stays as it is. Raises ``PortInUse``, ``CommandNotFound`` and the like."""

    def inspect(self, container: str) -> Snapshot:
        """What the engine knows. A foreign container, without this instance's label, is ``ContainerMissing``."""

    def pause(self, container: str, meanwhile: Callable[[], object] | None = None) -> bool:
        """Freeze it: False where it was paused. Raises ``InvalidState`` where it doesn't run.

        ``meanwhile`` is called at most once, while the engine works where that can be done; it must raise nothing.
        """

    def resume(self, container: str, meanwhile: Callable[[], object] | None = None) -> bool:
        """Thaw it: False where it wasn't paused. Raises ``InvalidState`` where it doesn't run.

        ``meanwhile``: as for ``pause``.
        """

    def stop(self, container: str, grace: float) -> bool:
        """TERM, then KILL after ``grace`` seconds; thaws a paused one. False where it had ended before."""

    def remove(self, container: str) -> bool:
        """Kill and remove it with its anonymous volumes; returns when it's gone. False where it was gone."""

    def list(self) -> list[Listed]:
        """All containers with this instance's label, in any state."""

    def logs(self, container: str, tail: int = 100) -> str:
        """The last lines of stdout and stderr together."""

    def http_status(self, snapshot: Snapshot, port: int, path: str, timeout: float) -> int | None:
        """The status with which a port of a running container answers ``GET path``; None where it doesn't answer.

        Args:
            snapshot: the container as inspected.
            port: inside the container.
            path: of the URL.
            timeout: seconds.
        """

    def http_json(self, snapshot: Snapshot, port: int, path: str, timeout: float) -> object | None:
        """What ``GET path`` answers as JSON with a status of 200; None for any other answer.

        Raises ``EngineTimeout`` where it doesn't come within ``timeout`` seconds. Arguments as ``http_status``.
        """

    def connections(self, container: str, pid: int | None) -> Connections | None:
        """Connections to the container's services, frozen or not; None where they can't be seen from here.

        Args:
            container: its id.
            pid: of its first process.
        """

    def commands(self, container: str) -> int:
        """How many commands run in the container beside its own: execs, whoever began them."""

    def command_status(self, container: str, command: tuple[str, ...], timeout: float) -> int | None:
        """The exit code of a command in the running container; None where it isn't over after ``timeout`` seconds."""

    def events(self, since: float | None = None) -> EventStream:
        """Follow this instance's containers from Unix time ``since`` (none: from now).

        Returns once the engine has accepted the subscription.
        """

    def ensure_network(self, name: str, *, ipv6: bool = False) -> Network:
        """The network for this instance's runtimes, made where it is missing, with no traffic between containers.

        An operator's own network of that name is taken as it is; where another instance has the name, ours has the
        instance's digits behind it. May be called by several processes at once.

        Args:
            name: of the network.
            ipv6: give it a subnet of its own, where the engine can.
        """

    def find_network(self, name: str) -> Network | None:
        """The network that ``ensure_network`` would return, if it is there."""

    def remove_network(self, name: str) -> bool:
        """Remove the network if this instance made it. False where there is none of ours."""

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> Volume:
        """The named volume, made with these labels where it is missing.

        Raises ``EngineFailed`` where a volume that isn't this instance's has the name.
        """

    def find_volume(self, name: str) -> Volume | None:
        """The volume, if it is there and carries this instance's label."""

    def list_volumes(self, label: str) -> Sequence[Volume]:
        """All volumes with this instance's label that also carry ``label``, whatever its value."""

    def volume_sizes(self) -> Mapping[str, int]:
        """Bytes by a volume's name, where the engine can tell. It reads the volumes for that, which may take long."""

    def remove_volume(self, name: str) -> bool:
        """Remove the volume with all that is in it. False where there is none of ours. Raises ``VolumeInUse``."""

    def give_folder(self, container: str, path: str) -> None:
        """Let a created container's folder belong to the user that the container runs as; its mode stays.

        Nothing is changed where that user is root or isn't known in the image, and nothing below the folder.

        Args:
            container: it hasn't been started yet.
            path: absolute; a volume may be mounted there.
        """

    def close(self) -> None:
        """Give back connections."""
