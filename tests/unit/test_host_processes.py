"""Processes by the host's own numbers, on this process's own children."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_server.engine import host_processes
from runtime_server.engine.host_processes import HostProcesses

FORKS = """
import os, sys, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(600)
for _ in range(3):
    os.wait()  # those in between
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with children that left its session and its side, all marked."""
    marker = f"marker-{time.monotonic_ns()}"
    environment = {**os.environ, "MARK": marker}
    process = subprocess.Popen([sys.executable, "-c", FORKS], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    ends = time.monotonic() + 60
    while len(marked(marker)) != 4:
        assert time.monotonic() < ends
        time.sleep(0.01)
    yield process, marker
    for pid in marked(marker):
        os.kill(pid, 9)
    process.wait(60)
    process.stdout.close()


def marked(marker: str) -> list[int]:
    return list(host_processes._marked(os.readlink("/proc/self/ns/pid"), marker.encode()))


def own_group() -> str:
    """A part of this process's control group's path, which stands for a container's id."""
    return Path("/proc/self/cgroup").read_text().splitlines()[0].partition(":")[0] + ":"


def test_the_whole_family_is_ended(family: tuple[subprocess.Popen[str], str]) -> None:
    process, marker = family
    processes = HostProcesses(own_group(), os.getpid())
    assert processes.seen
    assert processes.kill(marker)
    assert process.wait(60) == -9
    ends = time.monotonic() + 60
    while marked(marker):
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert not processes.kill(marker)


@pytest.mark.parametrize("pid", [None, 0, 2**22 + 1])
def test_without_a_process_there_is_nothing_to_see(
    family: tuple[subprocess.Popen[str], str], pid: int | None
) -> None:
    processes = HostProcesses(own_group(), pid)
    assert not processes.seen
    assert not processes.kill(family[1])
    assert len(marked(family[1])) == 4


def test_a_number_that_is_another_containers_is_left_alone(family: tuple[subprocess.Popen[str], str]) -> None:
    processes = HostProcesses("0123456789abcdef" * 4, os.getpid())
    assert not processes.seen
    assert not processes.kill(family[1])
    assert len(marked(family[1])) == 4
