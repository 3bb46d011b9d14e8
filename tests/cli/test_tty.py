"""Interactive commands in a real terminal, on the service in memory."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from runtime_server import RuntimeServerClient
from runtime_server.testing import InMemoryServer
from tests.cli.serving import serving
from tests.contract.handover import handing_over

DEADLINE = 60


@pytest.fixture
def environment(key: str, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    return {**kept, "TERM": "xterm-256color", "RUNTIME_SERVER_API_KEY": key}


def default_interrupt() -> None:
    """As in a terminal: what a shell runs in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def spawn(environment: dict[str, str], *arguments: str) -> pexpect.spawn[str]:
    command = ["-m", "runtime_server", *arguments]
    return pexpect.spawn(
        sys.executable,
        command,
        env=environment,
        dimensions=(30, 100),
        timeout=DEADLINE,
        encoding="utf-8",
        preexec_fn=default_interrupt,
    )


@pytest.fixture
def commands(shared_server: InMemoryServer) -> Iterator[str]:
    """The address at which streams and short calls are answered."""
    with serving(shared_server.app) as url:
        yield url


def test_a_terminal(shared_server: InMemoryServer, client: RuntimeServerClient, environment: dict[str, str]) -> None:
    runtime = client.start_runtime(image="busybox").runtime_id
    with handing_over(shared_server.app) as front:
        child = spawn(environment, "exec", "-it", "-e", "A=b c", "--url", front.url, runtime, "cat")
        child.waitnoecho(DEADLINE)
        child.send("hello\x03")
        child.expect_exact("hello\x03")
        (command,) = [
            each for each in shared_server.engine._world.execs.values() if each.container.spec.runtime_id == runtime
        ]
        assert command.spec.command == ("/bin/sh", "-c", "export A='b c'; exec cat")
        assert command.size == (30, 100)
        child.setwinsize(40, 132)
        child.send("after")
        child.expect_exact("after")
        assert _until(lambda: command.size == (40, 132))
        client.stop_runtime(runtime, timeout=0)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 137


def _until(so: Any) -> bool:
    import time

    ends = time.monotonic() + DEADLINE
    while time.monotonic() < ends:
        if so():
            return True
        time.sleep(0.01)
    return False


def test_bars_of_a_pull(environment: dict[str, str], commands: str) -> None:
    child = spawn(environment, "pull", "busybox", "--url", commands)
    child.expect(pexpect.EOF)
    child.close()
    shown = str(child.before)
    assert child.exitstatus == 0, shown
    assert "0a1b2c3d4e5f" in shown
    assert "Pull complete" in shown
    assert shown.rstrip().endswith("busybox")
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_ctrl_c_ends_a_stream(environment: dict[str, str], commands: str, client: RuntimeServerClient) -> None:
    client.start_runtime(image="busybox", name="web")
    child = spawn(environment, "events", "--all", "--url", commands)
    child.expect_exact("running")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in str(child.before)
