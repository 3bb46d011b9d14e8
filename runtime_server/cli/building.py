"""``build``: an image out of a folder here, built by the server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.exits import FAILED, INTERRUPTED
from runtime_server.cli.output import as_data, clean, console, echo_json
from runtime_server.cli.values import examples

if TYPE_CHECKING:
    from runtime_server.models import BuildStatus

LOOK = 0.5
"""Seconds between two looks at a build's log."""


@click.command(
    epilog=examples(
        "runtime-server build -t agent:1 .",
        "runtime-server build -t agent:2 -t agent:latest --quiet context.tar.gz",
    )
)
@click.option(
    "-t", "--tag", "tags", multiple=True, required=True, metavar="NAME", help="The image's name; more of them."
)
@click.option("-q", "--quiet", is_flag=True, help="Only the image's name at the end.")
@click.option("-d", "--detach", is_flag=True, help="Don't wait: print the build's id.")
@click.argument("context", type=click.Path(exists=True, path_type=Path))
@remote
def build(session: Session, tags: tuple[str, ...], quiet: bool, detach: bool, context: Path) -> None:
    """Build an image of CONTEXT.

    That is a folder with a Dockerfile, or a tar of one. On a terminal there is a bar per step. A name without the
    server's prefix gets it. Ctrl-C cancels the build.
    """
    client = session.client
    prefix = client.registry_prefix().rstrip("/") + "/"
    names = [name if name.startswith(prefix) else prefix + name for name in tags]
    accepted = client.build_image(context, names[0], names[1:])
    if detach:
        click.echo(accepted.build_id)
        return
    try:
        found = _wait(session, accepted.build_id) if quiet or session.json else _watch(session, accepted.build_id)
    except KeyboardInterrupt:
        client.cancel_build(accepted.build_id)
        click.echo("Cancelled.", err=True)
        raise SystemExit(INTERRUPTED) from None
    if session.json:
        echo_json(as_data(found))
    elif found.status == "SUCCESS":
        click.echo(found.image)
    else:
        click.echo(clean(f"Error: the build is {found.status}: {found.error}"), err=True)
    raise SystemExit(0 if found.status == "SUCCESS" else FAILED)


def _wait(session: Session, build_id: str) -> BuildStatus:
    while not (found := session.client.build_status(build_id)).status.final:
        time.sleep(LOOK)
    return found


def _watch(session: Session, build_id: str) -> BuildStatus:
    """Show the log as it grows: its steps as bars on a terminal, as it is elsewhere."""
    from runtime_server.cli.progress import Bars, BuildSteps

    client, shown = session.client, 0
    terminal = console(err=True).is_terminal
    with Bars() as bars:
        steps = BuildSteps(bars)
        while True:
            # The status before the log, so that the last look has all of it.
            found = client.build_status(build_id)
            log = client.build_log(build_id)
            new, shown = log[shown:], len(log)
            if terminal:
                steps.take(new)
            else:
                click.echo(new, err=True, nl=False)
            if found.status.final:
                return found
            time.sleep(LOOK)
