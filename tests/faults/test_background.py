"""Work behind the answers: waits, takeovers, the slow lane, drain and purge, expiry."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.client.retry import RetryPolicy
from runtime_server.errors import ServerDraining, TooManyWaiting
from tests.faults.own_engine import OwnEngine
from tests.faults.server import DEADLINE, ROOT, Server, Site, eventually, job
from tests.faults.tally import GONE, Tally

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with OwnEngine() as made:
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
            engine.ensure()


@contextlib.contextmanager
def _frozen(engine: OwnEngine) -> Iterator[None]:
    """The engine accepts connections meanwhile, and does nothing."""
    engine.send(signal.SIGSTOP)
    try:
        yield
    finally:
        engine.send(signal.SIGCONT)


def _run(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, with the server's own settings."""
    return subprocess.run(
        [sys.executable, "-m", "runtime_server", *arguments],
        cwd=ROOT,
        env=server.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_a_start_goes_on_behind_its_answer(engine: OwnEngine, own_site: Site, tally: Tally) -> None:
    server = own_site.start()
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        with _frozen(engine):
            begun = client.start_runtime(job("behind", wait=0))
            assert begun.status == "starting"
            soon = client.start_runtime(job("soon", wait=0.5))
            assert soon.status == "starting"
            waiting = pool.submit(client.get_runtime, begun.runtime_id, wait_for="running", timeout=60)
        assert waiting.result(DEADLINE).status == "running"
        tally.operation(2)
        tally.verify(own_site, client, {"behind": "running", "soon": "running"})


def test_a_start_outlives_its_worker(engine: OwnEngine, own_site: Site, tally: Tally) -> None:
    server = own_site.start()
    with server.client() as client:
        with _frozen(engine):
            begun = client.start_runtime(job("orphan", wait=0))
            assert begun.status == "starting"
            with contextlib.closing(sqlite3.connect(own_site.state_dir / "state.db")) as database:
                query = "SELECT holder FROM operations WHERE kind = 'start' AND key = ?"
                (holder,) = database.execute(query, [begun.runtime_id]).fetchone()
            worker = int(holder.partition("-")[0])
            assert worker in server.worker_pids()
            os.kill(worker, signal.SIGKILL)
            tally.fault("SIGKILL of the worker")
        assert client.wait_until(begun.runtime_id, "running").status == "running"
        tally.operation()
        tally.verify(own_site, client, {"orphan": "running"})


def test_a_full_slow_lane_leaves_short_calls_alone(own_site: Site, tally: Tally) -> None:
    server = own_site.start(workers=1, env={"RUNTIME_SERVER_THREADS": "8"})
    with server.client() as client, server.client(retry=ONCE) as hasty, ThreadPoolExecutor(6) as pool:
        runtime_id = client.start_runtime(job("watched")).runtime_id
        idle = _median(client, runtime_id)

        def wait() -> str:
            with server.client() as own:
                return str(own.get_runtime(runtime_id, wait_for="paused", timeout=60).status)

        waits = [pool.submit(wait) for _ in range(6)]
        eventually(lambda: _lane_is_full(hasty, runtime_id), "six wait")
        full = _median(client, runtime_id)
        tally.figure("median read idle, lane full", f"{idle * 1000:.1f}, {full * 1000:.1f} ms")
        assert client.health().status == "ok"
        assert client.start_runtime(job("short")).status == "running"
        assert not any(each.done() for each in waits)
        client.pause_runtime(runtime_id)
        assert [each.result(DEADLINE) for each in waits] == ["paused"] * 6
        tally.operation(9)
        tally.verify(own_site, client, {"watched": "paused", "short": "running"})


def _lane_is_full(client: RuntimeServerClient, runtime_id: str) -> bool:
    try:
        client.get_runtime(runtime_id, wait_for="paused", timeout=0.01)
    except TooManyWaiting as problem:
        return problem.status == 429 and problem.retry_after is not None
    return False


def _median(client: RuntimeServerClient, runtime_id: str) -> float:
    spans = []
    for _ in range(100):
        begun = time.perf_counter()
        client.get_runtime(runtime_id)
        spans.append(time.perf_counter() - begun)
    return statistics.median(spans)


def test_drain_refuses_starts_and_waits_for_work(engine: OwnEngine, own_site: Site, tally: Tally) -> None:
    server = own_site.start()
    with server.client() as client, server.client(retry=ONCE) as hasty:
        with _frozen(engine):
            client.start_runtime(job("before", wait=0))
            unfinished = _run(server, "drain", "--timeout", "0.5")
            assert unfinished.returncode == 1, unfinished.stderr
        with pytest.raises(ServerDraining) as refused:
            hasty.start_runtime(job("refused"))
        assert refused.value.retryable
        finished = _run(server, "drain", "--timeout", "60")
        assert finished.returncode == 0, finished.stderr
        assert own_site.states() == [("before", "running")]
        assert _run(server, "drain", "--off").returncode == 0
        client.start_runtime(job("after"))
        tally.operation(3)
        tally.verify(own_site, client, {"before": "running", "after": "running", "refused": GONE})


def test_purge_removes_what_is_ours_alone(engine: OwnEngine, own_site: Site, tmp_path: Path, tally: Tally) -> None:
    server = own_site.start()
    (tmp_path / "other").mkdir()
    with contextlib.closing(engine.client()) as docker:
        other = Site(tmp_path / "other", docker, engine.address)
        with contextlib.closing(other), server.client() as client, other.start(workers=1).client() as theirs:
            theirs.start_runtime(job("theirs"))
            theirs.start_runtime(job("theirs too", session_id="s", workspace="/workspace"))
            jobs = [job("one", session_id="s", workspace="/workspace"), job("two"), job("three")]
            ids = [client.start_runtime(each).runtime_id for each in jobs]
            client.pause_runtime(ids[0])
            client.stop_runtime(ids[1], timeout=0)
            asked = _run(server, "purge")
            assert asked.returncode != 0, "nobody has said yes"
            assert len(own_site.states()) == 3
            done = _run(server, "purge", "--yes")
            assert done.returncode == 0, done.stderr
            assert "Removed 3 runtimes." in done.stdout
            assert "1 workspace kept" in done.stdout
            assert [each.in_use_by for each in client.list_workspaces()] == [[]]
            more = _run(server, "purge", "--workspaces", "--yes")
            assert "Removed 0 runtimes and 1 workspace." in more.stdout
            assert (own_site.volumes(), client.list_workspaces()) == ([], [])
            assert len(other.volumes()) == 1
            tally.operation(10)
            tally.verify(other, theirs, {"theirs": "running", "theirs too": "running"})
            tally.verify(own_site, client, {"one": GONE, "two": GONE, "three": GONE})


def test_expiry_removes_and_renewal_prolongs(own_site: Site, tally: Tally) -> None:
    server = own_site.start()
    with server.client() as client:
        renewed = client.start_runtime(job("renewed", ttl=2))
        assert renewed.expires_at is not None
        later = client.renew_runtime(renewed.runtime_id, 3600)
        expiring = client.start_runtime(job("expiring", ttl=2))
        endless = client.start_runtime(job("endless", ttl=2))
        assert client.renew_runtime(endless.runtime_id, None).expires_at is None
        # It ended later than the others would have, had their renewals been lost.
        gone = client.wait_until(expiring.runtime_id, "removed")
        assert gone.stopped_at is not None
        assert gone.stopped_at > renewed.expires_at
        assert gone.exit is not None
        assert later.expires_at is not None
        assert later.expires_at > renewed.expires_at
        tally.operation(5)
        tally.verify(own_site, client, {"renewed": "running", "endless": "running", "expiring": GONE})
