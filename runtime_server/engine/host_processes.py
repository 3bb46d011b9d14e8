"""A container's processes as the host sees them, where this server is on the engine's host.

What an engine tells of processes are their numbers in its own process namespace. Where that is this process's too,
``/proc`` has them, and a signal reaches them whatever the container is made of: no shell, no ``kill``, no init.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
ROUNDS = 50
"""How often is looked for what was started meanwhile."""


class HostProcesses:
    """The processes of one container.

    Args:
        container_id: the container's.
        pid: of its first process, as the engine tells it.
    """

    def __init__(self, container_id: str, pid: int | None) -> None:
        self._container_id = container_id
        self._pid = pid

    @property
    def seen(self) -> bool:
        """Whether they can be seen from here: the engine may count in another namespace, or be on another host."""
        return self._namespace() is not None

    def _namespace(self) -> str | None:
        if not self._pid:
            return None
        with suppress(OSError):
            # Engines name a control group after each container (cgroup v1 and v2, cgroupfs and systemd alike).
            if self._container_id in (PROC / str(self._pid) / "cgroup").read_text(encoding="utf-8", errors="replace"):
                return os.readlink(PROC / str(self._pid) / "ns" / "pid")
        return None

    def kill(self, marker: str) -> bool:
        """End all of its processes whose environment has the marker, by SIGKILL.

        Returns:
            Whether there is none left; a frozen one ends when it is thawed, and counts as gone.
        """
        namespace = self._namespace()
        if namespace is None:
            return False
        told: set[int] = set()
        found = False
        for _ in range(ROUNDS):
            there = set(_marked(namespace, marker.encode()))
            found = found or bool(there)
            if not there - told:
                return found
            # One that forks between look and signal has a child that has the marker, too.
            for pid in there:
                _kill(pid, namespace)
            told |= there
            time.sleep(0.001)
        return found


def _marked(namespace: str, marker: bytes) -> Iterator[int]:
    for entry in os.scandir(PROC):
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            if (
                os.readlink(f"{entry.path}/ns/pid") == namespace
                and marker in Path(entry.path, "environ").read_bytes()
            ):
                yield int(entry.name)


def _kill(pid: int, namespace: str) -> None:
    """Kill the process, not another that has got its number since: by a descriptor that stays with it."""
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if os.readlink(PROC / str(pid) / "ns" / "pid") == namespace:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
