"""The engine ends, politely or not, and comes back."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.client.retry import RetryPolicy
from runtime_server.errors import EngineUnreachable, RuntimeClientError
from tests.faults.own_engine import OwnEngine
from tests.faults.server import JOB, Server, Site, eventually, job
from tests.faults.tally import GONE, Tally

SAID = "the container engine can't be reached"


@pytest.fixture(params=[False, True], ids=["plain", "live-restore"])
def engine(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    with OwnEngine(live_restore=request.param) as made:
        made.start()
        yield made


@pytest.fixture
def own_site(engine: OwnEngine, tmp_path: Path) -> Iterator[Site]:
    with (
        contextlib.closing(engine.client()) as docker,
        contextlib.closing(Site(tmp_path, docker, engine.address)) as it,
    ):
        try:
            yield it
        finally:
            for server in it.servers:
                server.kill()
            it.servers.clear()
            engine.ensure()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_states_are_right_after_a_restart(
    engine: OwnEngine, own_site: Site, tally: Tally, number: signal.Signals
) -> None:
    server = own_site.start()
    with server.client() as client:
        ids = {name: client.start_runtime(job(name)).runtime_id for name in ("running", "paused", "stopped")}
        ids["always"] = client.start_runtime(job("always", restart_policy={"Name": "always"})).runtime_id
        client.pause_runtime(ids["paused"])
        client.stop_runtime(ids["stopped"], timeout=0)
        tally.operation(6)

        engine.kill(number)
        tally.fault(number.name)
        _meet_an_absent_engine(server, client, ids)

        answered = engine.start(images_too=False)
        right = {"running": "running", "paused": "paused", "stopped": "stopped", "always": "running"}
        if not engine.live_restore:
            right |= {"running": "stopped", "paused": "stopped"}
        eventually(lambda: _statuses(client, ids) == right, "states are right again")
        tally.figure("right again after", f"{time.monotonic() - answered:.1f} s")

        docker_states = {name: "exited" if state == "stopped" else state for name, state in right.items()}
        tally.verify(own_site, client, docker_states)
        assert server.log.count(SAID) == 1
        eventually(lambda: client.ready().ready, "ready again")
        client.stop_runtime(ids["always"], timeout=0)
        again = client.start_runtime(job("again"))
        tally.operation(2)
        assert again.status == "running"
        tally.verify(own_site, client, docker_states | {"always": "exited", "again": "running"})


def _meet_an_absent_engine(server: Server, client: RuntimeServerClient, ids: Mapping[str, str]) -> None:
    with server.client(retry=RetryPolicy(max_attempts=1)) as hasty:
        assert _statuses(hasty, ids)["stopped"] == "stopped"
        with pytest.raises(EngineUnreachable) as refused:
            hasty.start_runtime(job("refused"))
        assert refused.value.retry_after is not None
        assert not client.ready().ready
    eventually(lambda: SAID in server.log, "the server says that the engine is away")


def _statuses(client: RuntimeServerClient, ids: Mapping[str, str]) -> dict[str, str]:
    return {name: str(client.get_runtime(runtime_id).status) for name, runtime_id in ids.items()}


def test_killed_in_the_midst_of_starts(engine: OwnEngine, own_site: Site, tally: Tally) -> None:
    server = own_site.start()
    jobs = [f"start-{number}" for number in range(6)]

    def start(name: str) -> str | None:
        with server.client() as own:
            try:
                return own.start_runtime(job(name)).runtime_id
            except RuntimeClientError:
                return None

    with ThreadPoolExecutor(len(jobs)) as pool, server.client() as client:
        calls = {name: pool.submit(start, name) for name in jobs}
        eventually(lambda: len(own_site.containers()) >= 2, "some containers are there")
        engine.kill(signal.SIGKILL)
        tally.fault("SIGKILL in mid-start")
        engine.start()
        answers = {name: call.result() for name, call in calls.items()}
        tally.operation(len(jobs))
        failed = [name for name, runtime_id in answers.items() if runtime_id is None]
        assert not failed, server.log[-3000:]
        # Without live-restore those that ran before the kill have ended with the engine, like any others.
        if engine.live_restore:
            intended = dict.fromkeys(jobs, "running")
        else:
            eventually(lambda: all(_settled(client, own_site, each) for each in answers.values()), "all settle")
            intended = dict.fromkeys(jobs, GONE) | dict(own_site.states())
        tally.verify(own_site, client, intended)
        assert GONE not in intended.values()


def _settled(client: RuntimeServerClient, site: Site, runtime_id: str | None) -> bool:
    runtime = client.get_runtime(str(runtime_id))
    states = dict(site.states())
    found = states.get(runtime.labels[JOB])
    return (str(runtime.status), found) in {("running", "running"), ("stopped", "exited")}
