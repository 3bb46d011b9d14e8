"""The reference is what the code says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runtime_server.api import ROUTES
from runtime_server.cli.main import main
from runtime_server.errors import CATALOGUE
from runtime_server.runtimes.policy_rules import table
from runtime_server.settings import Settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def test_it_is_not_stale() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "scripts/reference.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "scripts"
    copy.mkdir()
    (copy / "reference.py").write_text((ROOT / "scripts/reference.py").read_text())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(copy / "reference.py"), "--check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "settings.md is stale: run scripts/reference" in done.stdout


@pytest.mark.parametrize("name", Settings.model_fields)
def test_it_has_every_setting(name: str) -> None:
    assert f"| `{name.upper()}` |" in page("settings.md")


def test_it_has_every_route_error_and_command() -> None:
    for route in ROUTES:
        for method in route.operations:
            assert f"\n## `{method} {route.template}`\n" in page("routes.md")
    for code, error in CATALOGUE.items():
        assert f"| `{code}` | {error.status} | `{error.__name__}` |" in page("errors.md")
    assert isinstance(main, click.Group)
    names = main.list_commands(click.Context(main))
    assert {"serve", "start", "doctor"} <= set(names)
    for name in names:
        assert f"\n## `runtime-server {name}`\n" in page("commands.md")


def test_it_has_the_rules_of_starts() -> None:
    assert table() in page("starts.md")
