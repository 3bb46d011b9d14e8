"""The in-memory engine's containers and their ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runtime_server.engine import labels
from runtime_server.engine.base import Connections, ContainerState, Publish, RuntimeSpec, Snapshot
from runtime_server.engine.inside import LogEntry
from runtime_server.engine.memory_images import Image, Program
from runtime_server.errors import PortInUse
from runtime_server.models import HostPort

EPHEMERAL = range(32768, 61000)
"""Host ports that the engine picks from (Linux's ``ip_local_port_range``)."""
ANY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound


@dataclass(slots=True)
class Container:
    """A container. Times are Unix seconds."""

    container_id: str
    spec: RuntimeSpec
    image: Image
    created_at: float
    state: ContainerState = ContainerState.CREATED
    bound: dict[str, list[HostPort]] = field(default_factory=dict)
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    restart_count: int = 0
    output: list[LogEntry] = field(default_factory=list)
    http: int | None = None
    health: str | None = None
    json: object | None = None
    connections: Connections | None = field(default_factory=Connections)
    commands: int = 0

    def __post_init__(self) -> None:
        self.http, self.health = self.image.http, self.image.health

    @property
    def instance(self) -> str:
        """Whose it is."""
        return self.spec.labels.get(labels.INSTANCE, "")

    @property
    def runtime_id(self) -> str:
        """The runtime that it belongs to."""
        return self.spec.labels.get(labels.RUNTIME_ID, self.spec.runtime_id)

    @property
    def live(self) -> bool:
        """Whether it has a process, frozen or not."""
        return self.state in (ContainerState.RUNNING, ContainerState.PAUSED)

    @property
    def program(self) -> Program:
        """What its process does. An entrypoint drops the image's own command, as Docker has it."""
        own = () if self.spec.entrypoint else self.image.command
        return self.image.program((self.spec.entrypoint or ()) + (self.spec.command or own))

    @property
    def heeds_term(self) -> bool:
        """Whether TERM ends it: to process 1 the kernel gives no signal that it doesn't handle."""
        return self.spec.init and self.program.heeds_term

    @property
    def labels(self) -> Mapping[str, str]:
        """The image's labels and its own."""
        return {**self.image.labels, **self.spec.labels}

    def restarts_after(self, code: int) -> bool:
        """Whether its restart policy starts it again.

        Commands that end at once stay down: a real engine would wait ever longer between its tries.
        """
        policy, most = self.spec.restart_policy or ("no", 0)
        if policy == "on-failure":
            wanted = code != 0 and (most == 0 or self.restart_count < most)
        else:
            wanted = policy in ("always", "unless-stopped")
        return wanted and self.program.ends_at_once is None

    def write(self, text: str, stream: str, at: float) -> None:
        """Add to its output, line by line."""
        nanoseconds = round(at * 1e9)
        self.output.extend(LogEntry(stream, nanoseconds, line.encode()) for line in text.splitlines(keepends=True))

    @property
    def published(self) -> tuple[Publish, ...]:
        """The ports to publish; Docker drops them without a word where there is no network for them."""
        return () if self.spec.network in ("none", "host") else self.spec.ports

    def bind(self, host_ports: list[int]) -> None:
        """Take these host ports, one for each of ``published``."""
        self.bound = {}
        for publish, number in zip(self.published, host_ports, strict=True):
            binding = HostPort(HostIp=publish.host_ip, HostPort=str(number))
            self.bound.setdefault(_key(publish), []).append(binding)

    @property
    def ports(self) -> dict[str, list[HostPort]]:
        """Every exposed port, with what it is bound to while there is a process."""
        declared = (*self.image.exposed, *map(_key, self.spec.ports), *self.spec.exposed)
        exposed = {key: list[HostPort]() for key in declared}
        return exposed | ({key: list(bindings) for key, bindings in self.bound.items()} if self.live else {})

    def snapshot(self) -> Snapshot:
        """The container as it is now."""
        return Snapshot(
            container_id=self.container_id,
            name=self.spec.runtime_id,
            state=self.state,
            image=self.spec.image,
            labels=self.labels,
            ports=self.ports,
            environment={**self.image.environment, **self.spec.environment},
            exit_code=self.exit_code,
            oom_killed=self.oom_killed,
            error=self.error,
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            restart_count=self.restart_count,
            cpus=self.spec.cpus,
            memory=self.spec.memory,
            address="192.0.2.1" if self.live and self.spec.network != "none" else None,
            health=self.health if self.live else None,
        )


class Ports:
    """The host's ports; ephemeral ones are handed out in a circle, so that a freed one isn't met again at once."""

    def __init__(self) -> None:
        self._next = 0

    def allocate(self, wanted: Iterable[Publish], containers: Iterable[Container]) -> list[int]:
        """A host port for each of ``wanted``, all or none. Raises ``PortInUse``."""
        taken = {
            (key.rpartition("/")[2], int(binding.HostPort), binding.HostIp)
            for container in containers
            if container.live
            for key, bindings in container.bound.items()
            for binding in bindings
        }
        numbers: list[int] = []
        for publish in wanted:
            number = publish.host_port or self._free(publish, taken)
            if not _is_free(publish, number, taken):
                raise PortInUse(f"Host port {number} is in use")
            taken.add((publish.protocol, number, publish.host_ip))
            numbers.append(number)
        return numbers

    def _free(self, publish: Publish, taken: set[tuple[str, int, str]]) -> int:
        for _ in EPHEMERAL:
            number = EPHEMERAL[self._next]
            self._next = (self._next + 1) % len(EPHEMERAL)
            if _is_free(publish, number, taken):
                return number
        raise PortInUse("All ephemeral host ports are in use")


def _key(publish: Publish) -> str:
    return f"{publish.container_port}/{publish.protocol}"


def _is_free(publish: Publish, number: int, taken: set[tuple[str, int, str]]) -> bool:
    return not any(
        (publish.protocol, number) == (protocol, held)
        and (publish.host_ip == address or publish.host_ip in ANY_ADDRESS or address in ANY_ADDRESS)
        for protocol, held, address in taken
    )
