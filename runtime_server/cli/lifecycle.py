"""``pause``, ``resume``, ``stop``, ``restart``, ``update`` and ``rm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.exits import for_each
from runtime_server.cli.listings import LIVE
from runtime_server.cli.output import echo_json
from runtime_server.cli.values import DURATION, complete_runtime, examples, pairs

if TYPE_CHECKING:
    from runtime_server.models import Runtime

_runtimes = click.argument("runtimes", metavar="RUNTIME…", nargs=-1, required=True, shell_complete=complete_runtime)
_grace = click.option(
    "-t", "--timeout", type=DURATION, default=5.0, show_default=True, help="Grace between TERM and KILL."
)


@click.command(epilog=examples("runtime-server pause web"))
@_runtimes
@remote
def pause(session: Session, runtimes: tuple[str, ...]) -> None:
    """Freeze all processes of runtimes."""
    for_each(runtimes, session.client.pause_runtime, as_json=session.json)


@click.command(epilog=examples("runtime-server resume web"))
@_runtimes
@remote
def resume(session: Session, runtimes: tuple[str, ...]) -> None:
    """Let paused runtimes go on."""
    for_each(runtimes, session.client.resume_runtime, as_json=session.json)


@click.command(epilog=examples("runtime-server stop -t 30 web", "runtime-server stop $(runtime-server ls -q)"))
@_runtimes
@_grace
@remote
def stop(session: Session, runtimes: tuple[str, ...], timeout: float) -> None:
    """Stop runtimes.

    They stay to be looked at until their retention ends, or `rm`.
    """
    for_each(runtimes, lambda each: session.client.stop_runtime(each, timeout=timeout), as_json=session.json)


@click.command(epilog=examples("runtime-server restart web"))
@_runtimes
@_grace
@remote
def restart(session: Session, runtimes: tuple[str, ...], timeout: float) -> None:
    """Stop runtimes and start them again.

    Their files stay; ports may move. Those that have ended just start.
    """

    def act(each: str) -> Runtime:
        answer = session.client.restart_runtime(each, timeout=timeout)
        for moved in answer.moved_ports:
            places = ", ".join(f"{place.HostIp}:{place.HostPort}" for place in moved.after)
            click.echo(f"{each}: {moved.port} is published on {places} now.", err=True)
        return answer

    for_each(runtimes, act, as_json=session.json)


@click.command(
    epilog=examples(
        "runtime-server update --memory 1g --cpus 2 web", "runtime-server update --ttl 2h --label job=7 web"
    )
)
@_runtimes
@click.option("--cpus", type=float, help="CPU limit.")
@click.option("-m", "--memory", help='Memory limit, e.g. "512m".')
@click.option("--pids-limit", type=int, help="Process limit.")
@click.option("--ttl", help="How long from now until it is stopped and removed, e.g. 2h; `never`.")
@click.option("--retention", type=DURATION, help="How long it stays once stopped.")
@click.option("-l", "--label", "labels", multiple=True, metavar="NAME=VALUE", help="Set a label; may be repeated.")
@click.option("--label-rm", "gone", multiple=True, metavar="NAME", help="Take a label away; may be repeated.")
@remote
def update(
    session: Session,
    runtimes: tuple[str, ...],
    ttl: str | None,
    labels: tuple[str, ...],
    gone: tuple[str, ...],
    **limits: Any,
) -> None:
    """Change limits, times and labels of runtimes.

    None of them is restarted.
    """
    fields: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    if ttl is not None:
        fields["ttl"] = None if ttl == "never" else DURATION.convert(ttl, None, None)
    changed = {**pairs(labels, "-l", lone=True), **dict.fromkeys(gone)}
    if changed:
        fields["labels"] = changed
    if not fields:
        raise click.UsageError("Nothing to change: give at least one option.")
    for_each(runtimes, lambda each: session.client.update_runtime(each, **fields), as_json=session.json)


@click.command(epilog=examples("runtime-server rm web", "runtime-server rm -f $(runtime-server ls -aq)"))
@_runtimes
@click.option("-f", "--force", is_flag=True, help="Also those that live: they are stopped first.")
@remote
def rm(session: Session, runtimes: tuple[str, ...], force: bool) -> None:
    """Remove runtimes that have ended, or with -f any.

    Their workspaces and volumes stay.
    """

    def act(each: str) -> Runtime | None:
        if not force:
            status = session.client.get_runtime(each).status
            if status in LIVE:
                detail = f"{each} is {status}: stop it before, or use -f"
                if session.json:
                    echo_json({"code": "invalid-state", "detail": detail}, err=True, compact=True)
                else:
                    click.echo(f"Error: {detail}.", err=True)
                return None
        return session.client.remove_runtime(each)

    for_each(runtimes, act, as_json=session.json)
