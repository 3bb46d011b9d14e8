"""Commands that run beside a container's own process, in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from runtime_server.engine.base import ContainerState
from runtime_server.engine.inside import ExecOutput, ExecSpec
from runtime_server.engine.memory_containers import Container
from runtime_server.engine.memory_images import Program

KILLED = 137


@dataclass(slots=True)
class MemoryExec:
    """A command: what it has written, and how it ended. The caller of its methods holds the engine's lock.

    Attributes:
        size: rows and columns that its terminal was given last.
    """

    exec_id: str
    container: Container
    spec: ExecSpec
    output: deque[ExecOutput] = field(default_factory=deque)
    code: int | None = None
    size: tuple[int, int] | None = None
    _run: float | None = None
    _input: bytes = b""
    _input_over: bool = False

    def begin(self, program: Program) -> None:
        """Do what the program does at once."""
        self._run = self.container.started_at
        self._write("stdout", (program.output or "").encode())
        self._write("stdout" if self.spec.tty else "stderr", program.errors.encode())
        self.code = program.ends_at_once

    def _write(self, stream: str, data: bytes) -> None:
        if data:
            self.output.append(ExecOutput(stream, data))

    def take(self, data: bytes, *, over: bool = False) -> None:
        """Get input."""
        self._input += data
        self._input_over = self._input_over or over

    def go_on(self, program: Program) -> None:
        """Do what has become possible: write back input, or end with the container's process."""
        if self.code is None and (not self.container.live or self.container.started_at != self._run):
            self.code = KILLED
        if self.code is not None or self.container.state is not ContainerState.RUNNING or not program.echoes:
            return
        self._write("stdout", self._input)
        self._input = b""
        if self._input_over or not self.spec.stdin:
            self.code = 0
