"""Sum up the tox environments' test results, and end as pytest does.

Usage: summary.py RESULTS STARTED ENVIRONMENT...

RESULTS holds tox's ``--result-json`` files and each environment's junit XML; STARTED is in Unix seconds.

Exits with 1 if anything failed, or if a test was skipped: what wasn't run hasn't passed.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

LINES = 15
"""Of a message and of a trace, at most."""
NOT_TESTS = ("lint", "typing")
OUTCOMES = (("error", "errors"), ("failure", "failed"), ("skipped", "skipped"))
ORDER = ("failed", "passed", "skipped", "errors")


def read(path: Path) -> tuple[Counter[str], list[str]]:
    """How many tests ended in which way, and the names of those that didn't pass."""
    counts: Counter[str] = Counter()
    bad = []
    for case in ElementTree.parse(path).iter("testcase"):
        tags = {child.tag for child in case}
        outcome = next(
            (
                name
                for tag, name in (("error", "errors"), ("failure", "failed"), ("skipped", "skipped"))
                if tag in tags
            ),
            "passed",
        )
        counts[outcome] += 1
        if outcome != "passed":
            bad.append(f"{outcome.removesuffix('s').upper()} {case.get('classname')}::{case.get('name')}")
            bad += reason(case)
    return counts, bad


def reason(case: ElementTree.Element) -> list[str]:
    """The message, and the last lines of the trace: often all that is kept of a run."""
    found = next(child for child in case if child.tag in ("error", "failure", "skipped"))
    lines = [*(found.get("message") or "").splitlines()[:LINES], *(found.text or "").splitlines()[-LINES:]]
    return [f"    {line}" for line in lines if line.strip()]


def words(counts: Counter[str]) -> str:
    """``2 failed, 510 passed``, in pytest's order."""
    parts = []
    for name in ORDER:
        if counts[name]:
            parts.append(f"{counts[name]} {'error' if name == 'errors' and counts[name] == 1 else name}")
    return ", ".join(parts) or "no tests ran"


def exit_codes(results: Path) -> dict[str, int]:
    """With what each environment ended, as tox wrote it down."""
    return {
        name: int(environment["result"]["exit_code"])
        for path in results.glob("*.json")
        for name, environment in json.loads(path.read_text())["testenvs"].items()
        if "result" in environment  # each file names all environments, also those that it didn't run
    }


def main(results: Path, started: float, environments: list[str]) -> int:
    """Print each environment, what didn't pass, and the last line."""
    total: Counter[str] = Counter()
    codes = exit_codes(results)
    for environment in environments:
        path = results / f"{environment}.xml"
        code = codes.get(environment)
        counts, bad = read(path) if path.exists() else (Counter(), [])
        if not bad and (code != 0 or (not counts and environment not in NOT_TESTS)):
            counts["errors"] += 1
            bad.append(f"ERROR {environment} " + ("did not run" if code is None else f"exited with {code}"))
        print(f"{environment:10}", words(counts) if counts else "fine")
        for line in bad:
            print(f"  {line}")
        total += counts
    print(f" {words(total)} in {time.time() - started:.2f}s ".center(80, "="))
    return 0 if set(total) <= {"passed"} else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
