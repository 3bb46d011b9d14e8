"""The wheel and the source distribution: what is in them, and what they say of themselves."""

from __future__ import annotations

import email
import email.message
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from runtime_server._version import __version__
from tests.package.conftest import Distributions

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".conf", ".css", ".js", ".html", ".mako", ".typed", ".svg", ".json"}


def in_wheel(distributions: Distributions) -> set[str]:
    with zipfile.ZipFile(distributions.wheel) as archive:
        return set(archive.namelist())


def in_sdist(distributions: Distributions) -> set[str]:
    with tarfile.open(distributions.sdist) as archive:
        return {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}


def metadata(distributions: Distributions) -> email.message.Message:
    with zipfile.ZipFile(distributions.wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_twine_takes_them(distributions: Distributions) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", str(distributions.wheel), str(distributions.sdist)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_has_every_file_of_the_package_and_no_other(distributions: Distributions) -> None:
    package = distributions.source / "runtime_server"
    wanted = {str(each.relative_to(distributions.source)) for each in package.rglob("*") if each.is_file()}
    found = {each for each in in_wheel(distributions) if ".dist-info/" not in each}
    assert found == wanted
    others = {each for each in wanted if Path(each).suffix not in SUFFIXES}
    assert all(Path(each).name.startswith(("LICENSE", "NOTICE")) for each in others), others
    for each in (
        "py.typed",
        "store/migrations/script.py.mako",
        "store/migrations/versions/0001_first.py",
        "web/docs.css",
        "nginx/api.conf",
        "dashboard/index.html",
        "dashboard/app.js",
        "dashboard/style.css",
    ):
        assert f"runtime_server/{each}" in found


def test_the_wheel_says_what_it_is(distributions: Distributions) -> None:
    told = metadata(distributions)
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("runtime-server", __version__, "MIT")
    assert told["Requires-Python"] == ">=3.11"
    assert any(each.endswith("licenses/LICENSE") for each in in_wheel(distributions))
    assert str(told.get_payload()).startswith("# Runtime Server")
    with zipfile.ZipFile(distributions.wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("entry_points.txt"))
        assert b"runtime-server = runtime_server.cli.main:main" in archive.read(name)


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "pyproject.toml", "setup.cfg",
        "tox.ini", "constraints.txt", "scripts/test", "deploy/container/Containerfile",
        "deploy/prometheus/alerts.yml", "deploy/grafana/runtime-server.json", "docs/tutorial.md",
        "docs/reference/settings.md", "tests/unit/test_settings.py", "runtime_server/py.typed",
    ],
)  # fmt: skip
def test_the_source_distribution_has_what_a_packager_needs(distributions: Distributions, name: str) -> None:
    assert name in in_sdist(distributions)


def test_nothing_of_a_machine_is_in_them(distributions: Distributions) -> None:
    names = in_wheel(distributions) | in_sdist(distributions)
    assert not [
        each for each in names if re.search(r"\.py[co]$|__pycache__|\.db$|\.key$|(^|/)\.(git|tox|venv)/", each)
    ]


def test_constraints_name_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert "://" not in text
    assert "--" not in text


def test_the_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in text
    assert __version__ in text
