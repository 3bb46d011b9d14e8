"""kill -9 of workers at each step of a start, of the whole server, and of the one that reconciles."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.client.retry import RetryPolicy
from runtime_server.errors import ServerUnreachable
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes.steps import STEPS
from tests.faults.server import Server, Site, eventually, job
from tests.faults.tally import GONE, Tally

PULLED = "pulled"
"""Reached only by a start that pulls, which another module's tests do."""
WITHOUT_PULL = [step for step in STEPS if step != PULLED]
ONCE = RetryPolicy(max_attempts=1)
STUBBORN = {"command": ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}


def one_record(client: RuntimeServerClient) -> bool:
    """Whether there is a single record, those of ended and failed runtimes counted."""
    return len(list(client.list_runtimes(status=list(RuntimeStatus)))) == 1


@pytest.mark.parametrize("step", WITHOUT_PULL)
def test_a_retry_is_answered_after_its_worker_was_killed(
    site: Site, client: RuntimeServerClient, tally: Tally, step: str
) -> None:
    site.kill_at(step)
    tally.fault(f"kill at {step}")
    started = client.start_runtime(job("one", wait=60))
    tally.operation()
    assert site.killed()
    assert (started.status, started.created) == (RuntimeStatus.RUNNING, True)
    tally.verify(site, client, {"one": "running"})
    assert one_record(client)


@pytest.mark.parametrize("step", WITHOUT_PULL)
def test_a_start_is_finished_without_a_retry(
    site: Site, server: Server, client: RuntimeServerClient, tally: Tally, step: str
) -> None:
    site.kill_at(step)
    tally.fault(f"kill at {step}")
    with server.client(retry=ONCE) as impatient, pytest.raises(ServerUnreachable):
        impatient.start_runtime(job("one", wait=60))
    tally.operation()
    assert site.killed()
    tally.verify(site, client, {"one": "running"})
    assert one_record(client)


@pytest.mark.parametrize("step", ["recorded", "created", "started"])
def test_the_whole_server_is_killed_in_mid_start(
    site: Site, server: Server, client: RuntimeServerClient, tally: Tally, step: str
) -> None:
    site.hold_at(step)
    with server.client(retry=ONCE) as impatient, ThreadPoolExecutor(1) as pool:
        call = pool.submit(impatient.start_runtime, job("one", wait=60), idempotency_key="the same")
        eventually(site.held, f"a start has come to {step}")
        server.kill()
        tally.fault("kill all")
        assert isinstance(call.exception(), ServerUnreachable)
    server.start()
    tally.verify(site, client, {"one": "running"})
    again = client.start_runtime(job("one", wait=60), idempotency_key="the same")
    tally.operation()
    assert (again.status, again.created) == (RuntimeStatus.RUNNING, True)
    tally.verify(site, client, {"one": "running"})
    assert one_record(client)


@pytest.mark.parametrize("who", ["server", "workers"])
def test_a_stop_is_finished_after_a_kill_in_its_middle(
    site: Site, server: Server, client: RuntimeServerClient, tally: Tally, who: str
) -> None:
    ids = {name: client.start_runtime(job(name, **STUBBORN)).runtime_id for name in ("kept", "removed")}

    def stop(name: str) -> RuntimeStatus:
        return client.stop_runtime(ids[name], timeout=3, remove=name == "removed").status

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(stop, name) for name in ids]
        eventually(
            lambda: all(client.get_runtime(each).status is RuntimeStatus.STOPPING for each in ids.values()),
            "both stops have begun",
        )
        tally.fault(f"kill {who}")
        if who == "server":
            server.kill()
            server.start()
        else:
            for pid in server.worker_pids():
                os.kill(pid, signal.SIGKILL)
        if who == "workers":
            assert [call.result() for call in calls] == [RuntimeStatus.STOPPED, RuntimeStatus.REMOVED]
    tally.operation(4)
    tally.verify(site, client, {"kept": "exited", "removed": GONE})


def test_another_worker_reconciles_when_the_first_is_killed(
    site: Site, server: Server, client: RuntimeServerClient, tally: Tally
) -> None:
    first = eventually(site.leader, "a worker reconciles")
    assert first in server.worker_pids()
    client.start_runtime(job("lasting"))
    brief = client.start_runtime(job("brief", ttl=2))
    tally.operation(2)
    os.kill(first, signal.SIGKILL)
    tally.fault("kill leader")
    next_one = eventually(lambda: (found := site.leader()) != first and found, "another worker reconciles", 30)
    assert next_one in server.worker_pids()
    tally.verify(site, client, {"lasting": "running", "brief": GONE})
    assert client.get_runtime(brief.runtime_id).status is RuntimeStatus.REMOVED
