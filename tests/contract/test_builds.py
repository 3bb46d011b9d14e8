"""The client's calls for images, over the whole service in memory."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import requests

from runtime_server import (
    BodyTooLarge,
    BuildContextInvalid,
    BuildFailed,
    BuildNotFound,
    BuildState,
    DeadlineExceeded,
    ImageReferenceInvalid,
    PolicyRefused,
    RetryPolicy,
    RuntimeServerClient,
)
from runtime_server.testing import TEST_URL, InMemoryServer, in_memory_server
from tests.contract.conftest import FaultyAdapter

PREFIX = "registry.test/sandboxes"


@pytest.fixture(scope="module")
def server() -> Iterator[InMemoryServer]:
    with in_memory_server(registry_prefix=PREFIX, max_build_context="100k", max_build_unpacked="1m") as server:
        yield server


@pytest.fixture
def client(server: InMemoryServer) -> RuntimeServerClient:
    return server.client(retry=RetryPolicy(max_attempts=1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "context"
    (made / "src").mkdir(parents=True)
    (made / "Dockerfile").write_text("FROM busybox\nCOPY src /srv\nEXPOSE 8000\n")
    (made / "src" / "file").write_text("x")
    return made


def tar(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        made.add(folder, arcname=".")
    return out.getvalue()


def test_a_folder_becomes_an_image_that_can_be_started(client: RuntimeServerClient, folder: Path) -> None:
    prefix = client.registry_prefix()
    image, other = f"{prefix}/agent:1", f"{prefix}/agent:latest"
    assert prefix == f"{PREFIX}/default"
    assert not client.image_exists(image)
    build = client.build_image(folder, image, [f"{prefix}/agent"])
    done = client.wait_for_build(build.build_id, timeout=60)
    assert (done.status, done.image, done.tags, done.error) == (BuildState.SUCCESS, image, [other], None)
    found = client.image_exists(other)
    assert found
    assert found.image is not None
    assert found.image.image_size_bytes > 0
    assert "COPY src /srv" in client.build_log(build.build_id)
    assert "8000/tcp" in client.start_runtime(image=image).ports


@pytest.mark.parametrize("kind", ["folder", "path", "tar", "gzip", "gzip file", "tar file"])
def test_a_context_is_given_in_many_ways(client: RuntimeServerClient, folder: Path, kind: str) -> None:
    plain = tar(folder)
    (folder.parent / "tar").write_bytes(plain)
    (folder.parent / "gzip").write_bytes(gzip.compress(plain))
    context: Any = {
        "folder": folder,
        "path": str(folder),
        "tar": plain,
        "gzip": gzip.compress(plain),
        "tar file": folder.parent / "tar",
        "gzip file": folder.parent / "gzip",
    }[kind]
    build = client.build_image(context, f"{PREFIX}/default/agent")
    assert client.wait_for_build(build.build_id, timeout=60).image == f"{PREFIX}/default/agent:latest"


def test_a_build_that_fails(client: RuntimeServerClient, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN exit 3\n")
    build = client.build_image(folder, f"{PREFIX}/default/agent")
    with pytest.raises(BuildFailed, match="exit 3") as failed:
        client.wait_for_build(build.build_id, timeout=60)
    assert (failed.value.build_id, failed.value.status) == (build.build_id, "FAILURE")
    assert client.build_status(build.build_id).error == str(failed.value)


def test_a_build_that_takes_long_is_cancelled(client: RuntimeServerClient, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN sleep 1000\n")
    build = client.build_image(folder, f"{PREFIX}/default/agent")
    with pytest.raises(DeadlineExceeded):
        client.wait_for_build(build.build_id, timeout=0.1)
    assert client.cancel_build(build.build_id).status is BuildState.CANCELLED
    with pytest.raises(BuildFailed, match="cancelled"):
        client.wait_for_build(build.build_id)


def test_what_is_refused(client: RuntimeServerClient, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused) as refused:
        client.build_image(folder, "busybox")
    assert refused.value.extensions["setting"] == "RUNTIME_SERVER_REGISTRY_PREFIX"
    for call in (lambda: client.build_image(folder, f"{PREFIX}/default/a b"), lambda: client.image_exists("/a:1")):
        with pytest.raises(ImageReferenceInvalid):
            call()
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(BuildContextInvalid) as outside:
        client.build_image(folder, f"{PREFIX}/default/agent")
    assert outside.value.extensions["member"] == "link"
    (folder / "link").unlink()
    (folder / "zeros").write_bytes(bytes(2_000_000))
    with pytest.raises(BuildContextInvalid, match="MAX_BUILD_UNPACKED"):
        client.build_image(folder, f"{PREFIX}/default/agent")
    with pytest.raises(BodyTooLarge):
        client.build_image(b"\x1f\x8b" + bytes(200_000), f"{PREFIX}/default/agent")
    with pytest.raises(OSError, match="none"):
        client.build_image(tmp_path / "none", f"{PREFIX}/default/agent")


@pytest.mark.parametrize("build_id", ["build-000000000000", "", ".."])
def test_a_build_that_is_not_there(client: RuntimeServerClient, build_id: str) -> None:
    for call in (client.build_log, client.cancel_build):
        with pytest.raises(BuildNotFound):
            call(build_id)


def test_without_a_prefix(folder: Path) -> None:
    with in_memory_server() as server, server.client() as client:
        for call in (client.registry_prefix, lambda: client.build_image(folder, "a/b")):
            with pytest.raises(PolicyRefused) as refused:
                call()
            assert refused.value.extensions["setting"] == "RUNTIME_SERVER_REGISTRY_PREFIX"
        assert client.image_exists("busybox")


def test_a_lossy_network_makes_one_build(server: InMemoryServer, folder: Path) -> None:
    before = {each.stem for each in (server.settings.state_dir / "builds").glob("*.log")}
    with requests.Session() as session:
        client = server.client(session=session, retry=RetryPolicy(backoff_base=0.0))
        adapter = FaultyAdapter(server, cycle(["cut", "lost", "ok"]))
        session.mount(TEST_URL, adapter)
        build = client.build_image(folder, f"{PREFIX}/default/agent")
        assert client.wait_for_build(build.build_id, timeout=60).status is BuildState.SUCCESS
    assert adapter.faults >= 2
    logs = {each.stem for each in (server.settings.state_dir / "builds").glob("*.log")}
    assert logs - before == {build.build_id}
