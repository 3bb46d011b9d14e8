"""The whole service behind its API, on the in-memory engine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from runtime_server.testing import InMemoryServer, in_memory_server

OWNERS = count()
BOB = {"X-API-Key": "key-bob"}


@pytest.fixture(scope="module")
def server() -> Iterator[InMemoryServer]:
    keys = ",".join(["bob:key-bob", *(f"owner{n}:key-{n}" for n in range(9))])
    with in_memory_server(api_keys=keys) as server:
        yield server


@pytest.fixture
def client(server: InMemoryServer) -> TestClient:
    """A client with a key, and so with runtimes, of its own."""
    return TestClient(server.app, headers={"X-API-Key": f"key-{next(OWNERS)}"})


def post(client: TestClient, path: str, body: Any, **headers: str) -> Result:
    return client.simulate_post(path, json=body, headers=headers)


def test_a_runtimes_life(client: TestClient) -> None:
    started = post(client, "/start", {"image": "busybox", "name": "one", "labels": {"team": "x"}})
    assert started.status_code == 201
    runtime = started.json["runtime_id"]
    assert (started.json["status"], started.json["created"]) == ("running", True)
    steps = [("/pause", "paused"), ("/resume", "running"), ("/stop", "stopped")]
    for path, status in steps:
        done = post(client, path, {"runtime_id": "one"})
        again = post(client, path, {"runtime_id": runtime})
        assert (done.status_code, done.json["status"], done.json["changed"]) == (200, status, True)
        assert (again.status_code, again.json["status"], again.json["changed"]) == (200, status, False)
    refused = post(client, "/pause", {"runtime_id": runtime})
    assert (refused.status_code, refused.json["code"]) == (409, "invalid-state")
    assert refused.json["runtime_status"] == "stopped"
    assert client.simulate_delete(f"/runtimes/{runtime}").json["status"] == "removed"
    assert client.simulate_get(f"/runtimes/{runtime}").json["status"] == "removed"


def test_the_same_start_twice_is_one_runtime(server: InMemoryServer, client: TestClient) -> None:
    created = server.engine.calls["create"]
    first = post(client, "/start", {"image": "busybox"}, **{"Idempotency-Key": "k"})
    again = post(client, "/start", {"image": "busybox"}, **{"Idempotency-Key": "k"})
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert server.engine.calls["create"] == created + 1
    reused = post(client, "/start", {"image": "busybox", "wait": 1}, **{"Idempotency-Key": "k"})
    assert reused.json["code"] == "idempotency-key-reused"


def test_another_owners_runtime_does_not_exist(client: TestClient) -> None:
    runtime = post(client, "/start", {"image": "busybox", "name": "mine"}).json["runtime_id"]
    for name in (runtime, "mine"):
        for path in ("/pause", "/resume", "/stop"):
            assert post(client, path, {"runtime_id": name}, **BOB).status_code == 404
        assert client.simulate_get(f"/runtimes/{name}", headers=BOB).status_code == 404
        assert client.simulate_delete(f"/runtimes/{name}", headers=BOB).status_code == 404
    assert client.simulate_get("/runtimes", headers=BOB).json["runtimes"] == []
    assert client.simulate_get("/runtimes/mine").json["status"] == "running"


def test_listing_filters_and_pages(client: TestClient) -> None:
    ids = [
        post(client, "/start", {"image": "busybox", "labels": {"n": str(n), "even": str(n % 2 == 0)}}).json[
            "runtime_id"
        ]
        for n in range(4)
    ]
    post(client, "/pause", {"runtime_id": ids[0]})

    def listed(query: str) -> list[str]:
        page = client.simulate_get("/runtimes", query_string=query).json
        return [each["runtime_id"] for each in page["runtimes"]]

    assert listed("status=paused") == [ids[0]]
    assert set(listed("status=paused,running&label=n")) == set(ids)
    assert set(listed("label=even%3DTrue")) == {ids[0], ids[2]}
    assert listed("label=even%3DTrue&label=n%3D2") == [ids[2]]
    page = client.simulate_get("/runtimes", query_string="limit=3").json
    rest = client.simulate_get("/runtimes", params={"limit": 3, "cursor": page["next_cursor"]}).json
    assert [each["runtime_id"] for each in page["runtimes"] + rest["runtimes"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert client.simulate_get("/runtimes", query_string="cursor=bogus").json["code"] == "validation-failed"


def test_the_server_tells_of_itself(client: TestClient) -> None:
    assert client.simulate_get("/readyz").json == {"ready": True, "reason": None}
    assert client.simulate_get("/version").json["engine"]["version"]
