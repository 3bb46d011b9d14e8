"""Containers of somebody else, and runtimes of another owner: neither seen nor touched, whatever a caller sends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker import APIClient

from runtime_server import errors
from runtime_server.engine import labels
from tests.engine.images import BUSYBOX
from tests.engine.served import Served, serve


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("foreign"), docker_client) as found:
        yield found


@pytest.fixture
def foreign(docker_client: APIClient) -> Iterator[dict[str, str]]:
    """A container with labels and a name like ours, of another instance."""
    name = "runtime-f0f0f0f0f0f0"
    marks = {labels.INSTANCE: "another-instance", labels.RUNTIME_ID: name, labels.NAME: "theirs", labels.OWNER: "me"}
    made = docker_client.create_container(BUSYBOX, ["/bin/sleep", "1000"], name=name, labels=marks)
    docker_client.start(made["Id"])
    yield {"id": made["Id"], "name": name, "alias": "theirs"}
    docker_client.remove_container(made["Id"], force=True)


def test_a_foreign_container(served: Served, foreign: dict[str, str], docker_client: APIClient) -> None:
    before = docker_client.inspect_container(foreign["id"])["State"]
    for name in (foreign["id"], foreign["id"][:12], foreign["name"], f"/{foreign['name']}", foreign["alias"]):
        client = served.client
        for call in (client.get_runtime, client.pause_runtime, client.resume_runtime, client.remove_runtime):
            with pytest.raises((errors.RuntimeNotFound, errors.RouteNotFound)):
                call(name)
        with pytest.raises(errors.RuntimeNotFound):
            client.stop_runtime(name, timeout=0)

    assert list(served.client.list_runtimes()) == []
    assert docker_client.inspect_container(foreign["id"])["State"] == before


def test_another_owners_runtime(served: Served) -> None:
    mine = served.start(name="shared-name")
    for name in (mine.runtime_id, "shared-name", str(mine.container_id)):
        for call in (
            served.stranger.get_runtime,
            served.stranger.pause_runtime,
            served.stranger.stop_runtime,
            served.stranger.remove_runtime,
        ):
            with pytest.raises(errors.RuntimeNotFound):
                call(name)
    theirs = served.stranger.start_runtime(
        image=BUSYBOX, command=["/bin/sleep", "1000"], network="none", name="shared-name"
    )

    assert theirs.runtime_id != mine.runtime_id
    assert [each.runtime_id for each in served.client.list_runtimes()] == [mine.runtime_id]
    assert served.client.get_runtime("shared-name").runtime_id == mine.runtime_id
    assert served.stranger.get_runtime("shared-name").runtime_id == theirs.runtime_id


def test_reserved_labels(served: Served) -> None:
    with pytest.raises(errors.ValidationFailed):
        served.start(labels={labels.OWNER: "stranger"})
