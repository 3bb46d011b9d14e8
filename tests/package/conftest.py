"""The distributions of the working tree, built once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.examples import SOURCES
from tests.engine.conftest import docker_client, test_images

__all__ = ["docker_client", "test_images"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Distributions:
    """Where they are, and the copy of the tree that they were built from."""

    wheel: Path
    sdist: Path
    source: Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """A source distribution of the tree, and a wheel of that, as ``python -m build`` makes them."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "source", ignore=SOURCES, symlinks=True)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(folder / "source")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return Distributions(wheel, sdist, folder / "source")
