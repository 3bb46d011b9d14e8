"""``GET /metrics``: who may ask, and what it says; ``Server-Timing`` on every answer."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Api, MakeApi
from tests.api.fakes import NAME

TIMING = re.compile(r"[a-z]+;dur=\d+\.\d\d(, [a-z]+;dur=\d+\.\d\d)*")
ADMIN = {"X-API-Key": "k-admin"}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def with_admin(make_api: MakeApi, setting: str) -> Api:
    return make_api(api_keys="alice:k-alice,root+admin:k-admin", metrics=setting)


@pytest.mark.parametrize(
    ("setting", "nobody", "owner", "admin"),
    [("off", 404, 404, 404), ("key", 401, 403, 200), ("open", 200, 200, 200)],
)
def test_who_may_ask(make_api: MakeApi, setting: str, nobody: int, owner: int, admin: int) -> None:
    api = with_admin(make_api, setting)
    asked = [
        api.get("/metrics", headers={"X-API-Key": key}).status_code for key in ("", "k-wrong", "k-alice", "k-admin")
    ]
    assert asked == [nobody, nobody, owner, admin]
    if owner == 403:
        assert api.get("/metrics").json["setting"] == "RUNTIME_SERVER_METRICS"


def test_admins_are_asked_for_by_default() -> None:
    from runtime_server.settings import Settings

    assert Settings.model_fields["metrics"].default == "key"


def test_without_authentication_everybody_is_let_in(make_api: MakeApi) -> None:
    assert make_api(auth="off", api_keys="", metrics="key").get("/metrics").status_code == 200


def test_requests_are_counted_by_route_and_status(make_api: MakeApi) -> None:
    api = with_admin(make_api, "key")
    api.get(f"/runtimes/{NAME}")
    api.get("/runtimes/unknown")
    api.get("/runtimes/other")
    api.get("/secret-path-of-a-caller")
    api.ask("DELETE", f"/runtimes/{NAME}")
    for path in ("/pause", "/runtimes"):
        assert api.ask("PATCH", path, headers={"X-API-Key": "wrong"}).status_code == 401
    answer = api.get("/metrics", headers=ADMIN)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    found = samples(answer.text)

    def requests(method: str, route: str, status: str) -> float:
        labels = frozenset({"method": method, "route": route, "status": status}.items())
        return found[("runtime_server_http_requests_total", labels)]

    assert requests("GET", "/runtimes/{runtime_id}", "200") == 1
    assert requests("GET", "/runtimes/{runtime_id}", "404") == 2
    assert requests("DELETE", "/runtimes/{runtime_id}", "200") == 1
    assert requests("GET", "other", "404") == 1
    # A method that the route hasn't got is the caller's choice, too.
    assert requests("other", "/pause", "401") == requests("other", "/runtimes", "401") == 1
    actions = frozenset({"action": "remove", "phase": "total"}.items())
    assert found[("runtime_server_lifecycle_duration_seconds_count", actions)] == 1
    for secret in ("k-alice", "k-admin", "secret-path", NAME):
        assert secret not in answer.text


def test_openmetrics_where_it_is_asked_for(api: Api) -> None:
    wanted = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    answer = api.get("/metrics", headers={"Accept": wanted})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/runtimes", 200),
        ("GET", "/runtimes/unknown", 404),
        ("GET", "/nowhere", 404),
        ("PATCH", "/start", 405),
        ("POST", "/start", 400),
        ("OPTIONS", "/start", 200),
        ("GET", "/docs", 200),
    ],
)
def test_every_answer_tells_its_time(api: Api, method: str, path: str, status: int) -> None:
    answer = api.ask(method, path)
    assert answer.status_code == status
    told = answer.headers["Server-Timing"]
    assert TIMING.fullmatch(told)
    assert told.rpartition(", ")[2].startswith("total;dur=")


def test_answers_without_a_key_and_with_an_unforeseen_error_tell_it_too(api: Api) -> None:
    assert "total" in api.get("/runtimes", headers={"X-API-Key": ""}).headers["Server-Timing"]
    api.manager.fail = ZeroDivisionError()
    answer = api.get("/runtimes")
    assert answer.status_code == 500
    assert "total" in answer.headers["Server-Timing"]
