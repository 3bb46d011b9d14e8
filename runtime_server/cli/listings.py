"""``ls``, ``inspect`` and ``history``: runtimes as they are, and as they were."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.exits import for_each
from runtime_server.cli.output import (
    Row,
    ago,
    coloured,
    echo_answers,
    ports,
    status_of,
)
from runtime_server.cli.values import complete_runtime, examples, pairs, runtime_argument

if TYPE_CHECKING:
    from runtime_server.models import HistoryEntry, Runtime

LIVE = ("starting", "running", "paused", "stopping")
ALL = (*LIVE, "stopped", "error")
"""Those that are still there; of removed ones only records are left."""

_COLUMNS = ("RUNTIME", "NAME", "IMAGE", "STATUS", "CREATED", "PORTS", "SESSION")


@click.command(
    epilog=examples(
        "runtime-server ls -a",
        "runtime-server ls -q -f status=paused -f label=team=blue",
        "runtime-server ls -o json | jq -r '.[].url'",
    )
)
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that have ended.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="status=STATUS, label=NAME, label=NAME=VALUE or, for admins, owner=NAME; may be repeated.",
)
@click.option("--no-trunc", is_flag=True, help="Whole image names.")
@remote
def ls(session: Session, everything: bool, quiet: bool, filters: tuple[str, ...], no_trunc: bool) -> None:
    """List runtimes: those that live, or with -a all."""
    statuses, labels, owner = _filters(filters)
    chosen = statuses or (ALL if everything else LIVE)
    found = list(session.client.list_runtimes(status=chosen, labels=labels, owner=owner, limit=1000))
    only = attrgetter("runtime_id") if quiet else None
    several = len({each.owner for each in found}) > 1
    columns = (*_COLUMNS, "OWNER") if several else _COLUMNS
    echo_answers(found, session.json, columns, lambda each: _row(each, several, no_trunc), only=only)


def _filters(filters: tuple[str, ...]) -> tuple[list[str], dict[str, str | None], str | None]:
    statuses: list[str] = []
    labels: dict[str, str | None] = {}
    owner: str | None = None
    for name, value in (pair for each in filters for pair in pairs((each,), "-f").items()):
        if name == "status":
            statuses.append(value)
        elif name == "label":
            label, equals, wanted = value.partition("=")
            labels[label] = wanted if equals else None
        elif name == "owner":
            owner = value
        else:
            raise click.UsageError(f"-f: {name!r} is none of status, label and owner.")
    return statuses, labels, owner


def _row(runtime: Runtime, owner: bool, no_trunc: bool) -> Row:
    image = runtime.image
    if not no_trunc and len(image) > 40:
        image = f"…{image[-39:]}"
    row = [
        runtime.runtime_id,
        runtime.name or "",
        image,
        status_of(runtime),
        ago(runtime.created_at),
        ports(runtime.ports),
        runtime.session_id or "",
    ]
    return [*row, runtime.owner] if owner else row


@click.command(
    epilog=examples("runtime-server inspect web", "runtime-server inspect --values web | jq '.[0].environment'")
)
@click.argument("runtimes", metavar="RUNTIME…", nargs=-1, required=True, shell_complete=complete_runtime)
@click.option("--values", is_flag=True, help="With the environment's values, which only the owner gets.")
@remote
def inspect(session: Session, runtimes: tuple[str, ...], values: bool) -> None:
    """Show all that is known of runtimes, as JSON."""
    kind: Literal["values", "names"] = "values" if values else "names"
    for_each(
        runtimes,
        lambda each: session.client.get_runtime(each, environment=kind),
        as_json=session.json,
        shown=None,
    )


@click.command(epilog=examples("runtime-server history web"))
@runtime_argument
@remote
def history(session: Session, runtime: str) -> None:
    """Show what states a runtime has been in, and why."""
    found = session.client.history(runtime)
    echo_answers(found.entries, session.json, ("WHEN", "STATUS", "DETAIL"), _change)


def _change(entry: HistoryEntry) -> Row:
    return (entry.at.strftime("%Y-%m-%d %H:%M:%SZ"), coloured(entry.status), entry.detail or "")
