"""What each method sends, what it makes of the answer, and what the helpers above them do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests

from runtime_server import (
    ActionResponse,
    DeadlineExceeded,
    ImageNotFound,
    IncompatibleServer,
    InvalidState,
    PauseRequest,
    PortBinding,
    Problem,
    ResumeRequest,
    Runtime,
    RuntimeNotFound,
    RuntimeServerClient,
    RuntimeStatus,
    ServerTimeout,
    ServerUnreachable,
    StartRequest,
    StartResponse,
    StopRequest,
    ValidationFailed,
)
from tests.unit.client_script import ANSWER, RUNTIME, Answer, Clock, problem, scripted

START = {"image": "busybox", "ports": [{"container_port": 80}], "wait": 0.0}
ID = {"runtime_id": "r"}


@pytest.mark.parametrize(
    ("send", "request_line", "body", "kind"),
    [
        (lambda c: c.start_runtime(START), "POST /start", START, StartResponse),
        (lambda c: c.start_runtime(**START), "POST /start", START, StartResponse),
        (lambda c: c.start_runtime(StartRequest(**START)), "POST /start", START, StartResponse),
        (
            lambda c: c.start_runtime(
                {"image": "x"}, image="busybox", ports=[PortBinding(container_port=80)], wait=0.0
            ),
            "POST /start",
            {**START, "ports": [{"container_port": 80, "host_port": None, "protocol": "tcp", "host_ip": None}]},
            StartResponse,
        ),
        (
            lambda c: c.start_runtime(image="i", future_field=1),
            "POST /start",
            {"image": "i", "future_field": 1},
            None,
        ),
        (lambda c: c.start_runtime(), "POST /start", {}, None),
        (lambda c: c.pause_runtime("r"), "POST /pause", ID, ActionResponse),
        (lambda c: c.pause_runtime(ID), "POST /pause", ID, ActionResponse),
        (lambda c: c.pause_runtime(runtime_id="r"), "POST /pause", ID, ActionResponse),
        (lambda c: c.pause_runtime(PauseRequest(runtime_id="r")), "POST /pause", ID, ActionResponse),
        (lambda c: c.resume_runtime("r"), "POST /resume", ID, ActionResponse),
        (lambda c: c.resume_runtime(ResumeRequest(runtime_id="r")), "POST /resume", ID, ActionResponse),
        (lambda c: c.stop_runtime("r"), "POST /stop", ID, ActionResponse),
        (
            lambda c: c.stop_runtime("r", timeout=1, remove=True),
            "POST /stop",
            {**ID, "timeout": 1, "remove": True},
            None,
        ),
        (
            lambda c: c.stop_runtime(StopRequest(runtime_id="r", timeout=2)),
            "POST /stop",
            {**ID, "timeout": 2.0},
            None,
        ),
        (lambda c: c.renew_runtime("r", 60), "POST /runtimes/r/renew", {"ttl": 60}, Runtime),
        (lambda c: c.renew_runtime("r", None), "POST /runtimes/r/renew", {"ttl": None}, Runtime),
        (lambda c: c.remove_runtime("a/b?c"), "DELETE /runtimes/a%2Fb%3Fc", None, ActionResponse),
        (lambda c: c.get_runtime("r"), "GET /runtimes/r", None, Runtime),
        (
            lambda c: c.get_runtime("r", wait_for=RuntimeStatus.PAUSED, timeout=1.5),
            "GET /runtimes/r?wait_for=paused&timeout=1.5",
            None,
            Runtime,
        ),
    ],
)
def test_the_wire_form_of_each_call(
    send: Callable[[RuntimeServerClient], Any], request_line: str, body: Any, kind: type | None
) -> None:
    with scripted() as (client, adapter):
        result = send(client)
    assert kind is None or type(result) is kind
    assert f"{adapter.last.method} {adapter.last.path_url}" == request_line
    sent = None if adapter.last.body is None else adapter.last_json()
    assert sent == body
    headers = adapter.last.headers
    assert headers["X-API-Key"] == "k"
    assert ("Idempotency-Key" in headers) == (adapter.last.method != "GET")
    assert (headers.get("Content-Type") == "application/json") == (body is not None)


def test_each_call_has_a_key_of_its_own_or_the_callers() -> None:
    with scripted() as (client, adapter):
        client.pause_runtime("r")
        client.pause_runtime("r")
        client.pause_runtime("r", idempotency_key="mine")
        client.remove_runtime("r", idempotency_key="mine")
    first, second, *given = [request.headers["Idempotency-Key"] for request in adapter.requests]
    assert first != second
    assert given == ["mine", "mine"]


@pytest.mark.parametrize("wrong", [3, ["r"], StopRequest(runtime_id="r"), ActionResponse.model_validate(ANSWER)])
def test_something_else_than_a_request_is_refused_before_it_is_sent(wrong: Any) -> None:
    with scripted() as (client, adapter), pytest.raises(TypeError, match="PauseRequest"):
        client.pause_runtime(wrong)
    assert adapter.requests == []


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_would_be_another_route_exist_nowhere(name: str) -> None:
    with scripted() as (client, adapter):
        for call in (client.get_runtime, client.remove_runtime, lambda each: client.renew_runtime(each, 1)):
            with pytest.raises(RuntimeNotFound) as caught:
                call(name)
            assert caught.value.attempts == 0
    assert adapter.requests == []


def page(cursor: str | None, *names: str) -> Answer:
    return Answer(200, {"runtimes": [{**RUNTIME, "runtime_id": name} for name in names], "next_cursor": cursor})


def test_the_listing_asks_for_pages_as_they_are_needed() -> None:
    with scripted(page("c1", "a", "b"), page("c2"), page(None, "c")) as (client, adapter):
        listing = client.list_runtimes(
            status=["running", RuntimeStatus.PAUSED], labels={"a": "1&2", "b": None}, limit=2
        )
        assert adapter.requests == []
        assert next(listing).runtime_id == "a"
        assert len(adapter.requests) == 1
        assert [runtime.runtime_id for runtime in listing] == ["b", "c"]
    query = "/runtimes?status=running&status=paused&label=a%3D1%262&label=b&limit=2"
    assert [each.path_url for each in adapter.requests] == [query, query + "&cursor=c1", query + "&cursor=c2"]


def test_whole_pages_and_one_status() -> None:
    with scripted(page("c1", "a"), page(None)) as (client, adapter):
        assert [len(each.runtimes) for each in client.list_runtimes(status="paused").pages()] == [1, 0]
    assert adapter.requests[0].path_url == "/runtimes?status=paused&limit=100"


def test_a_cursor_that_leads_nowhere_ends_the_listing() -> None:
    with scripted(page("same", "a")) as (client, _), pytest.raises(IncompatibleServer, match="next_cursor"):
        list(client.list_runtimes())


def is_(status: str, **fields: Any) -> Answer:
    return Answer(200, {**RUNTIME, "status": status, **fields})


def test_wait_until_asks_in_slices_and_backs_off_where_the_server_answers_at_once() -> None:
    clock = Clock()
    with scripted(is_("starting"), is_("starting"), is_("starting"), is_("running"), clock=clock) as (
        client,
        adapter,
    ):
        assert client.wait_until("r", "running", 60).status is RuntimeStatus.RUNNING
    assert adapter.requests[0].path_url == "/runtimes/r?wait_for=running&timeout=25"
    assert clock.slept == [0.05, 0.1, 0.2]


def test_wait_until_gives_up_in_time() -> None:
    clock = Clock()
    says = "r is starting, not running, after 30 s"
    with scripted(is_("starting"), clock=clock) as (client, _), pytest.raises(DeadlineExceeded, match=says):
        client.wait_until("r", RuntimeStatus.RUNNING, 30)
    assert sum(clock.slept) == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("stopping", "running"),
        ("stopped", "running"),
        ("removed", "paused"),
        ("error", "starting"),
        ("error", "stopped"),
        ("stopped", "error"),
        ("removed", "stopped"),
    ],
)
def test_wait_until_ends_where_the_runtime_has_ended(status: str, wanted: str) -> None:
    with scripted(is_(status)) as (client, adapter), pytest.raises(InvalidState) as caught:
        client.wait_until("r", wanted, 60)
    assert len(adapter.requests) == 1
    assert caught.value.extensions["runtime_status"] == status


def test_wait_until_raises_what_a_waiting_start_would_have() -> None:
    failure = {"code": "image-not-found", "detail": "No such image: x", "status": 404}
    with scripted(is_("error", error=failure)) as (client, _), pytest.raises(ImageNotFound, match="No such image: x"):
        client.wait_until("r", "running", 60)


def test_waiting_for_the_end_takes_any_way_there() -> None:
    with scripted(is_("error"), is_("stopping"), is_("removed")) as (client, _):
        assert client.wait_until("r", "removed", 60).status is RuntimeStatus.REMOVED


def test_ready_takes_a_503_as_an_answer() -> None:
    with scripted(Answer(503, {"ready": False, "reason": "no engine"})) as (client, adapter):
        readiness = client.ready()
    assert (readiness.ready, readiness.reason, len(adapter.requests)) == (False, "no engine", 1)
    with scripted(Answer(503, b"<html>")) as (client, adapter):
        assert client.ready().ready is False
    with scripted(Answer(200, b"<html>")) as (client, adapter), pytest.raises(IncompatibleServer):
        client.ready()


def lines(adapter: Any) -> list[str]:
    return [f"{request.method} {request.path_url}" for request in adapter.requests]


def test_runtime_stops_and_removes_what_it_started() -> None:
    with scripted() as (client, adapter):
        with client.runtime(image="busybox", stop_timeout=1) as runtime:
            assert runtime.runtime_id == RUNTIME["runtime_id"]
        assert lines(adapter) == ["POST /start", "POST /stop"]
        assert adapter.last_json() == {"runtime_id": RUNTIME["runtime_id"], "timeout": 1, "remove": True}


def test_runtime_stops_after_an_error_and_hands_it_on() -> None:
    with scripted() as (client, adapter):
        with pytest.raises(ZeroDivisionError), client.runtime(image="busybox"):
            _ = 1 / 0
        assert lines(adapter) == ["POST /start", "POST /stop"]


def test_an_error_in_the_block_is_not_hidden_by_a_stop_that_fails() -> None:
    with (
        scripted(Answer(), problem(500)) as (client, _),
        pytest.raises(ZeroDivisionError) as caught,
        client.runtime(image="busybox"),
    ):
        _ = 1 / 0
    assert "may be left running" in caught.value.__notes__[0]


def test_a_stop_that_fails_after_a_quiet_block_is_raised() -> None:
    with scripted(Answer(), problem(500)) as (client, _), pytest.raises(Problem), client.runtime(image="busybox"):
        pass


def test_a_runtime_that_went_by_itself_is_no_error() -> None:
    gone = problem(404, "runtime-not-found", retryable=False)
    with scripted(Answer(), gone) as (client, adapter), client.runtime(image="busybox"):
        pass
    assert lines(adapter) == ["POST /start", "POST /stop"]


LOST = requests.ReadTimeout()


@pytest.mark.parametrize(
    ("script", "raised", "sent"),
    [
        # The answer was lost; the same key finds the runtime, which is removed.
        ([LOST, LOST, Answer()], ServerTimeout, ["POST /start"] * 3 + ["POST /stop"]),
        ([KeyboardInterrupt(), Answer()], KeyboardInterrupt, ["POST /start"] * 2 + ["POST /stop"]),
        ([problem(504), problem(504), Answer()], Problem, ["POST /start"] * 3 + ["POST /stop"]),
        # An answer that can't be read still names what was started.
        ([Answer(200, {"runtime_id": "r"}), Answer()], IncompatibleServer, ["POST /start", "POST /stop"]),
        # The second look says that nothing was started.
        ([LOST, LOST, problem(422, "validation-failed", retryable=False)], ServerTimeout, ["POST /start"] * 3),
        # A clear refusal needs no second look.
        ([problem(422, "validation-failed", retryable=False)], ValidationFailed, ["POST /start"]),
        # What was found can't be removed: nothing can be done but to say so. The same where the server is gone.
        ([LOST, LOST, Answer(), problem(500)], ServerTimeout, ["POST /start"] * 3 + ["POST /stop"]),
        ([requests.ConnectionError()], ServerUnreachable, ["POST /start"] * 4),
    ],
)
def test_an_unclear_start_leaves_nothing_if_it_can_be_helped(
    script: list[Any], raised: type[BaseException], sent: list[str]
) -> None:
    with (
        scripted(*script, retry=Clock().policy(max_attempts=2)) as (client, adapter),
        pytest.raises(raised) as caught,
        client.runtime(image="busybox"),
    ):
        pytest.fail("the block must not run")
    assert lines(adapter) == sent
    starts = [request for request in adapter.requests if request.path_url == "/start"]
    assert len({(request.headers["Idempotency-Key"], request.body) for request in starts}) == 1
    left = script[-1] == problem(500) or isinstance(script[-1], requests.ConnectionError)
    assert any("may be left running" in note for note in getattr(caught.value, "__notes__", [])) == left


def test_health_and_version() -> None:
    with scripted(Answer(200, {"status": "ok"})) as (client, adapter):
        assert client.health().status == "ok"
    assert adapter.last.path_url == "/healthz"
    with scripted(Answer(200, json.dumps({"server": "1", "api": "1", "engine": None}).encode())) as (client, adapter):
        assert client.version().engine is None
    assert adapter.last.path_url == "/version"
