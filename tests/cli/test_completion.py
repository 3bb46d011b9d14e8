"""What a shell is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime_server import RuntimeServerClient
from runtime_server.cli.main import main
from tests.cli.conftest import Run

ASK = {"_RUNTIME_SERVER_COMPLETE": "zsh_complete"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell], prog_name="runtime-server")
    assert result.exit_code == 0
    assert "_RUNTIME_SERVER_COMPLETE" in result.stdout
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True, timeout=60)


def test_commands_and_options(run: Run) -> None:
    assert "pause" in run(env={**ASK, "COMP_WORDS": "runtime-server pa", "COMP_CWORD": "1"}).stdout
    assert "--follow" in run(env={**ASK, "COMP_WORDS": "runtime-server logs --f", "COMP_CWORD": "2"}).stdout


def test_runtimes(run: Run, client: RuntimeServerClient) -> None:
    client.start_runtime(image="busybox", name="web")
    client.start_runtime(image="busybox", name="db")
    asked = run(env={**ASK, "COMP_WORDS": "runtime-server logs -f w", "COMP_CWORD": "3"}).stdout
    assert "web" in asked
    assert "db" not in asked


def test_no_server_is_no_completion(home: Path) -> None:
    env = {**ASK, "RUNTIME_SERVER_URL": "http://127.0.0.1:1"}
    words = {"COMP_WORDS": "runtime-server stop ", "COMP_CWORD": "2"}
    result = CliRunner().invoke(main, [], env={**env, **words}, prog_name="runtime-server")
    assert (result.exit_code, result.stderr) == (0, "")
