"""One world for all tests, twice: on the in-memory engine, and on Docker (marked ``engine``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from runtime_server.testing import in_memory_server
from tests.engine.conftest import docker_client, test_images
from tests.engine.served import serve
from tests.golden import agents
from tests.golden.world import Client, InMemory, Kind, OnDocker, World

__all__ = ["docker_client", "test_images"]

KEYS = "me:key-of-me,stranger:key-of-stranger"

_number = count()


@pytest.fixture(scope="session")
def in_memory() -> Iterator[InMemory]:
    with in_memory_server(api_keys=KEYS) as server:
        yield InMemory(server)


@pytest.fixture(scope="session")
def on_docker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDocker]:
    request.getfixturevalue("test_images")
    docker = request.getfixturevalue("docker_client")
    agents.make(docker)
    with serve(tmp_path_factory.mktemp("golden"), docker, default_cpus=0, default_memory="64m") as served:
        yield OnDocker(served)


@pytest.fixture(params=["memory", pytest.param("docker", marks=pytest.mark.engine)])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue("in_memory" if request.param == "memory" else "on_docker")
    return found


Make = Callable[..., Client]


@pytest.fixture
def make(world: World) -> Iterator[Make]:
    """Makes clients; what they started is stopped at the end."""
    made: list[Client] = []

    def make(kind: Kind, session_id: str = "", image: str = agents.AGENT, owner: str = "me") -> Client:
        made.append(kind(world.wire(owner), session_id or f"session-{next(_number)}", image))
        return made[-1]

    yield make
    for client in made:
        if client.runtime_id is not None:
            client.wire.call("POST", "/stop", {"runtime_id": client.runtime_id})
