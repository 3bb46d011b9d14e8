"""Every error of the catalogue as an answer, and what nobody foresaw."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime_server.errors import CATALOGUE, EngineUnreachable, MethodNotAllowed, Problem
from tests.api.conftest import Api, MakeApi
from tests.api.fakes import NAME


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=CATALOGUE)
def test_every_code_of_the_catalogue_is_answered_as_it_is(api: Api, kind: type[Problem], key: str | None) -> None:
    carried = {name: ["GET"] if kind is MethodNotAllowed else "x" for name in kind.carries}
    api.manager.fail = kind("What happened.", retry_after=1.2, **carried)
    headers = {"Idempotency-Key": key} if key else {}
    result = api.post("/pause", {"runtime_id": NAME}, headers=headers)
    assert result.status_code == kind.status
    assert result.headers["Content-Type"] == "application/problem+json"
    assert result.headers["Retry-After"] == "2"
    assert result.json == {
        "type": f"urn:runtime-server:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "What happened.",
        "code": kind.code,
        "retryable": kind.retryable,
        "request_id": result.headers["X-Request-ID"],
        **carried,
    }


def test_unavailable_always_says_when_to_come_back(api: Api) -> None:
    api.manager.fail = EngineUnreachable()
    assert api.post("/pause", {"runtime_id": NAME}).headers["Retry-After"] == "1"


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
@pytest.mark.parametrize("error", [RuntimeError, KeyError, MemoryError, UnicodeDecodeError, RecursionError, OSError])
def test_the_unforeseen_is_logged_and_not_told(api: Api, error: type[Exception], headers: dict[str, str]) -> None:
    secret = "/etc/secret"
    api.manager.fail = (
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, secret) if error is UnicodeDecodeError else error(secret)
    )
    with capture_logs() as logs:
        result = api.post("/pause", {"runtime_id": NAME}, headers=headers)
    assert (result.status_code, result.json["code"]) == (500, "internal-error")
    assert secret not in result.text
    assert error.__name__ not in result.text
    [logged] = [each for each in logs if each["log_level"] == "error"]
    assert logged["exc_info"] is api.manager.fail
    assert logged["request_id"] == result.headers["X-Request-ID"]


def test_one_line_a_request_is_logged_without_secrets(api: Api) -> None:
    with capture_logs() as logs:
        api.post("/pause", {"runtime_id": NAME}, headers={"X-Request-ID": "r1", "X-Attempt": "3"})
        api.get("/runtimes", query_string="label=token%3Dhunter2", headers={"X-Attempt": "many"})
        api.get("/nope%0Aforged", headers={"X-API-Key": "hunter2"})
    assert [each.pop("ms") >= 0 for each in logs] == [True] * 3
    ids = [each.pop("request_id") for each in logs]
    assert ids[0] == "r1"
    common = {"event": "request", "log_level": "info"}
    assert logs == [
        {
            **common,
            "method": "POST",
            "path": "/pause",
            "status": 200,
            "owner": "alice",
            "runtime_id": NAME,
            "attempt": 3,
        },
        {
            **common,
            "method": "GET",
            "path": "/runtimes",
            "status": 200,
            "owner": "alice",
            "runtime_id": None,
            "attempt": None,
        },
        {
            **common,
            "method": "GET",
            "path": "/nope\\nforged",
            "status": 404,
            "owner": None,
            "runtime_id": None,
            "attempt": None,
        },
    ]


@pytest.mark.parametrize("level", ["warning", "error"])
def test_above_info_there_is_no_access_log(make_api: MakeApi, level: str, tmp_path: Path) -> None:
    api = make_api(log_level=level)
    with capture_logs() as logs:
        assert api.post("/pause", {"runtime_id": NAME}).status_code == 200
    assert logs == []
