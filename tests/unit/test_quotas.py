"""Quotas: refused with what is used up, and counted exactly however many ask at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from runtime_server.errors import EngineTimeout
from runtime_server.runtimes.quotas import Quotas
from runtime_server.settings import OwnerLimits, Settings
from runtime_server.store.usage import Limits
from runtime_server.testing import InMemoryServer, in_memory_server

LIMITS = {
    "ada": OwnerLimits(max_runtimes=1),
    "bea": OwnerLimits(max_running=1),
    "cem": OwnerLimits(max_cpus=2.0, max_memory="3g"),
    "dan": OwnerLimits(max_running=5),
    "eve": OwnerLimits(max_running=1),
}
SETTINGS: dict[str, Any] = {
    "api_keys": ",".join(f"{owner}:key-{owner}" for owner in (*LIMITS, "bob")),
    "owner_limits": LIMITS,
    "default_cpus": 1.5,
    "default_memory": "1g",
}


@pytest.fixture(scope="module")
def server() -> Iterator[InMemoryServer]:
    with in_memory_server(**SETTINGS) as server:
        yield server


def post(server: InMemoryServer, owner: str, path: str, body: dict[str, Any], **headers: str) -> Result:
    client = TestClient(server.app, headers={"X-API-Key": f"key-{owner}"})
    return client.simulate_post(path, json=body, headers=headers)


def start(server: InMemoryServer, owner: str, *, key: str | None = None, **fields: Any) -> Result:
    headers = {"Idempotency-Key": key} if key else {}
    return post(server, owner, "/start", {"image": "busybox", **fields}, **headers)


def refused(result: Result, **members: Any) -> None:
    assert (result.status_code, result.json["code"]) == (429, "quota-exceeded")
    assert {name: result.json[name] for name in members} == members
    assert result.json["retryable"] is False
    assert int(result.headers["Retry-After"]) > 0


def test_what_is_refused_tells_the_limit_and_leaves_nothing(server: InMemoryServer) -> None:
    first = start(server, "ada", name="one").json
    created = server.engine.calls["create"]
    refused(start(server, "ada", name="two"), limit="max_runtimes", maximum=1, used=1)
    assert server.engine.calls["create"] == created
    assert [start(server, "bob").status_code for _ in range(3)] == [201] * 3
    client = TestClient(server.app, headers={"X-API-Key": "key-ada"})
    assert [each["name"] for each in client.simulate_get("/runtimes").json["runtimes"]] == ["one"]
    assert post(server, "ada", "/stop", {"runtime_id": first["runtime_id"]}).status_code == 200
    refused(start(server, "ada"), limit="max_runtimes")
    assert client.simulate_delete(f"/runtimes/{first['runtime_id']}").status_code == 200
    assert start(server, "ada").status_code == 201


def test_a_refused_start_may_be_sent_again_and_one_that_began_is_never_refused(server: InMemoryServer) -> None:
    begun = start(server, "bea", key="one")
    refused(start(server, "bea", key="two"), limit="max_running", maximum=1, used=1)
    assert start(server, "bea", key="one").json["runtime_id"] == begun.json["runtime_id"]
    assert post(server, "bea", "/pause", {"runtime_id": begun.json["runtime_id"]}).status_code == 200
    assert start(server, "bea", key="two").status_code == 201


def test_a_resume_over_the_limit_is_refused_and_the_runtime_stays_paused() -> None:
    with in_memory_server(**SETTINGS, max_running=3) as server:
        paused = start(server, "eve", session_id="s").json["runtime_id"]
        assert post(server, "eve", "/pause", {"runtime_id": paused}).status_code == 200
        other = start(server, "eve").json["runtime_id"]
        refused(post(server, "eve", "/resume", {"runtime_id": paused}), limit="max_running", maximum=1, used=1)
        refused(start(server, "eve", session_id="s"), limit="max_running")
        assert server.engine.inspect(paused).state == "paused"
        assert post(server, "eve", "/resume", {"runtime_id": other}).json["changed"] is False
        assert post(server, "eve", "/stop", {"runtime_id": other}).status_code == 200
        assert [start(server, "bob").status_code for _ in range(3)] == [201] * 3
        refused(post(server, "eve", "/resume", {"runtime_id": paused}), limit="host_max_running", maximum=3, used=3)


def test_cpus_and_memory_count_as_they_come_out(server: InMemoryServer) -> None:
    paused = start(server, "cem").json["runtime_id"]
    assert post(server, "cem", "/pause", {"runtime_id": paused}).status_code == 200
    refused(start(server, "cem"), limit="max_cpus", maximum=2.0, used=1.5)
    refused(start(server, "cem", cpus=0.4, memory="2.5g"), limit="max_memory", maximum=3 * 2**30, used=2**30)
    assert start(server, "cem", cpus=0.5, memory="2g").status_code == 201


def test_parallel_starts_and_resumes_end_with_exactly_the_limit(server: InMemoryServer) -> None:
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: start(server, "dan"), range(16)))
        assert Counter(each.status_code for each in results) == {201: 5, 429: 11}
        first = [each.json["runtime_id"] for each in results if each.status_code == 201]
        for each in first:
            assert post(server, "dan", "/pause", {"runtime_id": each}).status_code == 200
        assert [start(server, "dan").status_code for _ in range(3)] == [201] * 3
        ready = threading.Barrier(5)

        def resume(runtime: str) -> int:
            ready.wait()
            return post(server, "dan", "/resume", {"runtime_id": runtime}).status_code

        assert Counter(pool.map(resume, first)) == {200: 2, 429: 3}


def test_a_resume_that_fails_gives_its_place_back(server: InMemoryServer) -> None:
    runtime = start(server, "eve").json["runtime_id"]
    assert post(server, "eve", "/pause", {"runtime_id": runtime}).status_code == 200
    server.engine.fail_next("resume", EngineTimeout())
    assert post(server, "eve", "/resume", {"runtime_id": runtime}).status_code == 504
    assert post(server, "eve", "/resume", {"runtime_id": runtime}).status_code == 200


def test_an_owners_own_limits_replace_the_common_ones() -> None:
    text = '{"ci": {"max_running": 50, "max_memory": "2g"}, "all": {"max_runtimes": 0}}'
    settings = Settings(max_runtimes_per_owner=3, max_running_per_owner=2, owner_limits=text)
    quotas = Quotas(settings)
    assert quotas.of("ci") == Limits(max_runtimes=3, max_running=50, max_memory=2 * 2**30)
    assert quotas.of("all") == Limits(max_running=2)
    assert quotas.of("other") == Limits(max_runtimes=3, max_running=2)
    assert not Quotas(Settings()).of("other")
    for wrong in ("{", "[1]", '{"ci": {"max_runing": 1}}', '{"ci": {"max_memory": "lots"}}'):
        with pytest.raises(ValueError, match="owner_limits"):
            Settings(owner_limits=wrong)
