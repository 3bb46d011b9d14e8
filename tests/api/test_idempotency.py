"""``Idempotency-Key`` as callers see it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from falcon.testing import Result

from runtime_server.api import ROUTES
from runtime_server.errors import InvalidState, RuntimeBusy
from runtime_server.web.idempotency import fingerprint
from tests.api.conftest import OTHER_KEY, Api
from tests.api.fakes import NAME, REFERENCE, VOLUME, path_of
from tests.forms import sent

MUTATING = [
    pytest.param(method, path_of(route), sent(operation), id=operation.id)
    for route in ROUTES
    for method, operation in route.operations.items()
    if operation.mutating
]


def ask(api: Api, method: str, path: str, request: dict[str, Any], **headers: str) -> Result:
    return api.ask(method, path, **{**request, "headers": {**request.get("headers", {}), **headers}})


def happened(api: Api) -> int:
    """How often something was asked of a manager, or done in a runtime."""
    return len(api.manager.asked) + api.engine.calls["exec"]


def test_every_change_is_mutating() -> None:
    others = {each.id for route in ROUTES for m, each in route.operations.items() if m != "GET" and not each.mutating}
    assert others == {
        "pullImage",  # what is there is there, however often it is pulled
        "makeTerminalTicket",  # one more harms nobody
        "writeFiles",  # writes the same again, and its body isn't kept
        "deleteFiles",  # what is gone is gone
    }
    assert not any(each.mutating for route in ROUTES for m, each in route.operations.items() if m == "GET")


@pytest.mark.parametrize(("method", "path", "request_"), MUTATING)
def test_the_same_call_twice_happens_once(api: Api, method: str, path: str, request_: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": 'any "printable" ~ text'}
    first = ask(api, method, path, request_, **headers)
    again = ask(api, method, path, request_, **headers, **{"X-Request-ID": "second", "X-Attempt": "2"})
    assert happened(api) == 1
    assert (again.status_code, again.json) == (first.status_code, first.json)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["X-Request-ID"] == "second"
    kept = {"content-type", "cache-control", "content-length"}
    assert {k: again.headers[k] for k in kept} == {k: first.headers[k] for k in kept}


@pytest.mark.parametrize(("method", "path", "request_"), MUTATING)
def test_without_a_key_it_happens_each_time(api: Api, method: str, path: str, request_: dict[str, Any]) -> None:
    for _ in range(2):
        ask(api, method, path, request_)
    assert happened(api) == 2


def test_only_what_frees_a_full_disk_runs_unrecorded(api: Api) -> None:
    for case in MUTATING:
        method, path, request = case.values
        ask(api, str(method), str(path), cast(Any, request), **{"Idempotency-Key": f"{method} {path}"})
    paths = [f"{case.values[0]} {case.values[1]}" for case in MUTATING]
    freeing = {path for path, unrecorded in zip(paths, api.calls.unrecorded, strict=True) if unrecorded}
    assert freeing == {
        *("POST /stop", f"DELETE /runtimes/{NAME}", "POST /maintenance/prune"),
        *(f"DELETE /images/{REFERENCE}", f"DELETE /volumes/{VOLUME}"),
    }


def test_start_hands_its_key_on(api: Api) -> None:
    api.post("/start", {"image": "a"}, headers={"Idempotency-Key": "k1"})
    api.post("/start", {"image": "a"})
    assert [each[3] for each in api.manager.asked] == ["k1", None]


def test_a_final_problem_is_replayed_under_the_new_request_id(api: Api) -> None:
    api.manager.fail = InvalidState("It has stopped.", runtime_status="stopped", allowed_actions=[])
    first = api.post("/pause", {"runtime_id": NAME}, headers={"Idempotency-Key": "k"})
    api.manager.fail = None
    again = api.post("/pause", {"runtime_id": NAME}, headers={"Idempotency-Key": "k"})
    assert again.status_code == 409
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == "application/problem+json"
    assert again.json == {**first.json, "request_id": again.headers["X-Request-ID"]}
    assert first.json["request_id"] != again.json["request_id"]


@pytest.mark.parametrize("error", [RuntimeBusy(), RuntimeError("x"), OSError("y")])
def test_what_may_change_is_not_kept(api: Api, error: Exception) -> None:
    api.manager.fail = error
    assert api.post("/pause", {"runtime_id": NAME}, headers={"Idempotency-Key": "k"}).status_code >= 409
    api.manager.fail = None
    again = api.post("/pause", {"runtime_id": NAME}, headers={"Idempotency-Key": "k"})
    assert again.status_code == 200
    assert "Idempotency-Replayed" not in again.headers


def test_one_key_is_one_request_of_one_owner(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    api.post("/pause", {"runtime_id": NAME}, headers=headers)
    for path, body in (("/resume", {"runtime_id": NAME}), ("/pause", {"runtime_id": "other"})):
        reused = api.post(path, body, headers=headers)
        assert (reused.status_code, reused.json["code"]) == (422, "idempotency-key-reused")
    other = api.post("/resume", {"runtime_id": NAME}, headers={**headers, "X-API-Key": OTHER_KEY})
    assert other.status_code == 200


@pytest.mark.parametrize("key", ["", "a" * 256, "a\tb", "ä", "a\x7f"])
@pytest.mark.parametrize(("method", "path", "request_"), MUTATING)
def test_a_key_that_is_none_is_a_bad_request(
    api: Api, method: str, path: str, request_: dict[str, Any], key: str
) -> None:
    result = ask(api, method, path, request_, **{"Idempotency-Key": key})
    assert (result.status_code, result.json["code"]) == (400, "bad-request")
    assert not api.manager.asked


def test_the_fingerprint_is_of_meaning_not_of_bytes() -> None:
    same = fingerprint("POST", "/start", {"image": "a", "environment": {"x": "1", "y": "2"}})
    assert fingerprint("POST", "/start", {"environment": {"y": "2", "x": "1"}, "image": "a"}) == same
    others = [
        fingerprint("POST", "/start", {"image": "a", "environment": {"x": "1", "y": "3"}}),
        fingerprint("POST", "/start", {"image": "a", "environment": {"x": 1, "y": "2"}}),
        fingerprint("DELETE", "/start", {"image": "a", "environment": {"x": "1", "y": "2"}}),
        fingerprint("POST", "/stop", {"image": "a", "environment": {"x": "1", "y": "2"}}),
        fingerprint("POST", "/start", None),
    ]
    assert len({same, *others}) == 6


def test_credentials_leave_no_trace_in_the_fingerprint() -> None:
    def of(password: str) -> str:
        auth = {"username": "u", "password": password}
        return fingerprint("POST", "/start", {"image": "a", "registry_auth": auth})

    assert of("one") == of("two")
    assert of("one") != fingerprint("POST", "/start", {"image": "a"})
