"""What engines in memory share, as several clients share one daemon: containers, images, networks, events.

Each method is one engine call's effect; the caller holds ``lock``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from threading import Condition, RLock

from runtime_server.engine.base import (
    ContainerMissing,
    ContainerState,
    EngineEvent,
    NameTaken,
    RuntimeSpec,
    Volume,
    VolumeInUse,
)
from runtime_server.engine.memory_commands import MemoryExec
from runtime_server.engine.memory_containers import Container, Ports
from runtime_server.engine.memory_events import EventLog
from runtime_server.engine.memory_images import Images
from runtime_server.engine.memory_tree import Tree
from runtime_server.errors import (
    CommandNotExecutable,
    CommandNotFound,
    InvalidState,
    LimitOutOfRange,
    MountSourceMissing,
    NetworkNotFound,
    Problem,
    RuntimeClassUnknown,
)
from runtime_server.models import MIN_MEMORY

KILLED = 137
TERMINATED = 143


class World:
    """One engine's containers and all that they need.

    Args:
        clock: Unix time in seconds.
        cpus: how many CPUs the host has.
        runtime_classes: the OCI runtimes it knows.
    """

    def __init__(self, clock: Callable[[], float], cpus: float, runtime_classes: tuple[str, ...]) -> None:
        self.lock = RLock()
        self.changed = Condition(self.lock)
        """Told whenever a container's state or output changes, or the engine goes away or comes back."""
        self.clock = clock
        self.images = Images()
        self.networks = {"bridge", "none", "host"}
        self.log = EventLog(self.lock)
        self.containers: dict[str, Container] = {}
        self.volumes: dict[str, Volume] = {}
        self.away = False
        self.execs: dict[str, MemoryExec] = {}
        self.trees: dict[str, Tree] = {}
        self._cpus = cpus
        self._runtime_classes = runtime_classes
        self._ports = Ports()

    def find(self, container: str, instance: str | None) -> Container:
        """The container of that id or name, if it belongs to ``instance`` (None: to anybody)."""
        for each in self.containers.values():
            if container in (each.container_id, each.spec.runtime_id) and instance in (None, each.instance):
                return each
        raise ContainerMissing(container)

    def create(self, spec: RuntimeSpec) -> Container:
        """Create it, after the checks that Docker makes at this point."""
        image = self.images.get(spec.image)
        self._check(spec)
        if any(each.spec.runtime_id == spec.runtime_id for each in self.containers.values()):
            raise NameTaken(spec.runtime_id)
        for mount in spec.mounts:
            if mount.is_volume:
                self.volumes.setdefault(mount.source, Volume(mount.source, mount.labels))
        container = Container(secrets.token_hex(32), spec, image, self.clock())
        self.containers[container.container_id] = container
        self._emit(container, "create")
        return container

    def start(self, container: Container) -> None:
        """Start it. A failure leaves it as it was, but for the error, and emits nothing."""
        if container.state is ContainerState.RUNNING:
            return
        if container.state is ContainerState.PAUSED:
            raise InvalidState("A paused container can't be started")
        try:
            self._launch(container)
        except Problem as problem:
            container.error = problem.detail
            raise

    def _launch(self, container: Container) -> None:
        spec, program = container.spec, container.program
        if spec.network is not None and spec.network not in self.networks:
            raise NetworkNotFound(f"No such network: {spec.network}", network=spec.network)
        numbers = self._ports.allocate(container.published, self.containers.values())
        if program.exec_error and not spec.init:
            failure = CommandNotFound if program.exec_error == 127 else CommandNotExecutable
            raise failure()
        container.bind(numbers)
        container.exit_code, container.error, container.oom_killed = None, "", False
        container.started_at = self.clock()
        container.state = ContainerState.RUNNING
        self._emit(container, "start")
        self.write(container, program.output or "")
        self.write(container, program.errors, "stderr")
        if program.ends_at_once is not None:
            self.exit(container, program.ends_at_once)

    def write(self, container: Container, text: str, stream: str = "stdout") -> None:
        """Add to its output."""
        container.write(text, stream, self.clock())
        self.changed.notify_all()

    def exit(self, container: Container, code: int, *, oom: bool = False) -> None:
        """Its process ends by itself; its restart policy may start it again."""
        if not container.live:
            raise InvalidState("It doesn't run")
        if oom:
            self._emit(container, "oom")
        self._die(container, code, oom=oom)
        if container.restarts_after(code):
            container.restart_count += 1
            self.start(container)

    def pause(self, container: Container) -> bool:
        """Freeze it."""
        return self._freeze(container, ContainerState.PAUSED, "pause")

    def resume(self, container: Container) -> bool:
        """Thaw it."""
        return self._freeze(container, ContainerState.RUNNING, "unpause")

    def _freeze(self, container: Container, state: ContainerState, action: str) -> bool:
        if not container.live:
            raise InvalidState(f"Container is {container.state}")
        changed = container.state is not state
        if changed:
            container.state = state
            self._emit(container, action)
        return changed

    def stop(self, container: Container, grace: float) -> bool:
        """TERM, then KILL; the grace doesn't take time here. Without a grace, KILL at once."""
        if not container.live:
            return False
        if container.state is ContainerState.PAUSED:
            self.resume(container)
        self._emit(container, "kill")
        self._die(container, TERMINATED if grace > 0 and container.heeds_term else KILLED)
        self._emit(container, "stop")
        return True

    def remove(self, container: Container) -> None:
        """Kill and remove it."""
        if container.live:
            self._emit(container, "kill")
            self._die(container, KILLED)
        del self.containers[container.container_id]
        self._emit(container, "destroy")

    def remove_volume(self, name: str) -> None:
        """Remove a named volume that no container mounts."""
        if any(mount.source == name for each in self.containers.values() for mount in each.spec.mounts):
            raise VolumeInUse(name)
        del self.volumes[name]

    def _die(self, container: Container, code: int, *, oom: bool = False) -> None:
        container.state = ContainerState.EXITED
        container.exit_code, container.oom_killed, container.finished_at = code, oom, self.clock()
        self._emit(container, "die", code)

    def _check(self, spec: RuntimeSpec) -> None:
        if spec.runtime_class and spec.runtime_class not in self._runtime_classes:
            raise RuntimeClassUnknown(
                f"No such runtime class: {spec.runtime_class}", runtime_class=spec.runtime_class
            )
        self.check_limits(spec)
        for mount in spec.mounts:
            if not mount.is_volume and not Path(mount.source).exists():
                raise MountSourceMissing(f"{mount.source} does not exist", host_path=mount.source)

    def check_limits(self, spec: RuntimeSpec) -> None:
        """Raise ``LimitOutOfRange`` for limits that the host can't give."""
        if spec.memory and spec.memory < MIN_MEMORY:
            raise LimitOutOfRange(f"The least memory limit is {MIN_MEMORY} bytes")
        if spec.cpus and spec.cpus > self._cpus:
            raise LimitOutOfRange(f"The host has {self._cpus:g} CPUs")

    def _emit(self, container: Container, action: str, exit_code: int | None = None) -> None:
        oom = action == "oom"
        event = EngineEvent(container.container_id, container.runtime_id, action, self.clock(), exit_code, oom)
        self.log.emit(container.instance, event)
        self.changed.notify_all()
