"""A real engine with busybox on it, and what the documents' examples need beside it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.engine import images
from tests.engine.conftest import docker_client, test_images
from tests.faults.registry import PASSWORD, USER, Registry

__all__ = ["docker_client", "test_images"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def busybox(docker_client: APIClient, test_images: None) -> None:
    """The image is there by the name that the documents use; and so is curl."""
    if not docker_client.images("busybox:latest"):
        docker_client.tag(images.BUSYBOX, "busybox", "latest")
    if shutil.which("curl") is None:
        subprocess.run(["bash", "-c", ". scripts/lib.sh; apt_install curl"], cwd=ROOT, check=True)


@pytest.fixture
def registry(tmp_path: Path, docker_client: APIClient, test_images: None) -> Iterator[dict[str, str]]:
    """A registry that asks for credentials, with an image: what the documents call them, and what they are here."""
    made = Registry(tmp_path / "registry", docker_client, login=True)
    try:
        made.push("team/agent")
        yield {"registry.example.com": made.host, "puller-name": USER, "puller-password": PASSWORD}
    finally:
        made.close()
