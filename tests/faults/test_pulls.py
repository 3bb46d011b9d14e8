"""Pulls from a registry of the test's own."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from docker import APIClient

from runtime_server.client.client import RuntimeServerClient
from runtime_server.errors import ImageNotFound, ImagePullFailed
from runtime_server.models import Runtime
from tests.faults.registry import LAYER, PASSWORD, USER, Registry
from tests.faults.server import Server, Site, eventually, job
from tests.faults.tally import GONE, Creations, Tally

LOGIN = {"username": USER, "password": PASSWORD}
Registries = Callable[..., Registry]


@pytest.fixture
def registries(tmp_path: Path, docker_client: APIClient, site: Site) -> Iterator[Registries]:
    made: list[Registry] = []

    def make(*, login: bool = False) -> Registry:
        made.append(Registry(tmp_path / f"registry-{len(made)}", docker_client, login=login))
        return made[-1]

    try:
        yield make
    finally:
        site.close()  # containers first: an image that one uses stays
        for registry in made:
            registry.close()


def _running(client: RuntimeServerClient, runtime_id: str) -> Runtime:
    return client.wait_until(runtime_id, "running")


def _puller(site: Site) -> int:
    """The process that pulls for the one start that is in progress; 0 where none does."""
    with closing(sqlite3.connect(site.state_dir / "state.db")) as database:
        found = database.execute(
            "SELECT holder FROM operations JOIN operations AS pull USING (holder)"
            " WHERE operations.kind = 'start' AND NOT operations.done AND pull.kind = 'pull' AND NOT pull.done"
        ).fetchone()
    return int(found[0].partition("-")[0]) if found else 0


def test_many_starts_share_one_pull(
    registries: Registries, site: Site, server: Server, client: RuntimeServerClient, tally: Tally
) -> None:
    registry = registries()
    image = registry.push("shared")
    before = registry.pulls(image)
    registry.gate.allow(LAYER / 2)
    second = site.start(workers=1)
    with second.client() as other, Creations(site, tally):
        names = [f"job-{number}" for number in range(8)]
        ids = [
            (other if number % 2 else client).start_runtime(job(name, image=image, wait=0)).runtime_id
            for number, name in enumerate(names)
        ]
        tally.operation(len(ids))
        eventually(lambda: registry.gate.held, "the pull is half done")
        halves = [
            eventually(lambda each=each: _pulling(client.get_runtime(each)), "progress is told")  # type: ignore[misc]
            for each in ids
        ]
        assert all(half.startswith(f"Pulling {image}: ") for half in halves)
        assert {str(other.get_runtime(each).status) for each in ids} == {"starting"}
        registry.gate.allow(float("inf"))
        for each in ids:
            assert _running(other, each).status_detail is None
        after = registry.pulls(image)
        tally.figure("manifests and blobs fetched", f"{after[0] - before[0]} and {after[1] - before[1]}")
        assert after[1] - before[1] == 2  # the configuration and the layer, each once for eight starts
        tally.verify(site, client, dict.fromkeys(names, "running"))


def _pulling(runtime: Runtime) -> str:
    detail = runtime.status_detail or ""
    return detail if "%" in detail or "MB" in detail or "pull" in detail.lower() else ""


def test_pull_policies(
    registries: Registries, site: Site, client: RuntimeServerClient, docker_client: APIClient, tally: Tally
) -> None:
    registry = registries()
    image = registry.push("policies")
    start = registry.pulls(image)[0]
    with pytest.raises(ImageNotFound):
        client.start_runtime(job("never", image=image, image_pull_policy="Never"))
    assert registry.pulls(image)[0] == start
    client.start_runtime(job("absent", image=image))
    pulled = registry.pulls(image)[0]
    assert pulled > start
    client.start_runtime(job("present", image=image))
    client.start_runtime(job("present-never", image=image, image_pull_policy="Never"))
    assert registry.pulls(image)[0] == pulled
    client.start_runtime(job("always", image=image, image_pull_policy="Always"))
    assert registry.pulls(image)[0] > pulled
    with pytest.raises(ImageNotFound):
        client.start_runtime(job("no tag", image=image.replace(":latest", ":missing")))
    tally.operation(6)
    running = dict.fromkeys(("absent", "present", "present-never", "always"), "running")
    tally.verify(site, client, {**running, "never": GONE, "no tag": GONE})


def test_credentials_are_used_and_kept_nowhere(
    registries: Registries, site: Site, server: Server, client: RuntimeServerClient, tally: Tally, tmp_path: Path
) -> None:
    registry = registries(login=True)
    image, other = registry.push("private"), registry.push("configured")
    for wrong in (None, {"username": USER, "password": "wrong"}):
        with pytest.raises(ImagePullFailed) as refused:
            client.start_runtime(job("wrong", image=image, registry_auth=wrong))
        assert PASSWORD not in str(refused.value)
    client.start_runtime(job("right", image=image, registry_auth=LOGIN))
    tally.operation(3)
    _found_nowhere(site)

    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": token}}}))
    with site.start(workers=1, env={"DOCKER_CONFIG": str(tmp_path / "docker")}).client() as configured:
        server.stop()  # or the other would reconcile, which has no such configuration
        configured.start_runtime(job("configured", image=other))
        tally.operation()
        tally.verify(site, configured, {"wrong": GONE, "right": "running", "configured": "running"})
    _found_nowhere(site)


def _found_nowhere(site: Site) -> None:
    secrets = [
        PASSWORD.encode(),
        base64.b64encode(f"{USER}:{PASSWORD}".encode()),
        base64.b64encode(PASSWORD.encode()),
    ]
    files = [
        path for path in (*site.state_dir.rglob("*"), *(each.log_path for each in site.servers)) if path.is_file()
    ]
    assert len(files) > 3
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path


def test_credentials_die_with_their_worker(
    registries: Registries, site: Site, server: Server, client: RuntimeServerClient, tally: Tally
) -> None:
    registry = registries(login=True)
    image = registry.push("private")
    registry.gate.allow(LAYER / 2)
    with Creations(site, tally), ThreadPoolExecutor(1) as pool:
        alone = client.start_runtime(job("alone", image=image, registry_auth=LOGIN, wait=0)).runtime_id
        eventually(lambda: registry.gate.held, "the pull is half done")
        os.kill(eventually(lambda: _puller(site), "the puller is known"), signal.SIGKILL)
        tally.fault("SIGKILL in a pull")
        lost = eventually(lambda: (now := client.get_runtime(alone)).status == "error" and now, "the start ends")
        assert isinstance(lost, Runtime)
        assert lost.error is not None
        assert lost.error.code == "registry-credentials-lost"

        waiting = pool.submit(client.start_runtime, job("waiting", image=image, registry_auth=LOGIN, wait=60))
        os.kill(eventually(lambda: _puller(site), "another pull is under way"), signal.SIGKILL)
        tally.fault("SIGKILL in a pull")
        registry.gate.allow(float("inf"))
        assert waiting.result().status == "running"  # the client has sent the call, and with it the login, again
        tally.operation(2)
        tally.verify(site, client, {"alone": GONE, "waiting": "running"})
    _found_nowhere(site)


def test_killed_after_the_pull(registries: Registries, site: Site, client: RuntimeServerClient, tally: Tally) -> None:
    image = registries().push("killed")
    with Creations(site, tally):
        site.kill_at("pulled")
        started = client.start_runtime(job("once", image=image))
        assert site.killed()
        tally.operation()
        tally.fault("SIGKILL at pulled")
        assert _running(client, started.runtime_id).image == image
        tally.verify(site, client, {"once": "running"})
