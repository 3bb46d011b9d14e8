"""What can be done inside of a container: the second half of the Engine protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from runtime_server.engine.feeds import Feed


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which output is wanted.

    Attributes:
        stdout, stderr: of which streams.
        follow: also what will be written, until the container's process ends.
        tail: only this many of the last entries, those of unwanted streams counted too; None: all.
        since: only entries from this moment on, in Unix nanoseconds; None: all.
    """

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of output, or a piece of a long one; ``at`` in Unix nanoseconds, ``stream`` ``stdout`` or ``stderr``."""

    stream: str
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A command to be run in a container; policy has been applied.

    Attributes:
        command: its words.
        environment: variables beyond the container's.
        working_dir, user: other than the container's; None: those.
        tty: give it a terminal, on which both its outputs come as ``stdout``.
        stdin: it gets input; else its input is empty.
        marker: a word that no other process has, by which it and what it starts are found to be ended.
    """

    command: tuple[str, ...]
    marker: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    working_dir: str | None = None
    user: str | None = None
    tty: bool = False
    stdin: bool = False


@dataclass(frozen=True, slots=True)
class ExecOutput:
    """A piece of a command's output; ``stream`` is ``stdout`` or ``stderr``."""

    stream: str
    data: bytes


class ExecSession(Feed[ExecOutput], Protocol):
    """A command that runs in a container. Its feed ends with its output, which is when it has ended.

    For one thread. ``receive`` raises ``CommandNotFound``, ``CommandNotExecutable``, ``UserUnknown`` or
    ``SpecRejected`` where it couldn't be started. Closing lets go of it, and doesn't end it.
    """

    exec_id: str

    def receive(self, timeout: float, wake: int | None = None) -> ExecOutput | None:
        """As for ``Feed``; also returns None as soon as the descriptor ``wake`` has something to be read."""

    @property
    def backlog(self) -> int:
        """Bytes of input that the command hasn't taken yet."""

    def send(self, data: bytes) -> None:
        """Give it input, which goes out while ``receive`` waits."""

    def end_input(self) -> None:
        """Say that there is no more input."""

    def resize(self, rows: int, columns: int) -> None:
        """Set its terminal's size. Raises nothing where it has ended."""

    def exit_code(self) -> int | None:
        """How it ended; None while it runs, and where the engine doesn't know."""

    def kill(self) -> bool:
        """End it and all that it has started, by SIGKILL; False where that can't be done from here."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a container uses, and has used, at one moment.

    Attributes:
        at: Unix nanoseconds.
        cpu: nanoseconds of processor time so far.
        cpus: processors that the host has online.
        memory: bytes, without what is only a cache of files.
        memory_limit: bytes; without a limit all that the host has.
        received, sent: bytes over its own networks so far; 0 where it has none.
        read, written: bytes of block devices so far; 0 where the engine doesn't count them.
        pids: processes and threads.
    """

    at: int
    cpu: int
    cpus: int
    memory: int
    memory_limit: int | None
    received: int
    sent: int
    read: int
    written: int
    pids: int


class InsideEngine(Protocol):
    """What is done inside of a container.

    ``container`` is as for ``Engine``, and so are the errors that all methods may raise.
    """

    def log_entries(self, container: str, query: LogQuery) -> Feed[LogEntry]:
        """The container's output, in the order in which it was written.

        Following goes on while it is paused, and ends with its process, also where that is started again. Of a
        container that doesn't run, following ends after what there is.
        """

    def exec(self, container: str, spec: ExecSpec) -> ExecSession:
        """Start a command in the running container.

        Raises ``InvalidState`` where the container is paused or doesn't run.
        """

    def exec_state(self, exec_id: str) -> tuple[bool, int | None] | None:
        """Whether a command still runs, and how it ended; None where the engine doesn't know it any more."""

    def sample(self, container: str) -> Sample:
        """What the container uses now, frozen or not. Raises ``InvalidState`` where it doesn't run."""
