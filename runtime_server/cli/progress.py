"""A bar per layer of a pull, and per step of a build; lines where nobody sees bars."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from runtime_server.cli.output import clean, console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from runtime_server.models import PullStatus

_FINAL = ("Pull complete", "Already exists")
"""The last words of a layer (Docker Engine)."""

_STEP = re.compile(r"#(\d+) (.*)")
"""A line of BuildKit's plain progress: the step's number, what it says."""
_ENDED = re.compile(r"(DONE|CACHED|ERROR|CANCELED)\b")
_BYTES = re.compile(r"(\w+:[0-9a-f]{8})[0-9a-f]* ([\d.]+)(k|M|G|)B / ([\d.]+)(k|M|G|)B")
"""How far a layer is that a build downloads."""
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


class Bars:
    """Bars on stderr that stay when they are full; a context manager. Where stderr is no terminal: lines."""

    def __init__(self) -> None:
        self._console = console(err=True)
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, str] = {}
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = self._make()

    def _make(self) -> Progress:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        class Bytes(DownloadColumn):
            """Bytes, where they are known."""

            def render(self, task):  # type: ignore[no-untyped-def]
                return super().render(task) if task.total and task.total > 1 else ""

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            Bytes(),
            TextColumn("{task.fields[phase]}", markup=False),
            console=self._console,
        )

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def set(self, name: str, phase: str, done: int | None = None, total: int | None = None) -> None:
        """Say how far one is; without a total it only moves."""
        name, phase = clean(name), clean(phase)
        if self._progress is None:
            if self._said.get(name) != phase:
                self._said[name] = phase
                click.echo(f"{name}: {phase}", err=True)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, phase=phase)
        self._progress.update(self._tasks[name], completed=done or 0, total=total or None, phase=phase)

    def fill(self, name: str, phase: str) -> None:
        """Say that one is at its end."""
        self.set(name, phase)
        if self._progress is not None:
            self._progress.update(self._tasks[clean(name)], completed=1, total=1)

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self._progress is None:
            click.echo(clean(text), err=True)
        else:
            self._progress.console.print(clean(text), markup=False)


def show_pull(bars: Bars, status: PullStatus) -> None:
    """Show a line of a pull's answer."""
    if status.layer is None:
        if status.status == "complete" and status.detail:
            bars.say(status.detail)
        return
    phase = status.detail or ""
    if phase in _FINAL:
        bars.fill(status.layer, phase)
    else:
        bars.set(status.layer, phase, status.current_bytes, status.total_bytes)


class BuildSteps:
    """A build's log as bars: BuildKit's plain progress, which is all that a log has."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._names: dict[str, str] = {}
        self._rest = ""

    def take(self, text: str) -> None:
        """More of the log."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            match = _STEP.match(line)
            if match is not None:
                self._step(match[1], match[2])

    def _step(self, number: str, said: str) -> None:
        name = self._names.get(number)
        if name is None:
            self._names[number] = name = f"#{number} {said[:60]}"
            self._bars.set(name, "")
        elif _ENDED.match(said):
            self._bars.fill(name, said)
        elif (layer := _BYTES.match(said)) is not None:
            self._bars.set(
                f"#{number} {layer[1]}", "Downloading", _bytes(*layer.group(2, 3)), _bytes(*layer.group(4, 5))
            )
        else:
            self._bars.set(name, said[:60])


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])
