"""Owners: none learns of another's runtimes by any route; admins see all, but nobody's secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from runtime_server.api import ROUTES
from runtime_server.models import StartRequest
from runtime_server.testing import InMemoryServer, in_memory_server
from runtime_server.web.operation import Operation, Route
from tests.forms import build_form
from tests.unit.conftest import eventually

KEYS = {"alice": "key-alice", "bob": "key-bob", "root": "key-root"}
NUMBERS = count()

OPERATIONS = [
    pytest.param(route, method, operation, id=operation.id)
    for route in ROUTES
    for method, operation in route.operations.items()
    if not operation.public
]


@pytest.fixture(scope="module")
def server() -> Iterator[InMemoryServer]:
    keys = "alice:key-alice,bob:key-bob,root+admin:key-root"
    with in_memory_server(api_keys=keys, registry_prefix="registry.test/sandboxes", max_stream=0.05) as server:
        yield server


@pytest.fixture
def as_owner(server: InMemoryServer) -> Callable[[str], TestClient]:
    return lambda owner: TestClient(server.app, headers={"X-API-Key": KEYS[owner]})


Clients = Callable[[str], TestClient]


def start(client: TestClient, **fields: Any) -> dict[str, Any]:
    started = client.simulate_post("/start", json={"image": "busybox", **fields})
    assert started.status_code == 201, started.text
    runtime: dict[str, Any] = started.json
    return runtime


def told(result: Result) -> tuple[Any, ...]:
    """What an answer says, but for its request id."""
    body = {key: value for key, value in (result.json or {}).items() if key != "request_id"}
    headers = {key.lower() for key in result.headers}
    return result.status_code, body, headers


def names_a_runtime(route: Route, operation: Operation) -> bool:
    # A start's own names a session.
    asked = operation.request
    in_body = asked not in {None, StartRequest} and "runtime_id" in getattr(asked, "model_fields", {})
    return "{runtime_id}" in route.path or in_body


def ask(client: TestClient, route: Route, method: str, operation: Operation, name: str, **headers: str) -> Result:
    body = None if operation.example is None else dict(operation.example)
    if body is not None and "runtime_id" in body:
        body["runtime_id"] = name
    path = route.path.replace("{runtime_id}", name)
    if operation.body:
        headers["Content-Type"] = operation.body[0]
        return client.simulate_request(method, path, body=b"x", headers=headers, params={"path": "/srv/x"})
    params = {"path": "/srv/x"} if path.endswith("/files") else {}
    return client.simulate_request(method, path, json=body, headers=headers, params=params)


Headers = list[dict[str, str]]


def events_are_their_owners(alice: TestClient, bob: TestClient, mine: dict[str, Any], _: Headers) -> None:
    query = {"after": "0", "follow": "false"}
    assert mine["runtime_id"] in alice.simulate_get("/events", params=query).text
    for more in ({}, {"owner": "alice"}, {"owner": "nobody"}, {"status": "running"}):
        found = bob.simulate_get("/events", params=query | more)
        assert found.status_code == 200
        assert '"alice"' not in found.text
    tried, never = (
        bob.simulate_get("/events", params=query | {"runtime": name}) for name in (mine["name"], "never-was")
    )
    assert told(tried) == told(never)
    assert tried.status_code == 404


def built(alice: TestClient) -> str:
    image = f"registry.test/sandboxes/alice/agent:{next(NUMBERS)}"
    build = alice.simulate_post("/build", **build_form(image)).json["build_id"]
    eventually(lambda: alice.simulate_get(f"/builds/{build}").json["status"] == "SUCCESS")
    return image


def images_are_their_builders(alice: TestClient, bob: TestClient, _: dict[str, Any], __: Headers) -> None:
    image = built(alice)
    assert image in alice.simulate_get("/images").text
    assert "sandboxes/alice" not in bob.simulate_get("/images").text


def images_are_pulled_by_their_builders(
    alice: TestClient, bob: TestClient, _: dict[str, Any], headers: Headers
) -> None:
    answers = [
        bob.simulate_post("/images/pull", json={"image": image}, headers=more)
        for image, more in zip((built(alice), "registry.test/sandboxes/alice/none:1"), headers, strict=True)
    ]
    for each in answers:
        assert each.json.pop("image").startswith("registry.test/sandboxes/alice/")
        assert each.status_code == 404
    tried, never = ({**each.json, "image": None, "request_id": None} for each in answers)
    assert tried == never


def images_are_deleted_by_their_builders(
    alice: TestClient, bob: TestClient, _: dict[str, Any], headers: Headers
) -> None:
    image = built(alice)
    tried, never, others = (
        bob.simulate_delete(f"/images/{each}", headers=more)
        for each, more in zip((image, "registry.test/sandboxes/alice/none:1", "busybox"), [*headers, {}], strict=True)
    )
    assert told(tried) == told(never) == told(others)
    assert (tried.status_code, tried.json["code"]) == (403, "admin-only")
    assert alice.simulate_delete(f"/images/{image}").json["changed"]


def volumes_are_their_owners(alice: TestClient, bob: TestClient, _: dict[str, Any], headers: Headers) -> None:
    name = f"alices-{next(NUMBERS)}"
    start(alice, volumes=[{"host_path": name, "container_path": "/c"}])
    (volume,) = [each for each in alice.simulate_get("/volumes").json["volumes"] if each["name"] == name]
    for query in ({}, {"owner": "alice"}, {"sizes": "true"}):
        found = bob.simulate_get("/volumes", params=query)
        assert (found.status_code, {each["owner"] for each in found.json["volumes"]} <= {"bob"}) == (200, True)
    for tried in (name, volume["volume"]):
        for query in ({}, {"owner": "alice"}):
            answers = [told(bob.simulate_delete(f"/volumes/{each}", params=query)) for each in (tried, "never-was")]
            assert answers[0] == answers[1]
            assert answers[0][0] == 404
    keyed = [
        told(bob.simulate_delete(f"/volumes/{each}", headers=more))
        for each, more in zip((name, "never-was"), headers, strict=True)
    ]
    assert keyed[0] == keyed[1]


def pruning_spares_others(alice: TestClient, bob: TestClient, _: dict[str, Any], headers: Headers) -> None:
    theirs = start(alice)["runtime_id"]
    alice.simulate_post("/stop", json={"runtime_id": theirs})
    asked = {"workspaces_unused_for": 0}
    for more in ({"dry_run": True}, {}):
        found = bob.simulate_post("/maintenance/prune", json=asked | more, headers=headers[0] if not more else {})
        assert (found.status_code, found.json["runtimes"], found.json["workspaces"]) == (200, [], [])
    for wrong in ({"owner": "alice"}, {"owner": "nobody"}, {"build_cache": True}):
        refused = bob.simulate_post("/maintenance/prune", json=wrong)
        assert (refused.status_code, refused.json["code"]) == (403, "admin-only")
    assert alice.simulate_get(f"/runtimes/{theirs}").json["status"] == "stopped"
    pruned = alice.simulate_post("/maintenance/prune", json={"owner": "alice"}).json
    assert theirs in pruned["runtimes"]


SHARED = {
    "followEvents": events_are_their_owners,
    "listImages": images_are_their_builders,
    "pullImage": images_are_pulled_by_their_builders,
    "deleteImage": images_are_deleted_by_their_builders,
    "listVolumes": volumes_are_their_owners,
    "deleteVolume": volumes_are_their_owners,
    "prune": pruning_spares_others,
}
"""How routes that name no runtime are tried with what is another's."""


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "idempotent"])
@pytest.mark.parametrize("kind", ["runtime_id", "name"])
@pytest.mark.parametrize(("route", "method", "operation"), OPERATIONS)
def test_anothers_runtime_is_as_one_that_never_was(
    route: Route,
    method: str,
    operation: Operation,
    kind: str,
    keyed: bool,
    server: InMemoryServer,
    as_owner: Clients,
) -> None:
    alice, bob = as_owner("alice"), as_owner("bob")
    more = {"labels": {"whose": "alice"}, "workspace": "/workspace"}
    mine = start(alice, name=f"alices-{next(NUMBERS)}", session_id=f"s{next(NUMBERS)}", **more)
    before = alice.simulate_get(f"/runtimes/{mine['runtime_id']}", query_string="environment=values").json
    headers = [{"Idempotency-Key": f"k{next(NUMBERS)}"} for _ in range(2)] if keyed else [{}, {}]
    if names_a_runtime(route, operation):
        calls = server.engine.calls.copy()
        missing = {"runtime_id": "runtime-000000000000", "name": "never-was"}[kind]
        tried, never = (
            ask(bob, route, method, operation, name, **more)
            for name, more in zip((mine[kind], missing), headers, strict=True)
        )
        assert told(tried) == told(never)
        assert tried.status_code == (426 if operation.ticketed else 404)
        assert {key: n for key, n in (server.engine.calls - calls).items() if key not in {"ping", "list"}} == {}
    elif operation.id == "startRuntime":
        other = bob.simulate_post(
            "/start",
            json={"image": "busybox", "name": mine["name"], "session_id": mine["session_id"]},
            headers=headers[0],
        )
        assert (other.status_code, other.json["created"], other.json["owner"]) == (201, True, "bob")
        assert other.json["runtime_id"] != mine["runtime_id"]
        assert other.json["session_api_key"] != mine["session_api_key"]
    elif operation.id == "listRuntimes":
        for query in ("", "label=whose%3Dalice", "owner=alice", "owner=nobody", "status=running,removed"):
            found = bob.simulate_get("/runtimes", query_string=query)
            assert found.status_code == 200
            assert {each["owner"] for each in found.json["runtimes"]} <= {"bob"}
            assert mine["runtime_id"] not in found.text
    elif operation.id == "getSession":
        tried, never = (bob.simulate_get(f"/sessions/{each}") for each in (mine["session_id"], "never-was"))
        assert told(tried) == told(never)
        assert tried.status_code == 404
    elif operation.id == "getSessions":
        assert bob.simulate_get("/sessions/batch", params={"ids": mine["session_id"]}).json == []
    elif operation.id == "listRunning":
        found = bob.simulate_get("/list")
        assert {each["owner"] for each in found.json["runtimes"]} <= {"bob"}
        assert mine["runtime_id"] not in found.text
    elif "{workspace}" in route.path:
        kept = {"runtime_id": mine["workspace"]["workspace_id"], "name": mine["session_id"]}[kind]
        missing = {"runtime_id": "workspace-0000000000000000", "name": "never-was"}[kind]
        calls = server.engine.calls.copy()
        tried, never = (
            bob.simulate_request(method, route.path.format(workspace=name), headers=more)
            for name, more in zip((kept, missing), headers, strict=True)
        )
        assert told(tried) == told(never)
        assert tried.status_code == 404
        assert set(server.engine.calls - calls) <= {"ping", "list", "list_volumes"}
    elif operation.id == "listWorkspaces":
        for query in ("", "owner=alice", f"session_id={mine['session_id']}", "sizes=true"):
            found = bob.simulate_get("/workspaces", query_string=query)
            assert found.status_code == 200
            assert {each["owner"] for each in found.json["workspaces"]} <= {"bob"}
            assert mine["session_id"] not in found.text
    elif operation.id in SHARED:
        SHARED[operation.id](alice, bob, mine, headers)
    elif "build" in route.path or "image" in route.path or "registry" in route.path:
        anothers_build_is_as_one_that_never_was(alice, bob, route, method, headers)
    else:
        pytest.fail("say here how this route is tried with another's runtime")
    after = alice.simulate_get(f"/runtimes/{mine['runtime_id']}", query_string="environment=values").json
    assert after == before
    assert alice.simulate_get(f"/workspaces/{mine['session_id']}").json["in_use_by"] == [mine["runtime_id"]]


def anothers_build_is_as_one_that_never_was(
    alice: TestClient, bob: TestClient, route: Route, method: str, headers: list[dict[str, str]]
) -> None:
    theirs = f"registry.test/sandboxes/alice/agent:{next(NUMBERS)}"
    build_id = alice.simulate_post("/build", **build_form(theirs)).json["build_id"]
    form = build_form(theirs)
    asked: dict[str, Any] = {"body": form["body"]} if method == "POST" else {}
    more = form["headers"] if method == "POST" else {}
    answers = []
    for image, build, keyed in zip(
        (theirs, "registry.test/sandboxes/alice/none:1"), (build_id, "build-000000000000"), headers, strict=True
    ):
        asked["params"] = {"/build_status": {"build_id": build}, "/image_exists": {"image": image}}.get(route.path)
        path = route.path.format(build_id=build)
        answers.append(told(bob.simulate_request(method, path, **asked, headers={**more, **keyed})))
    assert answers[0] == answers[1]
    own = "registry.test/sandboxes/bob"
    wanted = {"/registry_prefix": (200, {"registry_prefix": own}), "/image_exists": (200, {"exists": False})}
    status, body = wanted.get(route.path, (403 if method == "POST" else 404, {}))
    assert (answers[0][0], answers[0][1] | body) == (status, answers[0][1])
    assert alice.simulate_get(f"/builds/{build_id}").json["build_id"] == build_id


def test_a_cursor_leads_nobody_into_anothers_list(as_owner: Clients) -> None:
    alice, bob = as_owner("alice"), as_owner("bob")
    for _ in range(3):
        start(alice)
    cursor = alice.simulate_get("/runtimes", params={"limit": 1}).json["next_cursor"]
    found = bob.simulate_get("/runtimes", params={"cursor": cursor}).json["runtimes"]
    assert {each["owner"] for each in found} <= {"bob"}


def test_one_idempotency_key_of_two_owners_is_two_calls(as_owner: Clients) -> None:
    key = {"Idempotency-Key": "shared"}
    starts = [
        as_owner(who).simulate_post("/start", json={"image": "busybox"}, headers=key) for who in ("alice", "bob")
    ]
    assert [each.json["owner"] for each in starts] == ["alice", "bob"]
    assert starts[0].json["runtime_id"] != starts[1].json["runtime_id"]
    assert not any("Idempotency-Replayed" in each.headers for each in starts)


def test_an_alias_that_looks_like_anothers_id_is_the_owners_own(as_owner: Clients) -> None:
    alice, bob, root = map(as_owner, ("alice", "bob", "root"))
    target = start(alice)["runtime_id"]
    own = start(bob, name=target)["runtime_id"]
    assert bob.simulate_get(f"/runtimes/{target}").json["runtime_id"] == own
    assert root.simulate_get(f"/runtimes/{target}").json["runtime_id"] == target


def test_an_admin_acts_on_all(as_owner: Clients) -> None:
    alice, bob, root = map(as_owner, ("alice", "bob", "root"))
    theirs = start(alice, name="only-alices", session_id="s", environment={"A": "hush"})
    others = start(bob, name="bobs")
    for path, status in (("/pause", "paused"), ("/resume", "running"), ("/stop", "stopped")):
        done = root.simulate_post(path, json={"runtime_id": "only-alices"})
        assert (done.status_code, done.json["status"]) == (200, status)
    listed = root.simulate_get("/runtimes", params={"limit": 1000}).json["runtimes"]
    assert {theirs["runtime_id"], others["runtime_id"]} <= {each["runtime_id"] for each in listed}
    alices = root.simulate_get("/runtimes", params={"owner": "alice", "limit": 1000})
    assert {each["owner"] for each in alices.json["runtimes"]} == {"alice"}
    seen = root.simulate_get("/runtimes/only-alices", query_string="environment=values")
    assert (seen.json["environment"], seen.json["session_api_key"]) == ({"A": None}, None)
    assert theirs["session_api_key"] not in alices.text
    assert root.simulate_delete("/runtimes/only-alices").json["status"] == "removed"


def test_an_admins_alias_is_its_own_first_and_then_the_only_one(as_owner: Clients) -> None:
    alice, bob, root = map(as_owner, ("alice", "bob", "root"))
    first = start(alice, name="twin")["runtime_id"]
    assert root.simulate_get("/runtimes/twin").json["runtime_id"] == first
    start(bob, name="twin")
    several = root.simulate_post("/stop", json={"runtime_id": "twin"})
    assert (several.status_code, several.json["code"]) == (404, "runtime-not-found")
    assert "Several" in several.json["detail"]
    own = start(root, name="twin")
    assert own["owner"] == "root"
    assert root.simulate_get("/runtimes/twin").json["runtime_id"] == own["runtime_id"]


def test_the_environment_is_names_unless_its_owner_asks(as_owner: Clients) -> None:
    alice = as_owner("alice")
    runtime = start(alice, environment={"TOKEN": "hush", "EMPTY": ""}, session_id="env")
    names, values = {"TOKEN": None, "EMPTY": None}, {"TOKEN": "hush", "EMPTY": ""}
    assert runtime["environment"] == names
    path = f"/runtimes/{runtime['runtime_id']}"
    assert alice.simulate_get(path).json["environment"] == names
    assert alice.simulate_get(path, query_string="environment=names").json["environment"] == names
    assert alice.simulate_get(path, query_string="environment=values").json["environment"] == values
    assert alice.simulate_get(path, query_string="environment=all").status_code == 422
    assert "hush" not in alice.simulate_get("/runtimes", params={"limit": 1000}).text
    assert "hush" not in alice.simulate_post(f"{path}/renew", json={"ttl": None}).text


SAFE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@pytest.mark.parametrize("path", [*(r.path for r in ROUTES), "/nope", "/runtimes?colour=red", "/runtimes/nope"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_every_answer_has_safe_headers(as_owner: Clients, method: str, path: str) -> None:
    for headers in ({}, {"X-API-Key": "wrong"}):
        found = (
            as_owner("alice")
            .simulate_request(
                method,
                re.sub("{[^}]+}", "nope", path),
                headers=headers,
            )
            .headers
        )
        got = {name: found.get(name) for name in SAFE}
        if path == "/docs" and "style-src" in str(got["content-security-policy"]):
            assert "default-src 'none'" in str(got["content-security-policy"])
            got["content-security-policy"] = SAFE["content-security-policy"]
        assert got == SAFE


def test_an_unforeseen_error_has_safe_headers_and_says_nothing(
    server: InMemoryServer, as_owner: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("hush")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime_server.runtimes.manager.RuntimeManager.list", fail)
        failed = as_owner("alice").simulate_get("/runtimes")
    assert failed.status_code == 500
    assert "hush" not in failed.text
    assert SAFE.items() <= {key.lower(): value for key, value in failed.headers.items()}.items()
