"""``stats`` and ``events``: what runtimes use, and what happens to them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.exits import exit_code, tell
from runtime_server.cli.output import (
    Row,
    as_data,
    binary,
    clean,
    coloured,
    console,
    decimal,
    echo_json,
    echo_table,
    table,
)
from runtime_server.cli.values import DURATION, complete_runtime, examples

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runtime_server.models import RuntimeEvent, Stats

AT_ONCE = 8
"""Runtimes that are asked at the same time."""

_COLUMNS = ("RUNTIME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS")


@click.command(epilog=examples("runtime-server stats", "runtime-server stats --no-stream -o json web"))
@click.argument("runtimes", metavar="[RUNTIME…]", nargs=-1, shell_complete=complete_runtime)
@click.option("--no-stream", is_flag=True, help="Once.")
@click.option("--interval", type=DURATION, default=1.0, show_default=True, help="Seconds between two samples.")
@remote
def stats(session: Session, runtimes: tuple[str, ...], no_stream: bool, interval: float) -> None:
    """Show what runtimes use, again and again.

    Those that are named, or all that run. With -o json: a sample a line; with --no-stream an array.
    """
    named = runtimes or tuple(each.runtime_id for each in session.client.list_runtimes(status="running", limit=1000))
    if no_stream:
        found, code = _sample(session, named)
        if session.json:
            echo_json(as_data(list(found.values())))
        else:
            echo_table(_COLUMNS, map(_usage, found.values()))
        raise SystemExit(code)
    rounds = _stream(session, named[0], interval) if len(named) == 1 else _rounds(session, named, interval)
    if session.json:
        for each in rounds:
            for sample in each:
                echo_json(as_data(sample), compact=True)
        return
    _show(rounds)


def _sample(session: Session, runtimes: tuple[str, ...]) -> tuple[dict[str, Stats], int]:
    """A sample of each, by what it was named, and the exit code of the first that there is none of."""
    from runtime_server.errors import RuntimeClientError

    found: dict[str, Stats] = {}
    code = 0
    client = session.client
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, future in [(each, pool.submit(client.stats, each)) for each in runtimes]:
            try:
                found[name] = future.result()
            except RuntimeClientError as error:
                tell(error, as_json=session.json, about=name)
                code = code or exit_code(error)
    return found, code


def _stream(session: Session, runtime: str, interval: float) -> Iterator[list[Stats]]:
    with session.client.stats(runtime, stream=True, interval=max(0.5, interval)) as samples:
        for each in samples:
            yield [each]


def _rounds(session: Session, runtimes: tuple[str, ...], interval: float) -> Iterator[list[Stats]]:
    """Samples of several, as long as one of them runs: one call each, so that they take no places for streams."""
    left = runtimes
    while left:
        begun = time.monotonic()
        found, _ = _sample(session, left)
        left = tuple(found)
        if not left:
            return
        yield list(found.values())
        time.sleep(max(0.0, interval - (time.monotonic() - begun)))


def _show(rounds: Iterator[list[Stats]]) -> None:
    screen = console()
    if not screen.is_terminal:
        for each in rounds:
            echo_table(_COLUMNS, map(_usage, each))
        return
    from rich.live import Live

    with Live(console=screen, auto_refresh=False) as live:
        for each in rounds:
            live.update(table(_COLUMNS, map(_usage, each)), refresh=True)


def _usage(sample: Stats) -> Row:
    limit = sample.memory_limit_bytes
    return (
        sample.runtime_id,
        f"{sample.cpu_percent:.2f}%",
        f"{binary(sample.memory_bytes)} / {binary(limit) or '-'}",
        f"{100 * sample.memory_bytes / limit:.2f}%" if limit else "-",
        f"{decimal(sample.network_rx_bytes)} / {decimal(sample.network_tx_bytes)}",
        f"{decimal(sample.block_read_bytes)} / {decimal(sample.block_write_bytes)}",
        str(sample.pids),
    )


@click.command(
    epilog=examples(
        "runtime-server events",
        "runtime-server events --all --no-follow -f status=error",
        "runtime-server events -o json --since-id 4711 | while read -r event; do …; done",
    )
)
@click.option("--since-id", type=click.IntRange(min=0), help="Only what came after the event of that id.")
@click.option("--all", "everything", is_flag=True, help="Also all that is remembered.")
@click.option("--follow/--no-follow", default=True, help="Go on for ever, or end after what there is.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME=VALUE",
    help="status=STATUS, runtime=RUNTIME or, for admins, owner=NAME; may be repeated.",
)
@remote
def events(session: Session, since_id: int | None, everything: bool, follow: bool, filters: tuple[str, ...]) -> None:
    """Show what happens to runtimes, from now on.

    No event is lost or repeated over lost connections. With -o json: one object a line, after whose id --since-id
    goes on.
    """
    statuses: list[str] = []
    others: dict[str, str] = {}
    for each in filters:
        name, equals, value = each.partition("=")
        if not equals or name not in ("status", "runtime", "owner"):
            raise click.UsageError(f"-f: {each!r} must be status=…, runtime=… or owner=….")
        if name == "status":
            statuses.append(value)
        else:
            others[name] = value
    begin = 0 if everything and since_id is None else since_id
    screen = console()
    with session.client.events(since_id=begin, status=statuses, follow=follow, **others) as found:
        for event in found:
            if session.json:
                echo_json(as_data(event), compact=True)
            else:
                screen.print(_line(event), soft_wrap=True)


def _line(event: RuntimeEvent) -> RenderableType:
    from rich.text import Text

    facts = [event.runtime_id, *(filter(None, (event.name, event.session_id))), f"({event.image}, {event.owner})"]
    shown = Text(f"{event.at:%Y-%m-%d %H:%M:%S}Z ")
    status = coloured(f"{event.status}")
    assert isinstance(status, Text)
    shown.append_text(status).append(clean(f" {' '.join(facts)}"))
    return shown.append(clean(f": {event.detail}")) if event.detail else shown
