"""The real engine: where there is none, these tests fail. ``scripts/engine`` makes sure that there is one."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from runtime_server.engine import labels
from runtime_server.engine.base import ContainerMissing, RuntimeSpec
from runtime_server.engine.discovery import discover
from runtime_server.engine.docker import DockerEngine
from tests.engine import images
from tests.faults.server import Site

Specs = Callable[..., RuntimeSpec]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def docker_client() -> Iterator[APIClient]:
    """docker-py's own client, to look at the engine past the code under test."""
    endpoint = discover()
    with contextlib.closing(
        APIClient(base_url=endpoint.address, tls=endpoint.tls or False, version="auto")
    ) as client:
        yield client


@pytest.fixture(scope="session")
def test_images(docker_client: APIClient) -> None:
    """The images of ``tests.engine.images`` are on the engine."""
    images.make(docker_client)


@pytest.fixture
def site(tmp_path: Path, docker_client: APIClient, test_images: None) -> Iterator[Site]:
    """A state directory of its own; its servers and containers are gone afterwards."""
    made = Site(tmp_path, docker_client)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def docker_engine(test_images: None) -> Iterator[DockerEngine]:
    """An engine of an instance of its own, whose containers are removed at the end."""
    engine = DockerEngine(f"test-{secrets.token_hex(6)}")
    try:
        yield engine
    finally:
        for each in engine.list():
            with contextlib.suppress(ContainerMissing):
                engine.remove(each.container_id)
        engine.close()


@pytest.fixture
def spec(docker_engine: DockerEngine) -> Specs:
    """Makes specifications of that instance's runtimes: by default one that sleeps and heeds TERM."""

    def make(**changes: Any) -> RuntimeSpec:
        runtime_id = f"runtime-{secrets.token_hex(6)}"
        own = {labels.INSTANCE: docker_engine.instance, labels.RUNTIME_ID: runtime_id}
        return RuntimeSpec(
            **{
                "runtime_id": runtime_id,
                "image": images.BUSYBOX,
                "command": ("/bin/sleep", "1000"),
                "labels": own,
                "network": "none",
                **changes,
            }
        )

    return make
