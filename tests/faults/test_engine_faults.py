"""A failing way between server and engine."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from docker import APIClient

from runtime_server.client.client import RuntimeServerClient
from runtime_server.engine.discovery import discover
from runtime_server.errors import Problem, RuntimeClientError
from runtime_server.models import Runtime, RuntimeStatus
from tests.faults import proxy as faults
from tests.faults.proxy import Plan, Proxy
from tests.faults.server import Site, eventually, job
from tests.faults.tally import GONE, Tally, disagreements

JOBS, STEPS = 36, 4
THREADS = 6
WITHIN = 60.0
"""Seconds after the last fault by which everything must be right."""
KINDS = (
    *(faults.CUT_BEFORE, faults.CUT_AFTER, faults.CUT_WITHIN, faults.ERROR) * 2,
    faults.STALL,
)
ENV = {"RUNTIME_SERVER_ENGINE_TIMEOUT": "8", "RUNTIME_SERVER_SWEEP_INTERVAL": "5"}
TYPED = {
    "engine-unreachable",
    "engine-timeout",
    "engine-failed",
    "runtime-busy",
    "idempotency-in-flight",
    "too-many-waiting",
}
"""What a call may end with that doesn't end as intended."""
NEXT = {"running": ["pause", "pause", "pause", "stop", "remove"], "paused": ["resume", "resume", "stop", "remove"]}
LEADS_TO = {
    "start": ("running", RuntimeStatus.RUNNING),
    "pause": ("paused", RuntimeStatus.PAUSED),
    "resume": ("running", RuntimeStatus.RUNNING),
    "stop": ("exited", RuntimeStatus.STOPPED),
    "remove": (GONE, RuntimeStatus.REMOVED),
}


class Life:
    """One runtime, acted upon until an action fails.

    Attributes:
        intended: the state that it shall be in.
        unsure: the pause or resume that failed, so that either state is right.
        failed: the code of what ended it.
    """

    def __init__(self, name: str, rng: random.Random, client: RuntimeServerClient, tally: Tally) -> None:
        self.name = name
        self.intended = GONE
        self.unsure: str | None = None
        self.failed: str | None = None
        self._rng = rng
        self._client = client
        self._tally = tally
        self.runtime_id = ""

    def run(self) -> None:
        action = "start"
        for number in range(STEPS):
            try:
                self._tally.operation()
                status = self.act(self._client, action, f"{self.name}-{number}")
            except Problem as problem:
                self._fail(action, problem)
                return
            self.intended, expected = LEADS_TO[action]
            assert status is expected, f"{self.name}-{number} {action}"
            if self.intended not in NEXT:
                return
            action = self._rng.choice(NEXT[self.intended])

    def act(self, client: RuntimeServerClient, action: str, key: str | None = None) -> RuntimeStatus:
        if action == "start":
            started = client.start_runtime(job(self.name, wait=30), idempotency_key=key)
            self.runtime_id = started.runtime_id
            if started.status is RuntimeStatus.STARTING:
                return client.wait_until(self.runtime_id, RuntimeStatus.RUNNING).status
            return started.status
        if action in ("pause", "resume"):
            call = client.pause_runtime if action == "pause" else client.resume_runtime
            return call(self.runtime_id, idempotency_key=key).status
        return client.stop_runtime(self.runtime_id, timeout=1, remove=action == "remove", idempotency_key=key).status

    def _fail(self, action: str, problem: Problem) -> None:
        assert problem.code in TYPED, f"{self.name} {action}: {problem!r}"
        self.failed = problem.code
        if action in ("pause", "resume"):
            self.unsure = action
        # A start that failed leaves nothing, and a stop that has begun is finished all the same.
        self.intended = GONE if action == "start" else LEADS_TO[action][0]


@pytest.fixture
def upstream() -> Path:
    socket = discover().socket
    assert socket is not None, "the engine isn't on a Unix socket"
    return Path(socket)


@pytest.fixture
def socket() -> Iterator[Path]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "engine.sock")


def test_the_way_to_the_engine_fails(
    site: Site, upstream: Path, socket: Path, tally: Tally, rng: random.Random, seed: int
) -> None:
    plan = Plan(seed, KINDS, rate=0.2, refusals=0.1)
    proxy = Proxy(upstream, socket, plan, tally)
    proxy.faulty = False
    try:
        server = site.start(env={**ENV, "RUNTIME_SERVER_ENGINE": f"unix://{socket}"})
        with server.client() as client:
            lives = [Life(f"job{n}", random.Random(rng.random()), client, tally) for n in range(JOBS)]
            proxy.faulty = True
            with ThreadPoolExecutor(THREADS) as pool:
                calls = {life.name: pool.submit(life.run) for life in lives}
            proxy.calm()
            tally.figure("requests", str(plan.requests))
            tally.figure("calls that failed", str(sum(life.failed is not None for life in lives)))
            failed = {name: call.exception() for name, call in calls.items() if call.exception()}
            assert not failed, f"seed {seed}: {failed}"
            _agree(site, client, lives)
            for life in lives:
                if life.unsure:
                    life.act(client, life.unsure)
            tally.verify(site, client, {life.name: life.intended for life in lives}, within=WITHIN)
            _identical(site.docker, list(client.list_runtimes(status=["running", "paused", "stopped"])))
        settled = site.states()
        assert server.stop() == 0
        assert site.states() == settled
    finally:
        site.end_servers()
        proxy.close()


def _agree(site: Site, client: RuntimeServerClient, lives: list[Life]) -> None:
    """Wait until the records say of each container what the engine says."""

    def agree() -> bool:
        found = dict(site.states())
        try:
            return not disagreements(client, {life.name: found.get(life.name, GONE) for life in lives})
        except RuntimeClientError:
            return False

    eventually(agree, "records agree with the engine", WITHIN)


def _identical(docker: APIClient, runtimes: list[Runtime]) -> None:
    """Each record names its own container."""
    for runtime in runtimes:
        assert runtime.container_id is not None
        assert docker.inspect_container(runtime.container_id)["Name"] == f"/{runtime.runtime_id}"
