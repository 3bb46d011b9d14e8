"""The README's first command: from a clone to a container's life through the client, and once more."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.examples import CACHES, ROOT
from tests.faults.server import free_port

TIMEOUT = 300.0
"""Seconds for each: the first installs the package with all that it needs."""
STEP = re.compile(r"^(\w+) +\d+ ms  (.+)$", re.MULTILINE)


def call(clone: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=clone, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def quickstart(clone: Path, environment: dict[str, str]) -> tuple[list[tuple[str, str]], str]:
    """Its steps with what they say, and what it did before them."""
    done = call(clone, environment, "scripts/quickstart", "--once", "--no-install")
    return STEP.findall(done.stdout), done.stderr


@pytest.mark.engine
def test_the_quickstart_runs_and_runs_again(tmp_path: Path, busybox: None) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=CACHES, symlinks=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_SERVER_")},
        "RUNTIME_SERVER_PORT": str(free_port()),
        "RUNTIME_SERVER_STATE_DIR": str(tmp_path / "state"),
        "RUNTIME_SERVER_VOLUME_ROOTS": str(tmp_path / "volumes"),
        "RUNTIME_SERVER_WORKERS": "1",
    }
    steps, told = quickstart(clone, environment)
    assert [name for name, _ in steps] == ["start", "ask", "pause", "ask", "resume", "ask", "stop"]
    answers = [text for name, text in steps if name == "ask"]
    assert answers[0] == answers[2]
    assert "Hello" in answers[0]
    assert "from a folder of the host" in answers[0]
    assert answers[1] == "no answer"
    assert "installing the package" in told
    assert "the server has ended" in told
    again, told = quickstart(clone, environment)
    assert [name for name, _ in again] == [name for name, _ in steps]
    assert "installing" not in told
    call(clone, environment, ".venv/bin/runtime-server", "purge", "--yes")
