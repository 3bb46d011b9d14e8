"""Images, volumes and pruning on the real engine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from docker import APIClient

from runtime_server.errors import AdminOnly, ImageInUse, ImageNotFound, ImagePullFailed, VolumeInUse, VolumeNotFound
from tests.engine.served import Served, eventually, serve
from tests.faults.registry import LAYER, PASSWORD, USER, Registry

KEYS = "me+admin:key-of-me,stranger:key-of-stranger"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("stock"), docker_client, api_keys=KEYS) as found:
        yield found
        for volume in found.client.list_volumes():
            docker_client.remove_volume(volume.volume, force=True)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient) -> Iterator[Registry]:
    found = Registry(tmp_path_factory.mktemp("registry") / "data", docker_client, login=True)
    try:
        yield found
    finally:
        found.close()


def test_an_image_is_pulled_with_progress_listed_and_deleted(served: Served, registry: Registry) -> None:
    image = registry.push("stock")
    login = {"username": USER, "password": PASSWORD}
    registry.gate.allow(LAYER / 2)
    found = []
    with served.client.pull_image(image, registry_auth=login) as pull:
        for status in pull:
            found.append(status)
            if status.current_bytes:
                registry.gate.allow(float("inf"))
    last = found[-1]
    assert (last.status, last.image, last.layer) == ("complete", image, None)
    assert last.size_bytes
    assert last.size_bytes > LAYER
    layers = [each for each in found if each.layer and each.detail == "Downloading"]
    assert layers
    # What is random can't be compressed; busybox beside it can.
    assert all(LAYER < (each.total_bytes or 0) < 3 * LAYER for each in layers)
    sizes = [each.current_bytes or 0 for each in layers]
    assert all(a <= b for a, b in pairwise(sizes))
    assert any("layers" in (each.detail or "") for each in found if each.layer is None)

    (listed,) = [each for each in served.client.list_images() if image in each.references]
    assert listed.size_bytes == last.size_bytes
    runtime = served.start(image=image).runtime_id
    with pytest.raises(ImageInUse):
        served.client.delete_image(image)
    with pytest.raises(AdminOnly):
        served.stranger.delete_image(image)
    served.client.remove_runtime(runtime)
    assert served.client.delete_image(image).changed
    assert not served.client.delete_image(image).changed
    assert image not in {name for each in served.client.list_images() for name in each.references}


def test_pulls_that_fail(served: Served, registry: Registry) -> None:
    login = {"username": USER, "password": PASSWORD}
    with pytest.raises(ImageNotFound):
        served.client.pull_image(f"{registry.host}/none:1", registry_auth=login).wait()
    with pytest.raises(ImagePullFailed):
        served.client.pull_image(f"{registry.host}/none:1").wait()


def test_a_pull_that_is_left_ends(served: Served, registry: Registry) -> None:
    image = registry.push("left")
    registry.gate.allow(LAYER / 2)
    login = {"username": USER, "password": PASSWORD}
    with served.client.pull_image(image, registry_auth=login) as pull:
        next(each for each in pull if each.current_bytes)
    registry.gate.allow(float("inf"))
    images = served.service.inside.images
    eventually(lambda: images._lane._places._value == served.service.settings.streams, "its thread is free")


def test_volumes_are_listed_with_sizes_and_deleted(served: Served) -> None:
    name = f"cache-{secrets.token_hex(4)}"
    mount = [{"host_path": name, "container_path": "/cache"}]
    runtime = served.start("echo 0123456789 > /cache/x; echo done; sleep 1000", volumes=mount).runtime_id
    served.lines(runtime, 1)
    (found,) = [each for each in served.client.list_volumes() if each.name == name]
    assert (found.owner, found.in_use_by, found.size_bytes) == ("me", [runtime], None)
    (sized,) = [each for each in served.client.list_volumes(sizes=True, owner="me") if each.name == name]
    assert sized.size_bytes
    assert name not in {each.name for each in served.stranger.list_volumes()}
    with pytest.raises(VolumeInUse) as caught:
        served.client.delete_volume(name)
    assert caught.value.extensions["runtime_ids"] == [runtime]
    with pytest.raises(VolumeNotFound):
        served.stranger.delete_volume(name)
    served.client.remove_runtime(runtime)
    assert served.client.delete_volume(name).changed
    with pytest.raises(VolumeNotFound):
        served.client.delete_volume(name)


def test_pruning_tells_first_and_spares_others(tmp_path: Path, docker_client: APIClient, test_images: None) -> None:
    with serve(tmp_path, docker_client, api_keys=KEYS) as served:
        running, stopped = served.start().runtime_id, served.start(workspace="/workspace", name="kept").runtime_id
        served.client.stop_runtime(stopped, timeout=0)
        theirs = served.stranger.start_runtime(
            {"image": served.client.get_runtime(running).image, "command": ["/bin/true"], "network": "none"}
        ).runtime_id
        eventually(lambda: served.stranger.get_runtime(theirs).status == "stopped", "it has ended")

        assert served.stranger.prune(dry_run=True).runtimes == [theirs]
        with pytest.raises(AdminOnly):
            served.stranger.prune(owner="me")
        with pytest.raises(AdminOnly):
            served.stranger.prune(build_cache=True)
        assert served.client.prune(dry_run=True, older_than=3600).runtimes == []
        dry = served.client.prune(dry_run=True, owner="me", build_cache=False)
        assert (dry.dry_run, dry.runtimes) == (True, [stopped])
        assert served.client.get_runtime(stopped).status == "stopped"

        real = served.client.prune(owner="me")
        assert (real.runtimes, real.failed, real.more) == ([stopped], [], False)
        assert served.client.get_runtime(stopped).status == "removed"
        assert {each["Id"] for each in served.containers()} == {
            served.inspect(each)["Id"] for each in (running, theirs)
        }
        workspace = served.client.prune(dry_run=True, workspaces_unused_for=0).workspaces
        assert len(workspace) == 1
        assert served.client.prune(workspaces_unused_for=0, runtimes=False).workspaces == workspace
        assert served.client.list_workspaces() == []
        assert set(served.client.prune(runtimes=True).runtimes) == {theirs}
        cache = served.client.prune(dry_run=True, build_cache=True).build_cache_bytes
        assert cache is not None
        assert cache >= 0
