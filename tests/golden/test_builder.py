"""V0's image builder: where names lie, what exists, a build and its end."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.golden import agents
from tests.golden.conftest import Make
from tests.golden.v0 import RemoteRuntime, RemoteRuntimeBuilder
from tests.golden.wire import HTTPX, REQUESTS, GaveUp
from tests.golden.world import World

either = pytest.mark.parametrize("world", ["memory", pytest.param("docker", marks=pytest.mark.engine)], indirect=True)


@pytest.fixture(params=[HTTPX, REQUESTS], ids=["httpx", "requests"])
def builder(request: pytest.FixtureRequest, world: World) -> RemoteRuntimeBuilder:
    wire = world.wire()
    wire.library = request.param
    return RemoteRuntimeBuilder(wire)


@either
def test_an_image_is_built_and_started(builder: RemoteRuntimeBuilder, tmp_path: Path, make: Make) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {agents.AGENT}\nCOPY code /openhands/code\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "pyproject.toml").write_text("[tool.poetry]\n")
    # Three tags, as the client makes them of what it builds on, of its lock file and of its source.
    prefix, version = builder.registry_prefix(), f"oh_v0.62.0_{secrets.token_hex(8)}"
    tags = [f"{prefix}:{version}_lock_source", f"{prefix}:{version}_lock", f"{prefix}:{version}"]
    assert not any(builder.image_exists(tag) for tag in tags)

    assert builder.build(tmp_path, tags) == tags[0]
    assert all(builder.image_exists(tag) for tag in tags)

    client = make(RemoteRuntime, image=tags[0])
    client.connect()
    assert client.wire.reach(f"{client.url}/alive") == 200


@either
def test_a_build_that_fails_says_why(builder: RemoteRuntimeBuilder, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {agents.AGENT}\nCOPY missing /there\n")
    tag = f"{builder.registry_prefix()}:oh_v0.62.0_{secrets.token_hex(8)}"
    with pytest.raises(GaveUp, match="missing"):
        builder.build(tmp_path, [tag])
    assert not builder.image_exists(tag)
