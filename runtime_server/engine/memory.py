"""An Engine in memory, for tests without Docker: of this project, and of programs that use it.

It obeys the state rules and raises the errors of the real one (``tests/conformance`` holds both to them), takes no
time, and can be told to misbehave:

    engine = MemoryEngine("tests")
    engine.add_image("my/agent:1", exposed=("8000/tcp",))
    engine.fail_next("start", EngineTimeout(), after=True)   # acts, and the answer is lost
    engine.exit("runtime-0123456789ab", 137, oom=True)
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping

from runtime_server.engine.base import (
    Connections,
    ContainerMissing,
    ContainerState,
    ImageFacts,
    Listed,
    Network,
    RegistryLogin,
    RuntimeSpec,
    Snapshot,
)
from runtime_server.engine.memory_calls import METHODS
from runtime_server.engine.memory_events import MemoryEventStream
from runtime_server.engine.memory_execs import MemoryExecs
from runtime_server.engine.memory_files import MemoryFiles
from runtime_server.engine.memory_images import BUSYBOX, RUNS_ON, Image, Program
from runtime_server.engine.memory_limits import MemoryLimits
from runtime_server.engine.memory_logs import MemoryLogs
from runtime_server.engine.memory_stats import MemoryStats
from runtime_server.engine.memory_stock import MemoryStock
from runtime_server.engine.memory_volumes import MemoryVolumes
from runtime_server.engine.memory_world import World
from runtime_server.engine.stock import PullLayer, PullState
from runtime_server.models import EngineVersion

__all__ = ["METHODS", "MemoryEngine"]


class MemoryEngine(MemoryLogs, MemoryExecs, MemoryFiles, MemoryStats, MemoryLimits, MemoryStock, MemoryVolumes):
    """An engine in memory.

    Args:
        instance: whose containers it sees and touches.
        clock: Unix time in seconds.
        images: references that it has and can pull, with busybox's commands; none given means ``busybox``.
            A container of theirs without a command runs until something ends it.
        cpus: how many CPUs its host has.
        runtime_classes: the OCI runtimes that it knows.

    Attributes:
        calls: how often each method was called, failed calls included.
    """

    def __init__(
        self,
        instance: str,
        *,
        clock: Callable[[], float] = time.time,
        images: Iterable[str] = ("busybox",),
        cpus: float = 64,
        runtime_classes: tuple[str, ...] = ("runc",),
    ) -> None:
        super().__init__(instance, World(clock, cpus, runtime_classes))
        self.given = []
        for name in images:
            image = Image(programs=BUSYBOX, other=Program(exec_error=127), created_at=clock())
            self._world.images.add(name, image)
            self._world.images.offer(name, image)

    def sibling(self, instance: str | None = None) -> MemoryEngine:
        """Another client of the same engine: of another ``instance``, or None for a second one of this.

        It has calls and hooks of its own.
        """
        other = MemoryEngine(instance or self.instance, images=())
        other._world = self._world
        return other

    # The Engine protocol; its docstrings say what each method does.

    def ping(self) -> None:
        """Return if the engine answers."""
        with self._call("ping"):
            pass

    def version(self) -> EngineVersion:
        """What the engine says of itself."""
        with self._call("version"):
            return EngineVersion(name="In-memory Engine", version="1.0", api_version="1.41")

    def image_present(self, image: str) -> bool:
        """Whether the image is on the engine."""
        with self._call("image_present"):
            return self._world.images.present(image)

    def image_facts(self, image: str) -> ImageFacts | None:
        """Its size, which is made up, and when it was added."""
        with self._call("image_facts"):
            if not self._world.images.present(image):
                return None
            found = self._world.images.get(image)
            return ImageFacts(found.size, found.created_at)

    def pull(
        self,
        image: str,
        *,
        platform: str | None = None,  # noqa: ARG002 - images in memory run anywhere
        login: RegistryLogin | None = None,  # noqa: ARG002 - and are open to all
        progress: Callable[[PullState], None] | None = None,
    ) -> None:
        """Pull the image, telling ``progress`` of two steps."""
        with self._call("pull"):
            self._world.images.pull(image)
            size = self._world.images.get(image).size
        for phase, current in (("Downloading", size // 2), ("Pull complete", size)):
            if progress is not None:
                progress(PullState(f"{phase} {image}", (PullLayer("0a1b2c3d4e5f", phase, current, size),)))

    def create(self, spec: RuntimeSpec) -> str:
        """Create the container and return its id."""
        with self._call("create"):
            return self._world.create(spec).container_id

    def start(self, container: str) -> None:
        """Start it; a running one stays as it is."""
        with self._call("start"):
            self._world.start(self._own(container))

    def inspect(self, container: str) -> Snapshot:
        """What the engine knows."""
        with self._call("inspect"):
            return self._own(container).snapshot()

    def pause(self, container: str, meanwhile: Callable[[], object] | None = None) -> bool:
        """Freeze it: False where it was paused."""
        with self._call("pause"):
            changed = self._world.pause(self._own(container))
        if meanwhile is not None:
            meanwhile()
        return changed

    def resume(self, container: str, meanwhile: Callable[[], object] | None = None) -> bool:
        """Thaw it: False where it wasn't paused."""
        with self._call("resume"):
            changed = self._world.resume(self._own(container))
        if meanwhile is not None:
            meanwhile()
        return changed

    def stop(self, container: str, grace: float) -> bool:
        """TERM, then KILL; takes no time. False where it had ended before."""
        with self._call("stop"):
            return self._world.stop(self._own(container), grace)

    def remove(self, container: str) -> bool:
        """Kill and remove it. False where it was gone."""
        with self._call("remove"):
            try:
                self._world.remove(self._own(container))
            except ContainerMissing:
                return False
            return True

    def list(self) -> list[Listed]:
        """All containers with this instance's label."""
        with self._call("list"):
            return [
                Listed(each.container_id, each.spec.runtime_id, each.state, each.labels)
                for each in self._world.containers.values()
                if each.instance == self.instance
            ]

    def http_status(
        self,
        snapshot: Snapshot,
        port: int,  # noqa: ARG002 - a container in memory has one service
        path: str,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
    ) -> int | None:
        """What ``serve`` said last, else the image's ``http``, whatever the port and path; no time passes."""
        with self._call("http_status"):
            found = self._own(snapshot.container_id)
            return found.http if found.state is ContainerState.RUNNING else None

    def http_json(
        self,
        snapshot: Snapshot,
        port: int,  # noqa: ARG002 - a container in memory has one service
        path: str,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
    ) -> object | None:
        """What ``answer_with`` said last, whatever the port and path; no time passes."""
        with self._call("http_json"):
            found = self._own(snapshot.container_id)
            return found.json if found.state is ContainerState.RUNNING else None

    def connections(self, container: str, pid: int | None) -> Connections | None:  # noqa: ARG002 - nor processes
        """What ``connect`` said last: none at first."""
        with self._call("connections"):
            return self._own(container).connections

    def commands(self, container: str) -> int:
        """What ``execute`` said last: none at first."""
        with self._call("commands"):
            return self._own(container).commands

    def command_status(
        self,
        container: str,
        command: tuple[str, ...],
        timeout: float,  # noqa: ARG002 - no time passes
    ) -> int | None:
        """The exit code that the image's programs give the command; None for one that runs on."""
        with self._call("command_status"):
            return self._own(container).image.program(command).ends_at_once

    def events(self, since: float | None = None) -> MemoryEventStream:
        """Follow this instance's containers from Unix time ``since``, at most 1024 events back."""
        with self._call("events"):
            return self._world.log.follow(self.instance, since)

    def ensure_network(self, name: str, *, ipv6: bool = False) -> Network:  # noqa: ARG002 - there are no packets
        """The network, made where it is missing."""
        with self._call("ensure_network"):
            self._world.networks.add(name)
            return _network(name)

    def find_network(self, name: str) -> Network | None:
        """The network, if it is there."""
        with self._call("find_network"):
            return _network(name) if name in self._world.networks else None

    def remove_network(self, name: str) -> bool:
        """Forget the network. False where there is none."""
        with self._call("remove_network"):
            there = name in self._world.networks
            self._world.networks.discard(name)
            return there

    def close(self) -> None:
        """Nothing is held."""

    # What tests do to it.

    @property
    def away(self) -> bool:
        """Whether the engine is gone, for its siblings too: all calls raise ``EngineUnreachable``.

        Setting it ends all event streams; containers stay as they are.
        """
        return self._world.away

    @away.setter
    def away(self, value: bool) -> None:
        with self._world.lock:
            self._world.away = value
            self._world.changed.notify_all()
            if value:
                self._world.log.end_all()

    def add_image(
        self,
        name: str,
        exposed: Iterable[str] = (),
        *,
        programs: Mapping[str, Program] | None = None,
        other: Program = RUNS_ON,
        environment: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        http: int | None = 200,
        health: str | None = None,
    ) -> None:
        """Put an image on the engine; no registry has it.

        Args:
            name: its reference.
            exposed: ports such as ``8000/tcp``.
            programs: what its commands do, by the command's first word.
            other: what all other commands do; by default they run until something ends them.
            environment: variables that its containers have.
            labels: labels that its containers have.
            http: status with which their service answers; None: not at all.
            health: what their HEALTHCHECK says; None: there is none.
        """
        image = Image(
            tuple(exposed),
            environment or {},
            labels or {},
            programs=programs or {},
            other=other,
            http=http,
            health=health,
        )
        with self._world.lock:
            self._world.images.add(name, dataclasses.replace(image, created_at=self._world.clock()))

    def add_pullable(self, name: str, exposed: Iterable[str] = ()) -> None:
        """Put an image into the registry, so that ``pull`` finds it; any command in it runs on."""
        with self._world.lock:
            self._world.images.offer(name, Image(tuple(exposed)))

    def base_image(self, name: str) -> Image:
        """The image, pulled where the engine doesn't have it. Raises ``ImageNotFound``."""
        with self._world.lock:
            if not self._world.images.present(name):
                self._world.images.pull(name)
            return self._world.images.get(name)

    def put_image(self, name: str, image: Image, *, pullable: bool = False) -> None:
        """Put an image on the engine that was made of another; ``pullable``: into the registry too."""
        with self._world.lock:
            made = dataclasses.replace(image, created_at=self._world.clock())
            self._world.images.add(name, made)
            if pullable:
                self._world.images.offer(name, made)

    def remove_image(self, name: str) -> None:
        """Take an image off the engine; where the registry has it, it can be pulled again."""
        with self._world.lock:
            self._world.images.discard(name)

    def add_network(self, name: str) -> None:
        """Make a network, beside ``bridge``, ``none`` and ``host``."""
        with self._world.lock:
            self._world.networks.add(name)

    def exit(self, container: str, code: int, oom: bool = False) -> None:
        """Let a live container's process end by itself; its restart policy holds."""
        with self._world.lock:
            self._world.exit(self._own(container), code, oom=oom)

    def vanish(self, container: str) -> None:
        """Remove a container behind the service's back, with the events that this has."""
        with self._world.lock:
            self._world.remove(self._own(container))

    def serve(self, container: str, http: int | None, health: str | None = None) -> None:
        """Let a container's service answer with that status, or not at all, and its HEALTHCHECK say that."""
        with self._world.lock:
            found = self._own(container)
            found.http, found.health = http, health

    def answer_with(self, container: str, value: object | None) -> None:
        """Let a container's service answer with that JSON; None: with none."""
        with self._world.lock:
            self._own(container).json = value

    def connect(self, container: str, connections: Connections | None) -> None:
        """Let others hold connections to a container; None: they can't be seen."""
        with self._world.lock:
            self._own(container).connections = connections

    def execute(self, container: str, commands: int) -> None:
        """Let so many commands run in a container."""
        with self._world.lock:
            self._own(container).commands = commands

    def write(self, container: str, text: str, stream: str = "stdout") -> None:
        """Add to a container's output: ``stdout`` or ``stderr``."""
        with self._world.lock:
            self._world.write(self._own(container), text, stream)


def _network(name: str) -> Network:
    # TEST-NET-1 (RFC 5737), where nobody's requests come from.
    return Network(name, "rs-memory", ("192.0.2.0/24",), ("192.0.2.1",))
