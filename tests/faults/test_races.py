"""Sixteen threads at once, over two server processes on one state directory."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.errors import InvalidState, Problem, RuntimeNotFound
from runtime_server.models import RuntimeStatus, StartResponse
from tests.faults.server import DEADLINE, Site, job
from tests.faults.tally import GONE, Creations, Tally

T = TypeVar("T")

THREADS = 16
ROUNDS = 3
SPREAD = 0.3
"""Seconds over which the threads of a race are spread at most, by seed."""


Client = RuntimeServerClient
Call = Callable[[RuntimeServerClient], T]


def call(method: Callable[..., T], *arguments: object, **options: object) -> Call[T]:
    """That method of whichever client."""
    return lambda client: method(client, *arguments, **options)


class Arena:
    """Clients of two servers, and the race itself."""

    def __init__(self, site: Site, clients: Sequence[RuntimeServerClient], rng: random.Random, tally: Tally) -> None:
        self.site = site
        self.client = clients[0]
        self._clients = clients
        self._rng = rng
        self._tally = tally
        self.intended: dict[str, str] = {}
        self.successors = 0
        """Second containers of a job that aren't duplicates: the first was removed before."""

    def race(self, *calls: Call[T], spread: float = SPREAD, until: float = 0.0) -> list[tuple[int, T | Problem]]:
        """Run each call in as many threads as the others; which call it was, and how it went.

        Args:
            calls: what is run, by clients of both servers.
            spread: seconds over which the threads are spread.
            until: Unix time of the earliest.
        """
        gate = threading.Barrier(THREADS)
        # The seed decides how long after the given moment the race is: an expiry is found within half a second.
        wait = until and max(0.0, until - time.time()) + self._rng.uniform(0, 0.6)
        delays = [self._rng.uniform(0, spread) for _ in range(THREADS)]
        self._rng.shuffle(delays)

        def run(number: int) -> tuple[int, T | Problem]:
            which = number % len(calls)
            gate.wait(DEADLINE)
            time.sleep(wait + delays[number])
            try:
                return which, calls[which](self._clients[(number // len(calls)) % len(self._clients)])
            except Problem as problem:
                return which, problem

        with ThreadPoolExecutor(THREADS) as pool:
            outcomes = list(pool.map(run, range(THREADS)))
        self._tally.operation(THREADS)
        return outcomes

    def begin(self, name: str, **fields: object) -> StartResponse:
        """A runtime to race for."""
        self._tally.operation()
        return self.client.start_runtime(job(name, **fields))

    def now(self, name: str) -> str:
        """The engine's word for the job's one container."""
        found = [state for each, state in self.site.states() if each == name]
        assert len(found) <= 1, f"{name} has {len(found)} containers"
        return found[0] if found else GONE

    def settle(self, **states: str) -> None:
        """Hold everything so far to what is intended, these jobs included."""
        self.intended |= states
        self._tally.verify(self.site, self.client, self.intended)


@pytest.fixture
def arena(site: Site, rng: random.Random, tally: Tally) -> Iterator[Arena]:
    servers = [site.start(workers=1), site.start(workers=2)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        stack.enter_context(Creations(site, tally))
        made = Arena(site, clients, rng, tally)
        yield made
    tally.duplicates -= made.successors


def _good(outcomes: Sequence[tuple[int, T | Problem]], which: int) -> list[T]:
    return [each for number, each in outcomes if number == which and not isinstance(each, Problem)]


def _bad(outcomes: Sequence[tuple[int, T | Problem]], which: int) -> list[Problem]:
    return [each for number, each in outcomes if number == which and isinstance(each, Problem)]


def _end(arena: Arena, runtime_id: str) -> float:
    expires_at = arena.client.get_runtime(runtime_id).expires_at
    assert expires_at is not None
    return expires_at.timestamp()


def test_one_session_and_one_key(arena: Arena) -> None:
    for number in range(ROUNDS):
        session, keyed = f"session-{number}", f"keyed-{number}"
        started = arena.race(
            call(Client.start_runtime, job(session, session_id=session)),
            call(Client.start_runtime, job(keyed), idempotency_key=keyed),
        )
        of_session, of_key = _good(started, 0), _good(started, 1)
        assert len(of_session) + len(of_key) == THREADS
        assert len({each.runtime_id for each in of_session}) == 1
        assert sum(each.created for each in of_session) == 1
        assert len({each.session_api_key for each in of_session}) == 1
        assert len({each.model_dump_json() for each in of_key}) == 1
        arena.settle(**{session: "running", keyed: "running"})


def test_pause_against_stop(arena: Arena) -> None:
    for number in range(ROUNDS):
        name = f"runtime-of-{number}"
        runtime_id = arena.begin(name).runtime_id
        outcomes = arena.race(
            call(Client.pause_runtime, runtime_id), call(Client.stop_runtime, runtime_id, timeout=0)
        )
        stops = _good(outcomes, 1)
        assert [each.status for each in stops] == [RuntimeStatus.STOPPED] * (THREADS // 2)
        assert sum(each.changed for each in stops) == 1
        assert {type(each) for each in _bad(outcomes, 0)} <= {InvalidState}
        arena.settle(**{name: "exited"})


def test_pause_against_resume(arena: Arena) -> None:
    runtime_id = arena.begin("switched").runtime_id
    for _ in range(ROUNDS):
        outcomes = arena.race(call(Client.pause_runtime, runtime_id), call(Client.resume_runtime, runtime_id))
        pauses, resumes = _good(outcomes, 0), _good(outcomes, 1)
        assert len(pauses) + len(resumes) == THREADS
        before = arena.intended.get("switched", "running")
        after = arena.now("switched")
        # Pauses and resumes that change something alternate, so the state at the end tells their difference.
        balance = sum(each.changed for each in pauses) - sum(each.changed for each in resumes)
        assert balance == (after == "paused") - (before == "paused")
        arena.settle(switched=after)


def test_resume_against_expiry(arena: Arena) -> None:
    for number in range(ROUNDS):
        name = f"expiring-{number}"
        runtime_id = arena.begin(name, ttl=1.0).runtime_id
        with contextlib.suppress(InvalidState):
            arena.client.pause_runtime(runtime_id)
        outcomes = arena.race(call(Client.resume_runtime, runtime_id), spread=1.5)
        assert {type(each) for each in _bad(outcomes, 0)} <= {InvalidState}
        assert arena.client.wait_until(runtime_id, "removed").status == "removed"
        arena.settle(**{name: GONE})


def test_remove_against_start(arena: Arena) -> None:
    for number in range(ROUNDS):
        name = f"session-{number}"
        first = arena.begin(name, session_id=name)

        outcomes = arena.race(
            call(Client.remove_runtime, first.runtime_id), call(Client.start_runtime, job(name, session_id=name))
        )
        assert not _bad(outcomes, 0) + _bad(outcomes, 1)
        started = [each for each in _good(outcomes, 1) if isinstance(each, StartResponse)]
        fresh = {each.runtime_id for each in started} - {first.runtime_id}
        assert len(fresh) <= 1
        assert sum(each.created for each in started) == len(fresh)
        assert arena.client.get_runtime(first.runtime_id).status == "removed"
        arena.successors += len(fresh)
        arena.settle(**{name: "running" if fresh else GONE})


def test_renew_against_expiry(arena: Arena) -> None:
    for number in range(ROUNDS):
        name = f"renewed-{number}"
        runtime_id = arena.begin(name, ttl=1.0).runtime_id
        outcomes = arena.race(call(Client.renew_runtime, runtime_id, 3600), spread=0.1, until=_end(arena, runtime_id))
        assert {type(each) for each in _bad(outcomes, 0)} <= {InvalidState, RuntimeNotFound}
        # One renewal that was granted keeps it; where the expiry was first, none is granted.
        kept = bool(_good(outcomes, 0))
        assert kept == (not _bad(outcomes, 0))
        if not kept:
            arena.client.wait_until(runtime_id, "removed")
        arena.settle(**{name: "running" if kept else GONE})
