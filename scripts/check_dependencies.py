"""Check the dependency tree: all of it pinned in constraints.txt, nothing yanked, no known advisory.

pip itself resolves the package with all its extras, as tox would install it, from the index it is configured for.
Exits with 1 where a distribution is unpinned, pinned to another version than what comes out, or yanked, or where
pip-audit knows of an advisory. pip-audit runs where it is installed and reaches its source; where not, that is said.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#]+)")


def normalized(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """The constraints' versions by name.

    Raises:
        ValueError: a line pins nothing.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        kept = line.partition("#")[0].strip()
        if not kept:
            continue
        match = _PIN.fullmatch(kept.partition(";")[0].strip())
        if match is None:
            raise ValueError(f"{CONSTRAINTS.name}, line {number}: not name==version")
        found[normalized(match[1])] = match[2]
    return found


def problems(report: Mapping[str, Any], pinned: Mapping[str, str], own: str) -> list[str]:
    """What is wrong with what pip would install (its installation report, version 1)."""
    found = []
    for each in report["install"]:
        name, version = normalized(each["metadata"]["name"]), each["metadata"]["version"]
        if name == normalized(own):
            continue
        if name not in pinned:
            found.append(f"{name} {version} is not pinned in {CONSTRAINTS.name}")
        elif pinned[name] != version:
            found.append(f"{name} is pinned to {pinned[name]}, and {version} comes out")
        if each.get("is_yanked"):
            found.append(f"{name} {version} has been yanked")
    if not all("is_yanked" in each for each in report["install"]):
        found.append("this pip is too old to tell what has been yanked: its reports do since 23.3")
    return found


def resolve(requirements: Iterable[str]) -> dict[str, Any]:
    """pip's report of what it would install into an empty environment.

    Raises:
        RuntimeError: it can't; its last lines are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
        command += ["--ignore-installed", "--report", str(path), "-c", str(CONSTRAINTS), *requirements]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-2000:])
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report


def audit() -> tuple[bool, str]:
    """Whether the pinned versions are without known advisories, and a sentence on it."""
    if importlib.util.find_spec("pip_audit") is None:
        return True, "Advisories: not checked, pip-audit isn't installed."
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"]
    command += ["--disable-pip", "--no-deps", "--timeout", "5", "-r", str(CONSTRAINTS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        entries = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return True, "Advisories: not checked, pip-audit reaches no source from here."
    known = [f"{each['name']} {each['version']}: {bad['id']}" for each in entries for bad in each.get("vulns", ())]
    return not known, "Advisories: " + ("; ".join(known) or "none known.")


def main() -> int:
    """Check, tell, and return the exit status."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ",".join(project["optional-dependencies"])
    try:
        pinned = pins(CONSTRAINTS.read_text(encoding="utf-8"))
        report = resolve([f".[{extras}]"])
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    wrong = problems(report, pinned, project["name"])
    clean, told = audit()
    state = "not as they should be" if wrong else "all pinned, none yanked"
    print(f"Dependencies: {len(report['install']) - 1}, {state}.")
    print(told)
    for each in wrong:
        print(each, file=sys.stderr)
    return 0 if clean and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
