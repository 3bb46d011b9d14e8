"""Image builds over the death of their workers, of the whole server, and over a restart."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import APIError

from runtime_server.builds import runs
from runtime_server.client.client import RuntimeServerClient
from runtime_server.models import BuildState, BuildStatus
from tests.engine.images import BUSYBOX
from tests.faults.server import Server, Site, eventually
from tests.faults.tally import Tally
from tests.forms import archive

PREFIX = f"runtime-server-test/built-{secrets.token_hex(4)}"
AGAIN = "The worker that ran this build has ended; it begins again."


class Slow:
    """A build with a step of a few seconds, which its processes can be told by."""

    def __init__(self) -> None:
        # BusyBox sleeps for fractions of seconds, so that each build's step has a command line of its own.
        self.mark = f"6.{secrets.randbelow(10**9):09d}"
        self.image = f"{PREFIX}/tester/slow:{self.mark}"
        self.context = archive({"Dockerfile": f"FROM {BUSYBOX}\nRUN sleep {self.mark}\n"})

    def running(self) -> bool:
        """Whether its step runs."""
        return any(each[-1:] == [self.mark] for each in command_lines())

    def commands(self) -> int:
        """How many docker commands build it."""
        return sum(self.image in each and "docker" in each[0] for each in command_lines())


def command_lines() -> Iterator[list[str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found = path.read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
            if found[0]:
                yield found


@pytest.fixture
def server(site: Site, docker_client: APIClient) -> Iterator[Server]:
    """A server with two workers that builds; its images are removed afterwards."""
    made = site.start(env={"RUNTIME_SERVER_REGISTRY_PREFIX": PREFIX, "RUNTIME_SERVER_MAX_BUILDS": "1"})
    try:
        yield made
    finally:
        site.close()
        label = f"{runs.LABELS}instance={site.instance}"
        for image in docker_client.images(filters={"label": label}):
            with contextlib.suppress(APIError):
                docker_client.remove_image(image["Id"], force=True)


def builder(site: Site) -> int:
    """The process that works on the one build in progress; 0 where none does."""
    with contextlib.closing(sqlite3.connect(site.state_dir / "state.db")) as database:
        found = database.execute(
            "SELECT holder FROM operations WHERE kind = 'build' AND NOT done AND stage IS NULL AND holder <> ''"
        ).fetchone()
    return int(found[0].partition("-")[0]) if found else 0


def ended(client: RuntimeServerClient, build_id: str) -> BuildStatus:
    def look() -> BuildStatus | None:
        status = client.build_status(build_id)
        return status if status.status.final else None

    return eventually(look, "the build ends")


def left(site: Site) -> list[Path]:
    return list((site.state_dir / "builds").glob("*.context"))


def test_a_killed_workers_build_is_done(
    site: Site, server: Server, client: RuntimeServerClient, tally: Tally, docker_client: APIClient
) -> None:
    slow = Slow()
    build_id = client.build_image(slow.context, slow.image).build_id
    tally.operation()
    eventually(slow.running, "the step runs")
    first = builder(site)
    assert first in server.worker_pids()
    os.kill(first, signal.SIGKILL)
    tally.fault("SIGKILL in a build")
    second = eventually(lambda: now if (now := builder(site)) not in {0, first} else 0, "another builds")
    assert second != first
    assert slow.commands() <= 1, "the dead worker's command is gone with it"
    done = ended(client, build_id)
    assert (done.status, done.error) == (BuildState.SUCCESS, None)
    assert AGAIN in client.build_log(build_id)
    assert client.image_exists(slow.image)
    eventually(lambda: not left(site), "the context is removed")
    tally.verify(site, client, {})


@pytest.mark.parametrize("gently", [True, False], ids=["SIGTERM", "SIGKILL"])
def test_builds_outlive_the_server(
    site: Site, server: Server, client: RuntimeServerClient, tally: Tally, gently: bool
) -> None:
    running, waiting = Slow(), Slow()
    ids = [client.build_image(each.context, each.image).build_id for each in (running, waiting)]
    tally.operation(2)
    eventually(running.running, "the step runs")
    assert client.build_status(ids[1]).status is BuildState.QUEUED
    if gently:
        assert server.stop() == 0
    else:
        server.kill()
    tally.fault(f"{'SIGTERM' if gently else 'SIGKILL'} of the server")
    eventually(lambda: not running.commands(), "nothing is left that builds")
    assert len(left(site)) == 2
    server.restart()
    for build_id in ids:
        assert ended(client, build_id).status is BuildState.SUCCESS
    assert (AGAIN in client.build_log(ids[0])) != gently, "a server that closes hands its builds on"
    assert AGAIN not in client.build_log(ids[1])
    eventually(lambda: not left(site), "the contexts are removed")
    tally.verify(site, client, {})


def test_a_call_that_was_cut_off_is_one_build(
    site: Site, server: Server, client: RuntimeServerClient, tally: Tally
) -> None:
    slow = Slow()
    first = client.build_image(slow.context, slow.image, idempotency_key="k").build_id
    server.restart()
    tally.fault("SIGKILL of the server")
    assert client.build_image(slow.context, slow.image, idempotency_key="k").build_id == first
    tally.operation()
    assert ended(client, first).status is BuildState.SUCCESS
    tally.verify(site, client, {})
