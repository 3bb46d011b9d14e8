"""Workspaces through kills, lost records and a failing way to the engine: nothing is there that isn't listed."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.client.retry import RetryPolicy
from runtime_server.engine.discovery import discover
from runtime_server.errors import Problem, RuntimeClientError, ServerUnreachable, WorkspaceInUse
from runtime_server.models import RuntimeStatus, Workspace
from tests.faults import proxy as faults
from tests.faults.proxy import Plan, Proxy, Request
from tests.faults.server import Site, eventually, job
from tests.faults.tally import GONE, Tally

ONCE = RetryPolicy(max_attempts=1)
ENV = {"RUNTIME_SERVER_ENGINE_TIMEOUT": "8", "RUNTIME_SERVER_SWEEP_INTERVAL": "2"}
WITHIN = 60.0


@pytest.fixture
def proxied(tally: Tally, seed: int) -> Iterator[Proxy]:
    """A way to the engine that can be made to fail; its socket's path is short enough for one."""
    upstream = discover().socket
    assert upstream is not None, "the engine isn't on a Unix socket"
    plan = _CreatesStall(seed, (faults.CUT_BEFORE, faults.CUT_AFTER, faults.ERROR), rate=0.15)
    with tempfile.TemporaryDirectory() as folder:
        made = Proxy(Path(upstream), Path(folder, "engine.sock"), plan, tally)
        made.faulty = False
        yield made
        made.close()


class _Never(random.Random):
    """Chooses that a request that stalls is never forwarded."""

    def choice(self, seq: Any) -> Any:
        return "never" if "never" in seq else super().choice(seq)


class _CreatesStall(Plan):
    """Lets containers not be made at all while ``stalls`` is set; otherwise a plan like others."""

    stalls = False

    def request(self, request: Request) -> tuple[str | None, random.Random]:
        if self.stalls:
            return (faults.STALL if "/containers/create" in request.line else None), _Never()
        return super().request(request)


def env_of(proxied: Proxy) -> dict[str, str]:
    return {**ENV, "RUNTIME_SERVER_ENGINE": f"unix://{proxied._address}"}


def work(name: str, **fields: Any) -> dict[str, Any]:
    return job(name, session_id=name, workspace="/workspace", user="nobody", **fields)


def listed(client: RuntimeServerClient) -> dict[str | None, Workspace]:
    return {each.session_id: each for each in client.list_workspaces()}


def all_listed(site: Site, client: RuntimeServerClient) -> bool:
    with suppress(RuntimeClientError):
        return sorted(each.volume for each in client.list_workspaces()) == site.volumes()
    return False


@pytest.mark.parametrize("lost", [False, True], ids=["with records", "records lost"])
@pytest.mark.parametrize("between", ["volume and container", "container and start"])
def test_the_server_is_killed_between(site: Site, proxied: Proxy, tally: Tally, between: str, lost: bool) -> None:
    server = site.start(env=env_of(proxied))
    plan = proxied._plan
    assert isinstance(plan, _CreatesStall)
    if between == "volume and container":
        plan.stalls = proxied.faulty = True
    else:
        site.hold_at("created")
    with server.client(retry=ONCE) as impatient, ThreadPoolExecutor(1) as pool:
        call = pool.submit(impatient.start_runtime, work("one", wait=60))
        eventually(
            lambda: site.held() or (plan.stalls and tally.faults[faults.STALL]),
            "the volume is there",
        )
        server.kill()
        tally.fault("kill all")
        assert isinstance(call.exception(), ServerUnreachable)
    (volume,) = site.volumes()
    assert len(site.states()) == (0 if plan.stalls else 1)
    plan.stalls = proxied.faulty = False
    if lost:
        for file in site.state_dir.glob("state.db*"):
            file.unlink()
    server.start()
    with server.client() as client:
        if lost:
            # Nobody knows any more what it was to run: what was made of it goes, and the workspace is listed.
            tally.verify(site, client, {"one": GONE}, within=WITHIN)
            told = listed(client)["one"]
            assert (told.volume, told.in_use_by, told.path) == (volume, [], "/workspace")
            assert client.delete_workspace("one").changed
            assert site.volumes() == []
        else:
            tally.verify(site, client, {"one": "running"}, within=WITHIN)
            told = listed(client)["one"]
            assert told.volume == volume
            assert len(told.in_use_by) == 1
            with pytest.raises(WorkspaceInUse):
                client.delete_workspace("one")


def test_the_way_to_the_engine_fails(site: Site, proxied: Proxy, tally: Tally) -> None:
    server = site.start(env=env_of(proxied))
    names = [f"job{n}" for n in range(12)]
    with server.client() as client:
        proxied.faulty = True

        def start(name: str) -> bool:
            tally.operation()
            try:
                return client.start_runtime(work(name, wait=60)).status is RuntimeStatus.RUNNING
            except Problem:
                return False

        with ThreadPoolExecutor(4) as pool:
            started = dict(zip(names, pool.map(start, names), strict=True))
        proxied.calm()
        tally.figure("starts that failed", str(list(started.values()).count(False)))
        wanted = {name: "running" if started[name] else GONE for name in names}
        tally.verify(site, client, wanted, within=WITHIN)
        eventually(lambda: all_listed(site, client), "each volume is listed")
        found = listed(client)
        for name in names:
            if started[name]:
                assert len(found[name].in_use_by) == 1
                client.stop_runtime(found[name].in_use_by[0], timeout=0, remove=True)
        for each in found.values():
            assert client.delete_workspace(each.workspace_id).changed
        assert site.volumes() == []
        # With new ones in their places everything is as it was.
        assert start(names[0])
        assert list(listed(client)) == [names[0]]
