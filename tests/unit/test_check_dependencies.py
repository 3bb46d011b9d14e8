"""The check of the dependency tree, on pip's report as data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "scripts" / "check_dependencies.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("check_dependencies", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load()


def entry(name: str, version: str, *, yanked: bool = False) -> dict[str, Any]:
    return {"metadata": {"name": name, "version": version}, "is_yanked": yanked}


def test_what_is_unpinned_otherwise_pinned_or_yanked_is_told() -> None:
    report = {
        "install": [
            entry("Good_One", "1.0"),
            entry("loose", "2"),
            entry("other", "3"),
            entry("gone", "4", yanked=True),
            entry("runtime-server", "0"),
        ]
    }
    pinned = check.pins("# a comment\ngood.one==1.0  # why\nother==2\ngone==4; python_version > '3'\n\n")
    assert check.problems(report, pinned, "runtime_server") == [
        "loose 2 is not pinned in constraints.txt",
        "other is pinned to 2, and 3 comes out",
        "gone 4 has been yanked",
    ]


def test_a_pip_that_doesnt_tell_what_was_yanked_is_no_witness() -> None:
    report = {"install": [{"metadata": {"name": "good", "version": "1"}}]}
    told = check.problems(report, {"good": "1"}, "runtime_server")
    assert len(told) == 1
    assert "too old" in told[0]


@pytest.mark.parametrize("line", ["a", "a>=1", "a~=1", "-r more.txt", "a @ file:///x"])
def test_a_constraint_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        check.pins(f"b==1\n{line}\n")


def test_the_constraints_are_pins() -> None:
    assert check.pins(check.CONSTRAINTS.read_text(encoding="utf-8"))
