"""``GET /runtimes/{id}/logs``: its query, its two forms, and its bound."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from falcon.testing import Result

from runtime_server.models import LogLine
from tests.api.conftest import OTHER_KEY, Api, MakeApi
from tests.api.fakes import NAME

PATH = f"/runtimes/{NAME}/logs"


@pytest.fixture
def spoken(api: Api) -> Api:
    api.engine.write(NAME, "one\n")
    api.engine.write(NAME, "zwei ü\n", "stderr")
    api.engine.write(NAME, "three")
    return api


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in result.content.splitlines()]


def test_plain_text_is_what_was_written(spoken: Api) -> None:
    result = spoken.get(PATH)
    assert result.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert result.text == "one\nzwei ü\nthree"
    assert result.headers["X-Accel-Buffering"] == "no"
    assert result.headers["Cache-Control"] == "no-store"
    assert spoken.get(PATH, query_string="stderr=false&tail=2").text == "three"
    assert spoken.get(PATH, query_string="stdout=0").text == "zwei ü\n"
    assert spoken.get(PATH, query_string="tail=0").text == ""
    stamped = spoken.get(PATH, query_string="timestamps=true").text.splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["one", "zwei ü", "three"]
    assert stamped[0].split(" ", maxsplit=1)[0] < stamped[2].split(" ", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("accept", "query"),
    [("application/x-ndjson", ""), ("text/plain;q=0.5, application/x-ndjson", ""), ("*/*", "format=ndjson")],
)
def test_ndjson_has_stream_and_time(spoken: Api, accept: str, query: str) -> None:
    found = lines(spoken.get(PATH, query_string=query, headers={"Accept": accept}))
    assert found.pop() == {"end": "running"}
    assert [(each["stream"], each["line"]) for each in found] == [
        ("stdout", "one\n"),
        ("stderr", "zwei ü\n"),
        ("stdout", "three"),
    ]
    assert all(LogLine.model_validate(each).time for each in found)
    since = lines(spoken.get(PATH, query_string=f"format=ndjson&since={found[2]['time']}"))
    assert [each["line"] for each in since[:-1]] == ["three"]


@pytest.mark.parametrize("accept", ["*/*", "text/plain", "application/json", "text/*;q=0.1"])
def test_plain_text_is_what_others_get(spoken: Api, accept: str) -> None:
    result = spoken.get(PATH, headers={"Accept": accept})
    assert result.headers["Content-Type"].startswith("text/plain")


def test_bytes_that_are_no_text_come_through_plain(api: Api) -> None:
    container = api.engine._own(NAME)
    api.engine.write(NAME, "x\n")
    container.output[0] = type(container.output[0])("stdout", 1, b"\xff\x00\n")
    assert api.get(PATH).content == b"\xff\x00\n"
    assert lines(api.get(PATH, query_string="format=ndjson"))[0]["line"] == "\ufffd\x00\n"


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ("tail=-1", "tail"),
        ("tail=some", "tail"),
        ("tail=1.5", "tail"),
        ("tail=99999999999", "tail"),
        ("since=yesterday", "since"),
        ("since=", "since"),
        ("since=" + "1" * 65, "since"),
        ("format=xml", "format"),
        ("follow=perhaps", "follow"),
        ("stdout=true&stdout=false", "stdout"),
    ],
)
def test_a_wrong_query_says_where(api: Api, query: str, loc: str) -> None:
    result = api.get(PATH, query_string=query)
    assert result.status_code == 422
    assert result.json["errors"][0]["loc"][0] == loc


def test_following_begins_with_the_servers_time(api: Api) -> None:
    found = lines(api.get(PATH, query_string="follow=true&format=ndjson"))
    assert [set(each) for each in found] == [{"heartbeat"}]


def test_others_have_no_such_runtime(spoken: Api) -> None:
    result = spoken.get(PATH, headers={"X-API-Key": OTHER_KEY})
    assert (result.status_code, result.json["code"]) == (404, "runtime-not-found")
    assert spoken.get("/runtimes/%0a/logs").status_code == 404


def test_one_too_many_is_429(make_api: MakeApi) -> None:
    api = make_api(streams=1, max_stream=30)
    began, go = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert go.wait(60)

    api.engine.hook("log_entries", hold, times=1)
    first = threading.Thread(target=api.get, args=(PATH,))
    first.start()
    assert began.wait(60)
    refused = api.get(PATH)
    go.set()
    assert (refused.status_code, refused.json["code"]) == (429, "too-many-streams")
    assert (refused.json["retryable"], refused.headers["Retry-After"]) == (True, "1")
    first.join(60)
    assert api.get(PATH).status_code == 200
