"""The table: medians, ratios, and the goals that the ratios have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

ENGINE, RUN, NAIVE, SERVICE = SIDES = ("docker-py", "docker run", "FastAPI", "service")


@dataclass(frozen=True, slots=True)
class Row:
    """A line; the goal is about the service's figure divided by that of ``base`` (none: about the figure itself)."""

    key: str
    title: str
    base: str | None
    goal: float
    at_most: bool
    digits: int = 0

    def met(self, value: float) -> bool:
        """Whether a value is within the goal."""
        return value <= self.goal if self.at_most else value >= self.goal


ROWS = (
    Row("start", "start, ms", ENGINE, 1.05, at_most=True),
    Row("pause", "pause, ms", ENGINE, 1.20, at_most=True, digits=1),
    Row("resume", "resume, ms", ENGINE, 1.20, at_most=True, digits=1),
    Row("parallel", "16 clients, starts/s", ENGINE, 0.95, at_most=False, digits=2),
    Row("reads", "GET /runtimes/{id}, 1/s", NAIVE, 2.0, at_most=False),
    Row("memory", "a worker at rest, MB", None, 110, at_most=True),
)


@dataclass(frozen=True, slots=True)
class Report:
    """Medians by what was measured and on which side; ``tool`` measured the reads."""

    medians: Mapping[tuple[str, str], float]
    tool: str

    def show(self, rounds: int) -> None:
        """Print the table."""
        table = Table(caption=f"Medians of {rounds} rounds, interleaved; reads by {self.tool}.")
        for heading in ("", *SIDES, "ratio", "goal", ""):
            table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
        for row in ROWS:
            table.add_row(*self._cells(row))
        Console(width=120).print(table)

    def _cells(self, row: Row) -> list[str]:
        figures = [self.medians.get((row.key, side)) for side in SIDES]
        value, ratio = self.medians[row.key, SERVICE], ""
        if row.base is not None:
            value /= self.medians[row.key, row.base]
            ratio = f"{value:.2f} × {row.base}"
        goal = f"{'≤' if row.at_most else '≥'} {row.goal:g}"
        shown = ["" if each is None else f"{each:.{row.digits}f}" for each in figures]
        return [row.title, *shown, ratio, goal, "met" if row.met(value) else "missed"]
