"""The command line."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runtime_server import __version__
from runtime_server.cli import serve
from runtime_server.cli.main import main
from runtime_server.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Invoke the command line; what flags leave in the environment is gone afterwards."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("RUNTIME_SERVER_"):
            monkeypatch.delenv(name)
    os.environ["RUNTIME_SERVER_STATE_DIR"] = str(tmp_path)
    yield lambda *arguments, **more: CliRunner().invoke(main, arguments, **more)
    for name in [each for each in os.environ if each.startswith("RUNTIME_SERVER_")]:
        del os.environ[name]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which the server would have been started."""
    calls: list[Settings] = []
    monkeypatch.setattr(serve, "serve", calls.append)
    return calls


FLAGS = {
    "--host": ("host", "::1"),
    "--port": ("port", 1234),
    "--workers": ("workers", 3),
    "--threads": ("threads", 5),
    "--state-dir": ("state_dir", Path("/srv/state")),
    "--log-level": ("log_level", "debug"),
    "--log-format": ("log_format", "json"),
}


@pytest.mark.parametrize("before", [(), ("serve",)], ids=["default", "serve"])
@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_overrides_the_environment(
    flag: str, before: tuple[str, ...], run: Run, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, value = FLAGS[flag]
    monkeypatch.setenv(f"RUNTIME_SERVER_{name.upper()}", "7")
    result = run(*before, flag, str(value))
    assert result.exit_code == 0, result.output
    assert [getattr(each, name) for each in served] == [value]


def test_without_a_command_it_serves(run: Run, served: list[Settings]) -> None:
    assert run().exit_code == 0
    assert len(served) == 1


def test_a_wrong_setting_ends_it_with_a_sentence(run: Run, served: list[Settings]) -> None:
    result = run(env={"RUNTIME_SERVER_AUTH": "hush"})
    assert result.exit_code == 2
    assert "RUNTIME_SERVER_AUTH: " in result.output
    assert "hush" not in result.output
    assert not served


@pytest.mark.parametrize("more", [(), ("--check-config",)], ids=["serve", "check"])
def test_a_wrong_key_entry_is_told_without_the_key(more: tuple[str, ...], run: Run) -> None:
    result = run(*more, env={"RUNTIME_SERVER_API_KEYS": "ci:good-good,hush-hush"})
    assert result.exit_code == 2
    assert "RUNTIME_SERVER_API_KEYS, entry 2: " in result.output
    assert "hush" not in result.output


def test_version(run: Run) -> None:
    assert run("--version").output == f"runtime-server, version {__version__}\n"


@pytest.fixture
def upkeep(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the commands ask of the service."""
    calls: list[tuple[Any, ...]] = []
    module = importlib.import_module("runtime_server.upkeep")

    def drain(settings: Settings, timeout: float) -> bool:
        calls.append(("drain", settings.state_dir, timeout))
        return timeout > 1

    def purge(settings: Settings) -> int:
        calls.append(("purge", settings.state_dir))
        return 2

    def purge_workspaces(settings: Settings) -> int:
        calls.append(("volumes", settings.state_dir))
        return 1

    monkeypatch.setattr(module, "drain", drain)
    monkeypatch.setattr(module, "undrain", lambda settings: calls.append(("undrain", settings.state_dir)))
    monkeypatch.setattr(module, "purge", purge)
    monkeypatch.setattr(module, "purge_workspaces", purge_workspaces)
    monkeypatch.setattr(module, "workspaces", lambda _: 3)
    return calls


@pytest.mark.parametrize(
    ("arguments", "code", "call"),
    [
        (("drain", "--timeout", "5"), 0, ("drain", 5.0)),
        (("drain", "--timeout", "1"), 1, ("drain", 1.0)),
        (("drain", "--off"), 0, ("undrain",)),
        (("purge", "--yes"), 0, ("purge",)),
    ],
)
def test_upkeep(
    arguments: tuple[str, ...], code: int, call: tuple[Any, ...], run: Run, upkeep: list[Any], tmp_path: Path
) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert upkeep == [(call[0], tmp_path, *call[1:])]


def test_purge_does_nothing_unless_confirmed(run: Run, upkeep: list[Any]) -> None:
    assert run("purge", input="n\n").exit_code == 1
    assert not upkeep
    done = run("purge", input="y\n")
    assert done.exit_code == 0
    assert len(upkeep) == 1
    assert "3 workspaces kept" in done.output


def test_purge_removes_workspaces_only_when_told(run: Run, upkeep: list[Any], tmp_path: Path) -> None:
    asked = run("purge", "--workspaces", input="n\n")
    assert "every runtime and every workspace" in asked.output
    assert not upkeep
    done = run("purge", "--workspaces", "--yes")
    assert "Removed 2 runtimes and 1 workspace." in done.output
    assert upkeep == [("purge", tmp_path), ("volumes", tmp_path)]


@pytest.mark.parametrize("command", ["drain", "purge"])
def test_upkeep_of_nothing(command: str, run: Run, tmp_path: Path) -> None:
    result = run(command, "--state-dir", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "There is no instance in" in result.output


def test_a_taken_port_is_said_in_plain_words(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--host", "127.0.0.1", "--port", str(port))
    assert result.exit_code == 1
    assert f"Another program listens on 127.0.0.1:{port} already" in result.output
    assert "RUNTIME_SERVER_PORT" in result.output


def test_check_config_without_an_engine(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_SERVER_")},
        "RUNTIME_SERVER_STATE_DIR": str(tmp_path / "state"),
        "RUNTIME_SERVER_ENGINE": f"unix://{tmp_path}/none.sock",
        "RUNTIME_SERVER_API_KEYS": "ci:hush-hush-hush-hush",
    }
    done = subprocess.run(
        [sys.executable, "-m", "runtime_server", "--check-config"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("Settings: fine.")
    assert done.stderr.startswith("Engine: ")
    assert "Traceback" not in done.stderr
    assert "hush-hush" not in done.stdout + done.stderr
    assert not (tmp_path / "state").exists()
