"""Quotas and the queue of starts on a real engine, with real servers and processes that die."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime_server.client import RetryPolicy
from runtime_server.errors import QuotaExceeded
from tests.faults.server import Site, eventually, job


def test_sixteen_clients_of_two_servers_get_exactly_the_limit(site: Site) -> None:
    env = {"RUNTIME_SERVER_MAX_RUNNING_PER_OWNER": "4", "RUNTIME_SERVER_MAX_STARTING": "2"}
    servers = [site.start(env=env), site.start(workers=1, env=env)]
    clients = [server.client() for server in servers]

    def start(number: int) -> str:
        try:
            return str(clients[number % 2].start_runtime(**job(str(number)), wait=60).status)
        except QuotaExceeded as problem:
            return f"{problem.extensions['limit']} {problem.extensions['maximum']}, attempt {problem.attempts}"

    with ThreadPoolExecutor(16) as pool:
        assert Counter(pool.map(start, range(16))) == {"running": 4, "max_running 4, attempt 1": 12}
    assert [state for _, state in site.states()] == ["running"] * 4
    paused = next(iter(clients[0].list_runtimes())).runtime_id
    clients[0].pause_runtime(paused)
    clients[1].start_runtime(**job("next"), wait=60)
    with pytest.raises(QuotaExceeded):
        clients[1].resume_runtime(paused)
    assert Counter(state for _, state in site.states()) == {"running": 4, "paused": 1}
    for client in clients:
        client.close()


def test_a_killed_workers_place_goes_to_the_next_and_its_start_is_finished(site: Site) -> None:
    server = site.start(workers=2, env={"RUNTIME_SERVER_MAX_STARTING": "1"})
    with server.client(retry=RetryPolicy(max_attempts=20), timeout=60) as client:
        site.kill_at("created")
        with ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda n: client.start_runtime(**job(str(n)), wait=60).runtime_id, range(6)))
        assert site.killed()
        eventually(lambda: {str(client.get_runtime(each).status) for each in done} == {"running"}, "all run")
    assert site.states() == [(str(number), "running") for number in range(6)]
