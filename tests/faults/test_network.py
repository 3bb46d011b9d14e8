"""A bad network between client and server, and the client as it comes."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.models import RuntimeStatus
from tests.faults import proxy as faults
from tests.faults.proxy import Plan, Proxy
from tests.faults.server import Server, Site, eventually, job
from tests.faults.tally import GONE, Creations, Tally

JOBS, STEPS = 40, 5
THREADS = 8
TIMEOUT = (2.0, 3.0)
"""Seconds to connect and to read, so that a stall costs little; all else is the client's default."""
KINDS = (
    faults.CUT_BEFORE,
    faults.CUT_AFTER,
    faults.CUT_WITHIN,
    faults.STALL,
    faults.DUPLICATE,
    faults.LATE_DUPLICATE,
)
NEXT = {
    "running": {"pause": 6, "stop": 1, "remove": 1},
    "paused": {"resume": 6, "stop": 1, "remove": 1},
    "exited": {"stop": 1, "remove": 1},
    GONE: {"stop": 1},
}
"""What may follow, with its weight; a stop of what is stopped or removed changes nothing."""
LEADS_TO = {"start": "running", "pause": "paused", "resume": "running", "stop": "exited", "remove": GONE}
STATUS = {
    "running": RuntimeStatus.RUNNING,
    "paused": RuntimeStatus.PAUSED,
    "exited": RuntimeStatus.STOPPED,
    GONE: RuntimeStatus.REMOVED,
}


def drawn(rng: random.Random) -> list[tuple[str, str]]:
    """One runtime's life: each operation with the state that it shall lead to."""
    life = [("start", "running")]
    while len(life) < STEPS:
        state = life[-1][1]
        action = rng.choices(list(NEXT[state]), list(NEXT[state].values()))[0]
        life.append((action, state if state == GONE else LEADS_TO[action]))
    return life


def live(client: RuntimeServerClient, name: str, life: list[tuple[str, str]], tally: Tally) -> None:
    runtime_id = ""
    for number, (action, state) in enumerate(life):
        key = f"{name}-{number}"
        tally.operation()
        if action == "start":
            started = client.start_runtime(job(name, wait=1), idempotency_key=key)
            runtime_id, status = started.runtime_id, started.status
            assert started.created
            if status is RuntimeStatus.STARTING:
                status = client.wait_until(runtime_id, RuntimeStatus.RUNNING).status
        elif action in ("stop", "remove"):
            status = client.stop_runtime(runtime_id, timeout=1, remove=action == "remove", idempotency_key=key).status
        elif action == "pause":
            status = client.pause_runtime(runtime_id, idempotency_key=key).status
        else:
            status = client.resume_runtime(runtime_id, idempotency_key=key).status
        assert status is STATUS[state], f"{key} {action}"


def test_two_hundred_operations_over_a_bad_network(
    site: Site, server: Server, tally: Tally, rng: random.Random, seed: int
) -> None:
    lives = {f"job{number}": drawn(rng) for number in range(JOBS)}
    plan = Plan(seed, KINDS, rate=0.28, refusals=0.1)
    proxy = Proxy(("127.0.0.1", server.port), ("127.0.0.1", 0), plan, tally)
    try:
        with (
            Creations(site, tally) as made,
            server.client(base_url=f"http://127.0.0.1:{proxy.port}", timeout=TIMEOUT) as client,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            calls = {name: pool.submit(live, client, name, life, tally) for name, life in lives.items()}
            failed = {name: call.exception() for name, call in calls.items() if call.exception()}
            tally.figure("requests", str(plan.requests))
            proxy.calm()
            if not failed:
                eventually(
                    lambda: made.jobs.keys() == lives.keys(), "the engine has told of a container for each job"
                )
    finally:
        proxy.close()
    if failed:
        pytest.fail(f"seed {seed}: {failed}")
    with server.client() as direct:
        tally.verify(site, direct, {name: life[-1][1] for name, life in lives.items()})
    settled = site.states()
    assert server.stop() == 0
    assert site.states() == settled
