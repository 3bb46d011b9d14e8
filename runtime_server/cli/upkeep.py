"""Looking after an instance: ``drain`` before a maintenance, ``purge`` to be rid of everything."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

import click

from runtime_server.cli.values import examples
from runtime_server.errors import Problem
from runtime_server.settings import PREFIX, Settings, load

state_dir = click.option(
    "--state-dir", type=click.Path(file_okay=False, path_type=Path), help="The instance's state directory."
)


def use_state_dir(directory: Path | None) -> None:
    """Let the flag override the environment."""
    if directory is not None:
        os.environ[f"{PREFIX}STATE_DIR"] = str(directory)


def refuse_another_user(folder: Path) -> None:
    """Leave an instance's folder to its own user: a server refuses to start with another's files in it.

    Raises:
        click.ClickException: it belongs to somebody else.
    """
    with suppress(FileNotFoundError):
        owner = folder.stat().st_uid
        if owner != os.geteuid():
            raise click.ClickException(
                f"{folder} belongs to {_name(owner)}: run this as that user (runuser -u {_name(owner)} -- ...)."
            )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _settings(directory: Path | None) -> Settings:
    use_state_dir(directory)
    settings = load()
    if not settings.state_dir.expanduser().is_dir():
        raise click.ClickException(f"There is no instance in {settings.state_dir} (RUNTIME_SERVER_STATE_DIR).")
    refuse_another_user(settings.state_dir.expanduser())
    return settings


@click.command(
    short_help="Refuse new starts, and wait for those in progress.",
    epilog=examples("runtime-server drain && systemctl restart runtime-server && runtime-server drain --off"),
)
@state_dir
@click.option("--timeout", type=click.FloatRange(min=0), default=300.0, show_default=True, help="Seconds to wait.")
@click.option("--off", is_flag=True, help="Accept starts again.")
def drain(state_dir: Path | None, timeout: float, off: bool) -> None:
    """Refuse new starts and wait until no operation is in progress.

    Exits with 0 once nothing is in progress, 1 where something still is after the timeout; starts stay refused
    in both cases, over restarts too, until `runtime-server drain --off`. New image builds are refused as well; those
    in progress aren't waited for, since the next server begins them again.
    """
    settings = _settings(state_dir)
    from runtime_server import upkeep

    if off:
        upkeep.undrain(settings)
        click.echo("Starts are accepted again.")
        return
    click.echo("New starts are refused; waiting for operations in progress.")
    if not upkeep.drain(settings, timeout):
        raise click.ClickException(f"Operations are still in progress after {timeout:g} s. Starts stay refused.")
    click.echo("Nothing is in progress. `runtime-server drain --off` accepts starts again.")


@click.command(
    short_help="Remove all of this instance, after asking.",
    epilog=examples("runtime-server purge --workspaces --yes"),
)
@state_dir
@click.option("--workspaces", is_flag=True, help="Remove workspaces too, with all that is in them.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def purge(state_dir: Path | None, workspaces: bool, yes: bool) -> None:
    """Remove every container that belongs to this instance, and mark its records removed, after asking.

    Workspaces are kept unless --workspaces is given; records stay readable until the retention ends. Nothing that
    belongs to anybody else on the same engine is touched.
    """
    settings = _settings(state_dir)
    if not yes:
        what = "every runtime and every workspace" if workspaces else "every runtime"
        click.confirm(f"Remove {what} of the instance in {settings.state_dir}?", abort=True)
    from runtime_server import upkeep

    try:
        removed = upkeep.purge(settings)
        more = upkeep.purge_workspaces(settings) if workspaces else 0
        kept = upkeep.workspaces(settings)
    except Problem as problem:
        raise click.ClickException(problem.detail) from None
    removals = [_count(removed, "runtime"), *([_count(more, "workspace")] if workspaces else [])]
    click.echo(f"Removed {' and '.join(removals)}.")
    if kept:
        click.echo(f"{_count(kept, 'workspace')} kept; `runtime-server purge --workspaces` removes workspaces too.")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
