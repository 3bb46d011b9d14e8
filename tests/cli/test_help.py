"""What each command says of itself, and what it costs to ask."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runtime_server.cli.lazy import LazyGroup
from runtime_server.cli.main import ALSO, main

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


ALL = dict(commands(main))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_command_has_a_summary_and_an_example_that_can_be_parsed(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"], prog_name="runtime-server")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5
    _, _, shown = result.output.partition("Example:\n")
    examples = [line.strip() for line in shown.splitlines() if line.strip()]
    assert examples
    assert any(f"runtime-server {' '.join(path)}".strip() in example for example in examples)


@pytest.mark.parametrize("path", [path for path in ALL if path], ids=" ".join)
def test_each_command_is_documented_by_example(path: tuple[str, ...]) -> None:
    program = r'(runtime-server|sudo "\$\(command -v runtime-server\)")'
    assert re.search(rf"^(.*\| )?{program} {re.escape(' '.join(path))}\b", DOCS.read_text(), re.MULTILINE)


def test_summaries_are_whole() -> None:
    shown = CliRunner().invoke(main, ["--help"], prog_name="runtime-server", terminal_width=110)
    assert shown.exit_code == 0
    assert "..." not in shown.output.partition("Runtimes:")[2]


def test_dockers_names_are_known() -> None:
    assert isinstance(main, LazyGroup)
    context = click.Context(main)
    for other, name in ALSO.items():
        assert main.get_command(context, other) is ALL[(name,)]
    assert main.get_command(context, "nothing") is None


def test_help_loads_no_server() -> None:
    code = (
        "import sys\n"
        "from runtime_server.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "main(['ls', '--help'], standalone_mode=False)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert loaded & {"falcon", "docker", "sqlalchemy", "alembic", "gunicorn", "structlog", "rich"} == set()
