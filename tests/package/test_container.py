"""The container image, built on a base of the test's own, and run as a user without rights."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import APIClient

from runtime_server import RuntimeServerClient
from runtime_server.engine import labels
from runtime_server.engine.discovery import socket_path
from tests.engine.images import BUSYBOX
from tests.faults.server import DEADLINE, ROOT, eventually, free_port
from tests.package.conftest import Distributions

BASE = "runtime-server-test/debian:trixie"
IMAGE = "runtime-server-test/packaged-server:latest"
PYTHON = "3.13"
"""Debian trixie's."""
USER = 10001
KEY = "key-of-the-container"

pytestmark = pytest.mark.engine


def run(*command: str | Path, **more: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def nameless(docker_client: APIClient) -> set[str]:
    return {each["Id"] for each in docker_client.images(filters={"dangling": True})}


@pytest.fixture(scope="session")
def base() -> str:
    """Debian with Python, made without a registry; it stays on the engine, for the engine's tests have it too."""
    run(ROOT / "scripts/test-images", "debian")
    return BASE


@pytest.fixture(scope="session")
def image(
    docker_client: APIClient, base: str, distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The image, from the source distribution; its dependencies come as wheels, since a build has no index here."""
    context = tmp_path_factory.mktemp("context")
    with tarfile.open(distributions.sdist) as archive:
        archive.extractall(context, filter="data")
    (source,) = context.iterdir()
    requirements = ["setuptools>=77", str(distributions.wheel)]
    fetch = [sys.executable, "-m", "pip", "download", "-q", "-d", str(source / "wheels"), "--only-binary=:all:"]
    run(*fetch, "--python-version", PYTHON, "-c", str(ROOT / "constraints.txt"), *requirements)
    arguments = {"BASE": base, "PIP_ARGS": "--no-index --find-links=/src/wheels"}
    flags = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    before = nameless(docker_client)
    run("docker", "build", "-t", IMAGE, "-f", source / "deploy/container/Containerfile", *flags, source)
    # Without BuildKit the first stage stays as an image of its own.
    stages = nameless(docker_client) - before
    yield IMAGE
    for each in (IMAGE, *stages):
        with contextlib.suppress(Exception):
            docker_client.remove_image(each, force=True)


@pytest.fixture
def container(docker_client: APIClient, image: str, test_images: None) -> Iterator[tuple[str, str]]:
    """A container of the image, as the how-to starts it, and its address."""
    socket = socket_path()
    assert socket is not None, "this test needs an engine on a Unix socket"
    port, name = free_port(), f"runtime-server-test-{secrets.token_hex(4)}"
    settings = {"PORT": port, "HOST": "127.0.0.1", "FIREWALL": "off", "API_KEYS": f"ops+admin:{KEY}"}
    run(
        *("docker", "run", "-d", "--name", name, "--network", "host", "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--tmpfs", "/tmp", "-v", f"{name}:/var/lib/runtime-server"),
        *("--user", f"{USER}:{USER}", "--group-add", str(os.stat(socket).st_gid)),
        *("-v", f"{socket}:/var/run/docker.sock"),
        *(f"--env=RUNTIME_SERVER_{key}={value}" for key, value in settings.items()),
        image,
    )
    try:
        yield name, f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(AssertionError):
            run("docker", "exec", name, "runtime-server", "purge", "--yes")
        run("docker", "rm", "-f", "-v", name)
        run("docker", "volume", "rm", "-f", name)


def test_it_serves_as_a_user_without_rights(docker_client: APIClient, container: tuple[str, str]) -> None:
    name, url = container

    def ready() -> bool:
        state = docker_client.inspect_container(name)["State"]
        assert state["Running"], docker_client.logs(name).decode()[-4000:]
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{url}/readyz", timeout=10).status_code == 200
        return False

    eventually(ready, "the server in the container is ready")
    assert docker_client.inspect_container(name)["Config"]["User"] == f"{USER}:{USER}"
    processes = docker_client.top(name, "-eo pid,uid,args")["Processes"]
    assert len(processes) >= 3
    assert {each[1] for each in processes} == {str(USER)}
    with RuntimeServerClient(url, api_key=KEY) as client:
        runtime = client.start_runtime(image=BUSYBOX, command=["/bin/sleep", "1000"], network="none")
        config = docker_client.inspect_container(runtime.runtime_id)["Config"]
        assert config["Labels"][labels.OWNER] == "ops"
        assert client.pause_runtime(runtime.runtime_id).changed
        assert client.remove_runtime(runtime.runtime_id).status == "removed"
    metrics = requests.get(f"{url}/metrics", headers={"X-API-Key": KEY}, timeout=DEADLINE).text
    assert 'runtime_server_starts_total{outcome="ok"} 1.0' in metrics
    eventually(
        lambda: docker_client.inspect_container(name)["State"]["Health"]["Status"] == "healthy", "it is healthy"
    )
    docker_client.stop(name, timeout=60)
    assert docker_client.inspect_container(name)["State"]["ExitCode"] == 0


def test_the_image_runs_as_nobody_in_particular_by_default(image: str) -> None:
    assert run("docker", "image", "inspect", "-f", "{{.Config.User}} {{.Config.Entrypoint}}", image).split() == [
        f"{USER}:{USER}",
        "[/opt/runtime-server/bin/runtime-server]",
    ]
    assert "runtime-server" in run("docker", "run", "--rm", "--network", "none", image, "--version")
