"""``volumes``, ``workspaces`` and ``prune``: what stays when runtimes are gone."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.exits import FAILED, for_each
from runtime_server.cli.output import Row, ago, as_data, clean, decimal, echo_answers, echo_json
from runtime_server.cli.values import DURATION, examples

if TYPE_CHECKING:
    from runtime_server.models import PruneReport, Volume, Workspace

_quiet = click.option("-q", "--quiet", is_flag=True, help="Only names.")
_sizes = click.option("-s", "--size", is_flag=True, help="Measure them, which may take long.")
_owner = click.option("--owner", help="Only this owner's; for admins.")


def _list_volumes(session: Session, quiet: bool, size: bool, owner: str | None) -> None:
    found = session.client.list_volumes(sizes=size, owner=owner)
    only = attrgetter("name") if quiet else None
    echo_answers(found, session.json, ("NAME", "OWNER", "SIZE", "IN USE BY"), _volume, only=only)


def _volume(volume: Volume) -> Row:
    return (volume.name, volume.owner, decimal(volume.size_bytes), ", ".join(volume.in_use_by))


@click.command(epilog=examples("runtime-server volumes --size"))
@_quiet
@_sizes
@_owner
@remote
def volumes(session: Session, quiet: bool, size: bool, owner: str | None) -> None:
    """List named volumes (also `volume ls`)."""
    _list_volumes(session, quiet, size, owner)


@click.group(epilog=examples("runtime-server volume ls", "runtime-server volume rm cache"))
def volume() -> None:
    """List and remove named volumes."""


@volume.command(name="ls", epilog=examples("runtime-server volume ls -q"))
@_quiet
@_sizes
@_owner
@remote
def volume_ls(session: Session, quiet: bool, size: bool, owner: str | None) -> None:
    """List named volumes."""
    _list_volumes(session, quiet, size, owner)


@volume.command(name="rm", epilog=examples("runtime-server volume rm cache"))
@click.argument("names", metavar="VOLUME…", nargs=-1, required=True)
@_owner
@remote
def volume_rm(session: Session, names: tuple[str, ...], owner: str | None) -> None:
    """Remove named volumes with all that is in them, where no runtime has them."""
    for_each(names, lambda name: session.client.delete_volume(name, owner=owner), as_json=session.json)


def _list_workspaces(session: Session, quiet: bool, size: bool, owner: str | None) -> None:
    found = session.client.list_workspaces(sizes=size, owner=owner)
    columns = ("WORKSPACE", "SESSION", "OWNER", "CREATED", "SIZE", "IN USE BY")
    only = attrgetter("workspace_id") if quiet else None
    echo_answers(found, session.json, columns, _workspace, only=only)


def _workspace(workspace: Workspace) -> Row:
    return (
        workspace.workspace_id,
        workspace.session_id or "",
        workspace.owner,
        ago(workspace.created_at),
        decimal(workspace.size_bytes),
        ", ".join(workspace.in_use_by),
    )


@click.command(epilog=examples("runtime-server workspaces --size"))
@_quiet
@_sizes
@_owner
@remote
def workspaces(session: Session, quiet: bool, size: bool, owner: str | None) -> None:
    """List sessions' workspaces (also `workspace ls`)."""
    _list_workspaces(session, quiet, size, owner)


@click.group(epilog=examples("runtime-server workspace ls", "runtime-server workspace rm s1"))
def workspace() -> None:
    """List and remove sessions' workspaces."""


@workspace.command(name="ls", epilog=examples("runtime-server workspace ls -q"))
@_quiet
@_sizes
@_owner
@remote
def workspace_ls(session: Session, quiet: bool, size: bool, owner: str | None) -> None:
    """List sessions' workspaces."""
    _list_workspaces(session, quiet, size, owner)


@workspace.command(name="rm", epilog=examples("runtime-server workspace rm s1"))
@click.argument("names", metavar="WORKSPACE…", nargs=-1, required=True)
@remote
def workspace_rm(session: Session, names: tuple[str, ...]) -> None:
    """Remove workspaces, by id or session, with all that is in them."""
    for_each(names, session.client.delete_workspace, as_json=session.json)


@click.command(
    epilog=examples("runtime-server prune --dry-run", "runtime-server prune -f --older-than 1d --build-cache")
)
@click.option("-f", "--force", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option("--runtimes/--no-runtimes", default=True, help="Runtimes that have ended.")
@click.option("--workspaces/--no-workspaces", default=True, help="Workspaces that nobody has used for long enough.")
@click.option("--build-cache", is_flag=True, help="What builds have left on the engine; for admins.")
@click.option("--older-than", type=DURATION, default=0.0, help="Only what has ended or was used last before that.")
@click.option("--workspaces-unused-for", type=DURATION, help="How long.  [default: the server's retention of them]")
@_owner
@remote
def prune(session: Session, force: bool, dry_run: bool, **what: Any) -> None:
    """Remove what has ended, and what nobody uses.

    That is runtimes that have ended, workspaces beyond their retention and, if asked, the build cache. It tells what
    it would remove, and asks.
    """
    client = session.client
    if dry_run or not force:
        report = client.prune(dry_run=True, **what)
        if dry_run:
            _report(session, report)
            return
        _tell(report)
        click.confirm("Remove that?", abort=True, err=True)
    reports = [client.prune(**what)]
    while reports[-1].more and not reports[-1].failed:
        reports.append(client.prune(**what))
    _report(session, _whole(reports))


def _whole(reports: list[PruneReport]) -> PruneReport:
    """Several reports as one."""
    freed = [each.build_cache_bytes for each in reports if each.build_cache_bytes is not None]
    return reports[-1].model_copy(
        update={
            "runtimes": [name for each in reports for name in each.runtimes],
            "workspaces": [name for each in reports for name in each.workspaces],
            "build_cache_bytes": sum(freed) if freed else None,
        }
    )


def _report(session: Session, report: PruneReport) -> None:
    if session.json:
        echo_json(as_data(report))
    else:
        _tell(report)
    if report.failed:
        raise SystemExit(FAILED)


def _tell(report: PruneReport) -> None:
    would = "Would remove" if report.dry_run else "Removed"
    for kind, names in (("runtime", report.runtimes), ("workspace", report.workspaces)):
        for name in names:
            click.echo(f"{would} {kind} {name}")
    if report.build_cache_bytes is not None:
        click.echo(f"{would} {decimal(report.build_cache_bytes)} of build cache")
    if not (report.runtimes or report.workspaces or report.build_cache_bytes):
        click.echo("There is nothing to remove.")
    for failure in report.failed:
        click.echo(clean(f"Error: {failure.id}: {failure.detail}"), err=True)
    if report.more and report.dry_run:
        click.echo("There is more than that.")
