"""A live server, and the OpenHands client on it. Their packages are imported late: other environments lack them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from docker import APIClient

from tests.faults.server import Server, Site, connect

if TYPE_CHECKING:
    from openhands.workspace import APIRemoteWorkspace

IMAGE = "runtime-server-test/openhands:latest"


@pytest.fixture(scope="session")
def docker() -> Iterator[APIClient]:
    with contextlib.closing(connect()) as client:
        if not client.images(IMAGE):
            pytest.fail(f"the engine has no {IMAGE}: run scripts/test-images openhands")
        yield client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, docker: APIClient) -> Iterator[Site]:
    """A state directory of its own; its servers and containers are gone afterwards."""
    made = Site(tmp_path_factory.mktemp("openhands"), docker)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def server(site: Site) -> Server:
    """As docs/openhands.md has it: sudo works, and a session's workspace is kept."""
    return site.start(env={"RUNTIME_SERVER_NO_NEW_PRIVILEGES": "false", "RUNTIME_SERVER_WORKSPACE": "/workspace"})


Connect = Callable[..., "APIRemoteWorkspace"]


@pytest.fixture(scope="module")
def connect_to(site: Site) -> Iterator[Connect]:
    """Makes clients of a server, as their users do; what they hold is given up at the end."""
    from openhands.workspace import APIRemoteWorkspace

    made: list[APIRemoteWorkspace] = []

    def connect(server: Server, session_id: str, **options: Any) -> APIRemoteWorkspace:
        options = {"server_image": IMAGE, "keep_alive": True, "working_dir": "/workspace/project", **options}
        made.append(
            APIRemoteWorkspace(
                runtime_api_url=server.base_url, runtime_api_key=site.key, session_id=session_id, **options
            )
        )
        return made[-1]

    yield connect
    for each in made:
        each.cleanup()
