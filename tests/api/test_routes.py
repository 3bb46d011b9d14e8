"""The route table, and what every route does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from falcon import inspect
from falcon.testing import TestClient
from pydantic import RootModel

from runtime_server.api import PAGES, ROUTES
from runtime_server.web.operation import Operation, Route
from tests.api.conftest import OTHER_KEY, Api, MakeApi
from tests.api.fakes import BUILD, NAME, path_of
from tests.forms import sent

OPERATIONS = [
    pytest.param(route, method, operation, id=operation.id)
    for route in ROUTES
    for method, operation in route.operations.items()
]


QUERIES = {
    "/build_status": f"build_id={BUILD}",
    "/image_exists": "image=busybox",
    "/runtimes/{runtime_id}/files": "path=/srv/page.html",
}
"""What these routes can't do without."""


def query_of(route: Route) -> str:
    return QUERIES.get(route.path, "")


def without_key(api: Api) -> Api:
    return dataclasses.replace(api, client=TestClient(api.client.app))


def test_the_table_is_what_falcon_serves(api: Api) -> None:
    served = {
        route.path: {each.method for each in route.methods if not each.internal}
        for route in inspect.inspect_routes(api.client.app)
    }
    told = {
        route.path: set(route.operations) | ({"HEAD"} if "GET" in route.operations else set())
        for route in ROUTES + PAGES
    }
    assert served == told
    names = {route.path: route.class_name for route in inspect.inspect_routes(api.client.app)}
    assert names == {route.path: route.resource.__name__ for route in ROUTES + PAGES}


def test_operation_ids_are_unique() -> None:
    ids = [operation.id for route in ROUTES for operation in route.operations.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("route", "method", "operation"), OPERATIONS)
def test_every_operation(api: Api, route: Route, method: str, operation: Operation) -> None:
    request = sent(operation) | {"query_string": query_of(route)}
    headers = request.pop("headers", {})
    query_free = api.ask(method, path_of(route), **request, headers={**headers, "X-Request-ID": "mine.1"})
    if operation.ticketed:
        # What a terminal answers to a handshake, a real server shows.
        assert query_free.json["code"] == "upgrade-required"
        return
    assert query_free.status_code == next(iter(operation.answers))
    assert query_free.headers["X-Request-ID"] == "mine.1"
    stranger = without_key(api).ask(method, path_of(route), **request, headers=headers)
    assert stranger.status_code == (query_free.status_code if operation.public else 401)
    if not operation.public:
        assert stranger.headers["WWW-Authenticate"] == "Bearer"
        assert stranger.json["code"] == "unauthorized"
    answer = operation.answers[query_free.status_code]
    assert (query_free.headers["Content-Type"]).startswith(answer.media_type)
    if answer.model is not None and not issubclass(answer.model, RootModel):
        assert set(query_free.json) == set(answer.model.model_fields)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_method_that_is_not_there_is_405_with_allow(api: Api, route: Route) -> None:
    missing = next(method for method in ("PATCH", "PUT") if method not in route.operations)
    result = api.ask(missing, path_of(route), json={})
    assert result.status_code == 405
    assert result.json["code"] == "method-not-allowed"
    assert set(route.operations) <= set(result.headers["Allow"].split(", ")) == set(result.json["allowed"])
    options = without_key(api).ask("OPTIONS", path_of(route))
    assert options.status_code == 200
    assert set(route.operations) <= set(options.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if "GET" in route.operations and not route.ticketed],
    ids=lambda route: route.path,
)
def test_get_routes_refuse_unknown_query_parameters_and_answer_head(api: Api, route: Route) -> None:
    refused = api.get(path_of(route), query_string=f"{query_of(route)}&colour=red")
    assert refused.status_code == 422
    assert refused.json["errors"] == [{"loc": ["colour"], "msg": "Unknown field", "type": "extra_forbidden"}]
    query = query_of(route)
    head, get = (api.ask(method, path_of(route), query_string=query) for method in ("HEAD", "GET"))
    assert (head.status_code, head.text) == (200, "")
    if route.path != "/metrics":  # each answer of which counts the one before
        # A stream's length is known to nobody.
        assert head.headers.get("Content-Length") == get.headers.get("Content-Length")


@pytest.mark.parametrize("path", ["/nope", "/runtimes/a/b", "/start/now", "/%00", "/runtimes/x%2Fy/renew/"])
def test_an_unknown_route_is_a_problem(api: Api, path: str) -> None:
    result = api.post(path, {})
    assert (result.status_code, result.json["code"]) == (404, "route-not-found")
    assert result.headers["Content-Type"] == "application/problem+json"
    assert result.json["request_id"] == result.headers["X-Request-ID"]


def test_a_trailing_slash_changes_nothing(api: Api) -> None:
    assert api.get("/runtimes/").json == api.get("/runtimes").json


@pytest.mark.parametrize("name", ["x", "%00", "%0a", "%ff", "a" * 129, "%F0%9F%98%80", "%ED%A0%80"])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("POST", "/renew")])
def test_a_name_that_nobody_can_have_is_not_found(api: Api, name: str, method: str, suffix: str) -> None:
    result = api.ask(method, f"/runtimes/{name}{suffix}", json={"ttl": None} if suffix else None)
    assert (result.status_code, result.json["code"]) == (404, "runtime-not-found")


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["BREW", "CONNECT", "TRACE"])
def test_strange_methods_are_the_callers_fault(api: Api, method: str) -> None:
    result = api.ask(method, "/runtimes")
    assert result.status_code in {400, 405}
    assert result.json["retryable"] is False


def test_request_ids_are_taken_over_only_if_they_are_plain(api: Api) -> None:
    for given in ("a" * 129, "a b", "ä", "a\tb", "<script>"):
        told = api.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
        assert told != given
        assert len(told) == 32


def test_listing_reads_its_query(api: Api) -> None:
    api.get("/runtimes", query_string="status=running,paused&status=error&label=a&label=b%3Dc%3Dd&limit=7&cursor=xyz")
    assert api.manager.asked[-1] == (
        "list",
        "alice",
        ["running", "paused", "error"],
        {"a": None, "b": "c=d"},
        7,
        "xyz",
    )
    api.get("/runtimes")
    plain: tuple[Any, ...] = ("list", "alice", [], {}, 100, None)
    assert api.manager.asked[-1] == plain


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ("limit=0", ["limit"]),
        ("limit=1001", ["limit"]),
        ("limit=1&limit=2", ["limit"]),
        ("limit=" + "9" * 5000, ["limit"]),
        ("status=sleeping", ["status", 0]),
        ("label=", ["label", 0]),
        ("label=%3Dx", ["label"]),
        ("label=a%3D1&label=a%3D2", ["label"]),
        ("cursor=", ["cursor"]),
    ],
)
def test_a_wrong_query_says_where(api: Api, query: str, loc: list[str]) -> None:
    result = api.get("/runtimes", query_string=query)
    assert result.status_code == 422
    assert [each["loc"] for each in result.json["errors"]] == [loc]


def test_too_many_query_fields_are_a_bad_request(api: Api) -> None:
    assert api.get("/runtimes", query_string="&".join(["label=a"] * 300)).json["code"] == "bad-request"


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (None, 0.0)),
        ("timeout=5", (None, 0.0)),
        ("wait_for=running", ("running", 30.0)),
        ("wait_for=running&timeout=2.5", ("running", 2.5)),
        ("wait_for=running&timeout=999", ("running", 60.0)),
    ],
)
def test_waiting_is_asked_for_by_wait_for(make_api: MakeApi, query: str, asked: tuple[str | None, float]) -> None:
    api = make_api(max_wait=60)
    assert api.get(f"/runtimes/{NAME}", query_string=query).status_code == 200
    assert api.manager.asked[-1] == ("get", "alice", NAME, *asked)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": OTHER_KEY},
        {"Authorization": f"Bearer {OTHER_KEY}", "X-API-Key": ""},
        {"Authorization": f"bearer  {OTHER_KEY}", "X-API-Key": ""},
        {"Authorization": "Bearer k-alice", "X-API-Key": OTHER_KEY},
    ],
)
def test_the_keys_name_is_the_owner(api: Api, headers: dict[str, str]) -> None:
    assert api.get("/runtimes", headers=headers).json["runtimes"][0]["owner"] == "bob"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "wrong"},
        {"X-API-Key": "wrong", "Authorization": "Bearer k-bob"},
        {"X-API-Key": "\xff\xfe"},
        {"X-API-Key": "", "Authorization": "Basic k-bob"},
        {"X-API-Key": "", "Authorization": "Bearer"},
        {"X-API-Key": ""},
    ],
)
def test_a_wrong_key_is_401(api: Api, headers: dict[str, str]) -> None:
    result = api.get("/runtimes", headers=headers)
    assert result.status_code == 401
    assert "wrong" not in result.text
    assert not api.manager.asked


def test_without_authentication_everyone_is_local(make_api: MakeApi) -> None:
    api = without_key(make_api(auth="off", api_keys=""))
    assert api.get("/runtimes").json["runtimes"][0]["owner"] == "local"


def test_readiness_tells_its_reason_to_callers_with_a_key(api: Api) -> None:
    api.manager.ready = api.manager.ready.model_copy(update={"ready": False, "reason": "no engine"})
    known, stranger = api.get("/readyz"), without_key(api).get("/readyz")
    assert (known.status_code, known.json) == (503, {"ready": False, "reason": "no engine"})
    assert (stranger.status_code, stranger.json) == (503, {"ready": False, "reason": None})
