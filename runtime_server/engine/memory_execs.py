"""The in-memory engine's commands in containers."""

from __future__ import annotations

import secrets
import select
import time

from runtime_server.engine.base import ContainerState
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import ExecOutput, ExecSpec
from runtime_server.engine.memory_calls import MemoryCalls
from runtime_server.engine.memory_commands import KILLED, MemoryExec
from runtime_server.engine.memory_world import World
from runtime_server.errors import CommandNotExecutable, CommandNotFound, EngineUnreachable, InvalidState

LOOK = 0.01
"""Seconds between two looks at a descriptor."""


class MemoryExecs(MemoryCalls):
    """Runs commands in containers: what the image's programs say they do."""

    def exec(self, container: str, spec: ExecSpec) -> MemoryExecSession:
        """Start a command in the running container."""
        with self._call("exec"):
            found = self._own(container)
            if found.state is not ContainerState.RUNNING:
                raise InvalidState(f"The container is {found.state}.", runtime_status=None, allowed_actions=None)
            command = MemoryExec(secrets.token_hex(32), found, spec)
            self._world.execs[command.exec_id] = command
            return MemoryExecSession(self._world, command)

    def exec_state(self, exec_id: str) -> tuple[bool, int | None] | None:
        """Whether a command still runs, and how it ended."""
        with self._call("exec_state"):
            command = self._world.execs.get(exec_id)
            return None if command is None else (command.code is None, command.code)


class MemoryExecSession:
    """A command that runs; see ``ExecSession``. Its ``command`` is what tests look at."""

    def __init__(self, world: World, command: MemoryExec) -> None:
        self._world = world
        self.command = command
        self.exec_id = command.exec_id
        self._program = command.container.image.program(command.spec.command)
        self._failure = {127: CommandNotFound, 126: CommandNotExecutable}.get(self._program.exec_error)
        with world.lock:
            command.begin(self._program)

    def receive(self, timeout: float, wake: int | None = None) -> ExecOutput | None:
        """See ``ExecSession``."""
        if self._failure is not None:
            raise self._failure()
        ends = time.monotonic() + timeout
        with self._world.lock:
            # A condition and a descriptor can't be waited for together.
            while not self._anything() and not _readable(wake) and (left := ends - time.monotonic()) > 0:
                self._world.changed.wait(left if wake is None else min(left, LOOK))
            if self._world.away:
                raise EngineUnreachable()
            if self.command.output:
                return self.command.output.popleft()
            if self.command.code is not None:
                raise FeedEnded
            return None

    def _anything(self) -> bool:
        self.command.go_on(self._program)
        return self._world.away or bool(self.command.output) or self.command.code is not None

    @property
    def backlog(self) -> int:
        """See ``ExecSession``."""
        return 0

    def send(self, data: bytes) -> None:
        """See ``ExecSession``."""
        with self._world.lock:
            self.command.take(data)
            self._world.changed.notify_all()

    def end_input(self) -> None:
        """See ``ExecSession``."""
        with self._world.lock:
            self.command.take(b"", over=True)
            self._world.changed.notify_all()

    def resize(self, rows: int, columns: int) -> None:
        """See ``ExecSession``."""
        self.command.size = (rows, columns)

    def exit_code(self) -> int | None:
        """See ``ExecSession``."""
        return self.command.code

    def kill(self) -> bool:
        """See ``ExecSession``."""
        with self._world.lock:
            if self.command.code is None:
                self.command.code = KILLED
                self._world.changed.notify_all()
        return True

    def close(self) -> None:
        """See ``Feed``."""


def _readable(descriptor: int | None) -> bool:
    return descriptor is not None and bool(select.select([descriptor], [], [], 0)[0])
