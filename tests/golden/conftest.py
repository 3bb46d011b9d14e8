"""The worlds that tests work in: the in-memory engine, and Docker (marked ``engine``)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest

from runtime_server.testing import in_memory_server
from tests.engine.conftest import docker_client, test_images
from tests.engine.served import serve
from tests.golden import agents
from tests.golden.world import Client, InMemory, Kind, OnDocker, World

__all__ = ["docker_client", "test_images"]

KEYS = "me:key-of-me,stranger:key-of-stranger"
PREFIX = f"runtime-server-test/golden-{secrets.token_hex(4)}"
"""Where this run's built images lie."""

_number = count()


@pytest.fixture(scope="session")
def in_memory() -> Iterator[InMemory]:
    with in_memory_server(api_keys=KEYS, registry_prefix=PREFIX) as server:
        yield InMemory(server)


@pytest.fixture(scope="session")
def on_docker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDocker]:
    request.getfixturevalue("test_images")
    docker = request.getfixturevalue("docker_client")
    agents.make(docker)
    with serve(
        tmp_path_factory.mktemp("golden"), docker, default_cpus=0, default_memory="64m", registry_prefix=PREFIX
    ) as served:
        yield OnDocker(served)
    for image in docker.images(filters={"reference": f"{PREFIX}/*/*"}):
        docker.remove_image(image["Id"], force=True)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """In memory, unless a test asks for ``docker``."""
    asked = getattr(request, "param", "memory")
    found: World = request.getfixturevalue("on_docker" if asked == "docker" else "in_memory")
    return found


def clients(memory: Sequence[Kind], docker: Sequence[Kind] = ()) -> pytest.MarkDecorator:
    """A test's ``kind`` and ``world``: these in memory, those on Docker."""
    cases = [pytest.param(kind, "memory", id=kind.version) for kind in memory]
    cases += [
        pytest.param(kind, "docker", id=f"{kind.version} on docker", marks=pytest.mark.engine) for kind in docker
    ]
    return pytest.mark.parametrize(("kind", "world"), cases, indirect=["world"])


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
