"""Image builds by the real command on the real engine."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import APIClient
from docker.errors import APIError

from runtime_server import BodyTooLarge, BuildContextInvalid, BuildFailed, BuildState, BuildStatus
from runtime_server.builds import runs
from runtime_server.engine import labels
from runtime_server.testing import WsgiAdapter
from tests.engine.images import BUSYBOX
from tests.engine.served import Served, eventually, serve
from tests.faults.registry import PASSWORD, USER, Registry
from tests.forms import archive

PREFIX = f"runtime-server-test/built-{secrets.token_hex(4)}"
Serve = Callable[..., Served]


@pytest.fixture
def served(tmp_path: Path, docker_client: APIClient, test_images: None) -> Iterator[Serve]:
    """Makes services; at the end they are gone with all images that they built."""
    with contextlib.ExitStack() as stack:
        instances: list[str] = []

        def make(**settings: Any) -> Served:
            folder = tmp_path / f"service-{len(instances)}"
            folder.mkdir()
            found = stack.enter_context(serve(folder, docker_client, **{"registry_prefix": PREFIX, **settings}))
            instances.append(found.service.state.instance)
            return found

        try:
            yield make
        finally:
            stack.close()
            for instance in instances:
                label = f"{runs.LABELS}instance={instance}"
                for image in docker_client.images(filters={"label": label}):
                    with contextlib.suppress(APIError):
                        docker_client.remove_image(image["Id"], force=True)


def dockerfile(*lines: str) -> bytes:
    """A context with a Dockerfile that begins FROM the tests' image. No two are alike: nothing comes from a cache."""
    once = f"ENV ONCE={secrets.token_hex(8)}"
    return archive({"Dockerfile": "\n".join([f"FROM {BUSYBOX}", once, *lines, ""]), "content": "from the context\n"})


def build(found: Served, context: bytes, *names: str) -> BuildStatus:
    """Build it under these names, and wait for its end."""
    prefix = found.client.registry_prefix()
    image, *tags = [f"{prefix}/{name}" for name in names or ("agent:1",)]
    build_id = found.client.build_image(context, image, tags).build_id
    return ended(found, build_id)


def ended(found: Served, build_id: str) -> BuildStatus:
    def look() -> BuildStatus | None:
        status = found.client.build_status(build_id)
        return status if status.status.final else None

    return eventually(look, "the build ends")


def test_an_image_with_a_cache_mount_and_two_names(served: Serve, docker_client: APIClient) -> None:
    found = served()
    prefix = found.client.registry_prefix()
    assert prefix == f"{PREFIX}/me"
    assert not found.client.image_exists(f"{prefix}/agent:1")
    mount = f"RUN --mount=type=cache,target=/cache,id={secrets.token_hex(8)}"
    done = build(
        found,
        dockerfile(f"{mount} echo kept >/cache/kept", f"{mount} cat /cache/kept >/srv/kept", "COPY content /srv/"),
        "agent:1",
        "agent:2",
    )
    assert (done.status, done.error) == (BuildState.SUCCESS, None)
    assert (done.image, done.tags) == (f"{prefix}/agent:1", [f"{prefix}/agent:2"])
    for image in (done.image, *done.tags):
        facts = found.client.image_exists(image)
        assert facts
        assert facts.image is not None
        assert facts.image.upload_time is not None
        assert facts.image.image_size_bytes > 1_000_000
        assert not found.stranger.image_exists(image)
    runtime = found.start("cat /srv/kept /srv/content; sleep 1000", image=done.image)
    assert found.lines(runtime.runtime_id, 2) == ["kept", "from the context"]
    attributes = docker_client.inspect_image(done.image)  # type: ignore[no-untyped-call]
    assert attributes["Config"]["Labels"][f"{runs.LABELS}owner"] == "me"
    assert "naming to" in found.client.build_log(done.build_id)
    assert list(found.service.state.builds.glob("*.context")) == []


def test_one_image_is_the_base_of_the_next(served: Serve) -> None:
    found = served()
    first = build(found, dockerfile("RUN echo first >/srv/first"), "base:1")
    assert first.status is BuildState.SUCCESS
    second = build(found, archive({"Dockerfile": f"FROM {first.image}\nRUN cat /srv/first\n"}), "agent:1")
    assert second.status is BuildState.SUCCESS


def test_an_image_claims_no_instance(served: Serve, docker_client: APIClient) -> None:
    found = served()
    done = build(found, dockerfile(f"LABEL {labels.INSTANCE}={found.service.state.instance}"))
    attributes = docker_client.inspect_image(done.image)  # type: ignore[no-untyped-call]
    assert attributes["Config"]["Labels"][labels.INSTANCE] == ""


def test_a_build_that_fails_says_why(served: Serve) -> None:
    found = served()
    done = build(found, dockerfile("RUN echo what-went-wrong; exit 3"))
    assert done.status is BuildState.FAILURE
    assert done.error is not None
    assert "what-went-wrong" in done.error
    assert not found.client.image_exists(done.image)
    with pytest.raises(BuildFailed, match="what-went-wrong"):
        found.client.wait_for_build(done.build_id)
    for wrong in ("NONSENSE", "COPY missing /srv/", "RUN --mount=type=nothing true"):
        assert build(found, dockerfile(wrong)).status is BuildState.FAILURE


def test_a_hostile_context_reaches_no_engine(served: Serve, tmp_path: Path) -> None:
    found = served()
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY . /srv/\n")
    (folder / "secret").symlink_to("/etc/shadow")
    with pytest.raises(BuildContextInvalid) as refused:
        found.client.build_image(folder, f"{found.client.registry_prefix()}/agent:1")
    assert refused.value.extensions["member"] == "secret"
    assert list(found.service.state.builds.iterdir()) == []


def test_time_is_up_and_the_engine_stops_too(served: Serve) -> None:
    found = served(build_timeout=3.0)
    mark = str(10**7 + secrets.randbelow(10**7))
    done = build(found, dockerfile(f"RUN echo begun; sleep {mark}"))
    assert done.status is BuildState.TIMEOUT
    assert done.error is not None
    assert done.error.startswith("The build took longer than 3 s.")
    eventually(lambda: not _processes(mark), "the engine has ended the step")


def _processes(mark: str) -> list[str]:
    """Command lines on this host that hold the mark: those of build steps are among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return [each for each in found if mark in each]


def test_a_running_build_is_cancelled(served: Serve) -> None:
    found = served()
    mark = str(10**7 + secrets.randbelow(10**7))
    context = dockerfile(f"RUN echo begun; sleep {mark}")
    build_id = found.client.build_image(context, f"{found.client.registry_prefix()}/agent:1").build_id
    eventually(lambda: _processes(mark), "the step runs")
    assert found.client.cancel_build(build_id).status is BuildState.CANCELLED
    eventually(lambda: not _processes(mark), "the engine has ended the step")
    assert found.client.build_status(build_id).status is BuildState.CANCELLED


INTERFACES = "RUN while read name rest; do case $name in eth*) exit 9;; esac; done </proc/net/dev"


def test_what_is_too_large_is_never_built(served: Serve) -> None:
    found = served(max_build_context="20k", max_build_unpacked="1m")
    image = f"{found.client.registry_prefix()}/agent:1"
    with pytest.raises(BodyTooLarge) as refused:
        found.client.build_image(b"\x1f\x8b" + secrets.token_bytes(30_000), image)
    assert refused.value.extensions["limit"] == 20 * 1024
    bomb = archive({"Dockerfile": f"FROM {BUSYBOX}\nCOPY zeros /srv/\n", "zeros": "\0" * 2_000_000})
    assert len(bomb) < 20_000
    with pytest.raises(BuildContextInvalid, match="MAX_BUILD_UNPACKED"):
        found.client.build_image(bomb, image)
    assert list(found.service.state.builds.iterdir()) == []
    assert build(found, dockerfile()).status is BuildState.SUCCESS


@pytest.mark.parametrize("settings", [{"build_network": "none"}, {"egress": "none"}], ids=["network", "egress"])
def test_without_a_network_a_step_has_loopback_only(served: Serve, settings: dict[str, str]) -> None:
    assert build(served(**settings), dockerfile(INTERFACES)).status is BuildState.SUCCESS


def test_with_a_network_a_step_has_one(served: Serve) -> None:
    done = build(served(), dockerfile(INTERFACES))
    assert done.error is not None
    assert "exit code: 9" in done.error


def test_builds_queue_and_beyond_that_are_refused(served: Serve) -> None:
    found = served(max_builds=1, max_queued_builds=1)
    mark = str(10**7 + secrets.randbelow(10**7))
    session = requests.Session()
    session.mount("http://", WsgiAdapter(found.service.app))
    session.headers["X-API-Key"] = "key-of-me"
    image = session.get("http://testserver/registry_prefix").json()["registry_prefix"] + "/runtime:tag"

    def send(context: bytes) -> requests.Response:
        """As OpenHands' RemoteRuntimeBuilder does."""
        text = base64.b64encode(context).decode()
        files = [
            ("context", ("context.tar.gz", text)),
            ("target_image", (None, image)),
            ("tags", (None, f"{image}2")),
        ]
        return session.post("http://testserver/build", files=files, timeout=30)

    def status(build_id: str) -> dict[str, Any]:
        answer = session.get("http://testserver/build_status", params={"build_id": build_id})
        assert answer.status_code == 200
        told: dict[str, Any] = answer.json()
        return told

    running = send(dockerfile(f"RUN sleep {mark}"))
    assert running.status_code == 202
    eventually(lambda: _processes(mark), "the step runs")
    waiting = send(dockerfile()).json()["build_id"]
    assert status(waiting)["status"] == "QUEUED"
    refused = send(dockerfile())
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
    assert "MAX_QUEUED_BUILDS" in refused.json()["detail"]
    found.client.cancel_build(running.json()["build_id"])
    done = eventually(
        lambda: now if (now := status(waiting))["status"] not in {"QUEUED", "WORKING"} else None, "it ends"
    )
    assert (done["status"], done["image"]) == ("SUCCESS", image)
    looked = session.get("http://testserver/image_exists", params={"image": f"{image}2"}).json()
    assert looked["exists"] is True
    assert looked["image"]["upload_time"]
    assert looked["image"]["image_size_bytes"] > 0
    session.close()


@pytest.fixture
def registry(tmp_path: Path, docker_client: APIClient) -> Iterator[Callable[..., Registry]]:
    made: list[Registry] = []

    def make(*, login: bool = False) -> Registry:
        made.append(Registry(tmp_path / f"registry-{len(made)}", docker_client, login=login))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_both_names_are_pushed(served: Serve, registry: Callable[..., Registry], docker_client: APIClient) -> None:
    there = registry()
    found = served(registry_prefix=f"{there.host}/sandboxes", registry_push=True)
    done = build(found, dockerfile("RUN echo pushed >/srv/pushed"), "agent:1", "agent:2")
    assert (done.status, done.error) == (BuildState.SUCCESS, None)
    tags = requests.get(f"http://{there.host}/v2/sandboxes/me/agent/tags/list", timeout=60).json()
    assert sorted(tags["tags"]) == ["1", "2"]
    for image in (done.image, *done.tags):
        docker_client.remove_image(image)
    assert not found.client.image_exists(done.image)
    runtime = found.start("cat /srv/pushed; sleep 1000", image=done.image)
    assert found.lines(runtime.runtime_id, 1) == ["pushed"]


def test_a_registry_that_refuses(
    served: Serve, registry: Callable[..., Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = registry(login=True)
    configuration = tmp_path / "docker"
    configuration.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(configuration))
    (configuration / "config.json").write_text("{}")
    found = served(registry_prefix=f"{there.host}/sandboxes", registry_push=True)
    done = build(found, dockerfile())
    assert done.status is BuildState.FAILURE
    assert done.error is not None
    assert "can't be pushed" in done.error
    assert "no basic auth credentials" in done.error

    login = requests.auth._basic_auth_str(USER, PASSWORD).removeprefix("Basic ")
    (configuration / "config.json").write_text(json.dumps({"auths": {there.host: {"auth": login}}}))
    done = build(found, dockerfile())
    assert (done.status, done.error) == (BuildState.SUCCESS, None)
    for path in found.service.state.directory.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes()
            assert login.encode() not in path.read_bytes()
