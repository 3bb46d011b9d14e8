"""How answers look: tables for people, JSON for programs, colours on a terminal only."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from runtime_server.models import HostPort, Runtime

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal would obey, but for tabs and line feeds."""
_WIDE = 10_000
"""Columns where nobody looks: nothing is wrapped or cut for a program."""

_COLOURS = {
    "running": "green",
    "starting": "cyan",
    "paused": "yellow",
    "stopping": "yellow",
    "error": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def clean(text: str) -> str:
    """The text without what a terminal would obey: names and messages come from others."""
    return _CONTROL.sub("�", text)


def console(*, err: bool = False) -> Console:
    """Rich's console on stdout or stderr, which heeds ``NO_COLOR``; nothing makes it colour what isn't a terminal."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    terminal = stream.isatty()
    return Console(file=stream, force_terminal=terminal, width=None if terminal else _WIDE, highlight=False)


def echo_json(value: Any, *, err: bool = False, compact: bool = False) -> None:
    """One JSON document: indented, or one line of a stream."""
    text = json.dumps(value, ensure_ascii=False, default=str, indent=None if compact else 2)
    click.echo(text, err=err)


def as_data(answer: Any) -> Any:
    """An answer of the client as JSON values; the wire's own names."""
    if isinstance(answer, list | tuple):
        return [as_data(each) for each in answer]
    return answer.model_dump(mode="json")


def echo_answers(
    answers: Sequence[Any],
    as_json: bool,
    columns: Sequence[str],
    row: Callable[[Any], Row],
    *,
    only: Callable[[Any], str] | None = None,
) -> None:
    """A list of answers: as a JSON array, a line for each with ``only`` what that says of it, or a table."""
    if as_json:
        echo_json(as_data(answers))
    elif only is not None:
        for each in answers:
            click.echo(only(each))
    else:
        echo_table(columns, (row(each) for each in answers))


Row = Sequence["RenderableType"]


def table(columns: Sequence[str], rows: Iterable[Row]) -> Table:
    """Columns with two blanks between them, as docker's tables have it."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean(each)) if isinstance(each, str) else each for each in row))
    return made


def echo_table(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A table on stdout."""
    screen = console()
    if screen.is_terminal:
        screen.print(table(columns, rows))
        return
    with screen.capture() as captured:
        screen.print(table(columns, rows))
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def coloured(word: str) -> RenderableType:
    """A state in its colour."""
    from rich.text import Text

    return Text(clean(word), style=_COLOURS.get(word, ""))


def sentence(error: Exception) -> str:
    """An error's message, which begins in lower case, as a sentence."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def decimal(size: int | None) -> str:
    """Bytes of an image or a file, by powers of 1000 as docker has them."""
    return "" if size is None else _size(size, 1000, ("B", "kB", "MB", "GB", "TB"))


def binary(size: int | None) -> str:
    """Bytes of memory, by powers of 1024."""
    return "" if size is None else _size(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _size(size: float, base: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if size < base:
            return f"{size:.4g}{unit}"
        size /= base
    return f"{size:.4g}{units[-1]}"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in one unit."""
    if moment is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return f"in {_span(-seconds)}" if seconds < -1 else f"{_span(max(0.0, seconds))} ago"


def _span(seconds: float) -> str:
    for unit, length, most in (("second", 1, 60), ("minute", 60, 3600), ("hour", 3600, 172_800)):
        if seconds < most:
            return _count(int(seconds // length), unit)
    return _count(int(seconds // 86_400), "day")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def ports(published: dict[str, list[HostPort]]) -> str:
    """Published ports as ``docker ps`` writes them."""
    written = []
    for port, places in published.items():
        written += [f"{_host(each.HostIp)}:{each.HostPort}->{port}" for each in places] or [port]
    return ", ".join(written)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def status_of(runtime: Runtime) -> RenderableType:
    """A runtime's state, with how it ended."""
    from rich.text import Text

    shown = Text(runtime.status, style=_COLOURS.get(runtime.status, ""))
    if runtime.exit is not None and runtime.exit.exit_code is not None:
        shown.append(f" ({runtime.exit.exit_code})")
    elif runtime.error is not None:
        shown.append(clean(f" ({runtime.error.code})"))
    return shown
