"""A container's TCP connections, as the kernel tells them in ``/proc`` of the engine's host (proc_pid_net(5)).

Whoever serves needs no agent inside for that: each process's file shows the network namespace that it is in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime_server.engine.base import Connections

_PROC = Path("/proc")
_ESTABLISHED, _LISTEN = "01", "0A"
"""States of ``include/net/tcp_states.h``."""
_NOT_ACCEPTED = "0"
"""The inode of a connection that the kernel has made and the process hasn't accepted."""


@dataclass(frozen=True, slots=True)
class _Line:
    local: str
    port: str
    remote: str
    state: str
    unread: int
    inode: str


def connections(container_id: str, pid: int | None, proc: Path = _PROC) -> Connections | None:
    """Connections that others hold to ports on which the container listens; None where they can't be seen from here.

    Args:
        container_id: whose; the process must belong to it, since process ids are used again.
        pid: of a process in it, in this process's own namespace.
        proc: where the kernel tells.
    """
    if not pid:
        return None
    folder = proc / str(pid)
    try:
        tables = [(folder / "net" / name).read_text() for name in ("tcp", "tcp6") if (folder / "net" / name).exists()]
        if not tables or container_id not in (folder / "cgroup").read_text():
            return None
    except OSError:
        return None
    return _counted([line for table in tables for line in _lines(table)])


def _lines(table: str) -> Iterator[_Line]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        local, _, port = fields[1].partition(":")
        remote = fields[2].partition(":")[0]
        unread = int(fields[4].partition(":")[2], 16)
        yield _Line(local, port, remote, fields[3], unread, fields[9])


def _counted(lines: list[_Line]) -> Connections:
    listening = {each.port for each in lines if each.state == _LISTEN}
    # What it connects to itself, by loopback or by its own address, is nobody's call.
    held = [
        each for each in lines if each.state == _ESTABLISHED and each.port in listening and each.local != each.remote
    ]
    waiting = [each for each in held if each.unread or each.inode == _NOT_ACCEPTED]
    return Connections(open=len(held), waiting=len(waiting))
