"""The summary with which CI ends: nothing that failed, or didn't run, may look like a pass."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUMMARY = Path(__file__).parents[2] / "scripts" / "summary.py"
CASES = {
    "passed": "<testcase classname='c' name='p'/>",
    "failed": "<testcase classname='c' name='f'><failure/></testcase>",
    "skipped": "<testcase classname='c' name='s'><skipped/></testcase>",
    "errors": "<testcase classname='c' name='e'><error/></testcase>",
}


def summarize(folder: Path, codes: dict[str, int], tests: dict[str, list[str]], *asked: str) -> tuple[int, str]:
    """Its exit code and its last line."""
    for name, code in codes.items():
        others: dict[str, dict[str, object]] = {other: {} for other in codes if other != name}
        found: dict[str, object] = {"testenvs": {name: {"result": {"exit_code": code}}, **others}}
        (folder / f"{name}.json").write_text(json.dumps(found))
    for name, outcomes in tests.items():
        cases = "".join(CASES[outcome] for outcome in outcomes)
        (folder / f"{name}.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    done = subprocess.run(
        [sys.executable, SUMMARY, folder, str(time.time()), *asked], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    last = done.stdout.splitlines()[-1].strip("= ")
    return done.returncode, last.rpartition(" in ")[0]


@pytest.mark.parametrize(
    ("codes", "tests", "expected"),
    [
        ({"lint": 0, "py": 0}, {"py": ["passed", "passed"]}, (0, "2 passed")),
        ({"lint": 1, "py": 0}, {"py": ["passed"]}, (1, "1 passed, 1 error")),
        ({"lint": 0, "py": 1}, {"py": ["passed", "failed"]}, (1, "1 failed, 1 passed")),
        ({"lint": 0, "py": 0}, {"py": ["passed", "skipped"]}, (1, "1 passed, 1 skipped")),
        ({"lint": 0, "py": 1}, {"py": ["errors", "errors"]}, (1, "2 errors")),
        ({"lint": 0, "py": 5}, {"py": []}, (1, "1 error")),
        ({"lint": 0, "py": 3}, {"py": ["passed"]}, (1, "1 passed, 1 error")),
        ({"lint": 0}, {}, (1, "1 error")),
        ({"py": 0}, {"py": ["passed"]}, (1, "1 passed, 1 error")),
    ],
)
def test_summary(
    codes: dict[str, int], tests: dict[str, list[str]], expected: tuple[int, str], tmp_path: Path
) -> None:
    assert summarize(tmp_path, codes, tests, "lint", "py") == expected
