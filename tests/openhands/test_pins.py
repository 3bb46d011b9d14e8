"""What these tests run with is pinned, all of it, and so is what the image was made of."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

PINS = Path(__file__).parents[2] / "constraints-openhands.txt"
BESIDE = {"pip", "runtime-server"}
"""The environment's own, and ours."""


def normalized(name: str) -> str:
    """As indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_installed_is_pinned() -> None:
    lines = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    pinned = {normalized(name): version for name, _, version in (line.partition("==") for line in lines)}
    installed = {normalized(each.name): each.version for each in distributions()}
    assert {name: installed[name] for name in installed.keys() - BESIDE} == pinned
