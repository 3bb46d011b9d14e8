"""What happens on the wire: broken connections, retried answers, headers, time limits."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from runtime_server import (
    DeadlineExceeded,
    IncompatibleServer,
    Problem,
    RetryPolicy,
    RuntimeBusy,
    RuntimeClientError,
    RuntimeServerClient,
    ServerTimeout,
    ServerUnreachable,
    TransportError,
)
from tests.unit.client_script import ANSWER, MISBEHAVIOUR, Answer, Clock, on_socket, problem, scripted, wire

Send = Callable[[RuntimeServerClient], Any]
METHODS: dict[str, Send] = {
    "GET": lambda client: client.get_runtime("r"),
    "POST": lambda client: client.start_runtime(image="busybox", wait=0),
    "DELETE": lambda client: client.remove_runtime("r"),
}
HTML = Answer(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"})
RETRIED: dict[str, Answer | str] = {
    **{name: name for name in MISBEHAVIOUR},
    **{str(status): problem(status) for status in (408, 425, 429, 502, 503, 504)},
    "nginx 502": HTML,
    "broken gzip": Answer(200, b"not gzip", {"Content-Encoding": "gzip"}),
    "409 retryable": problem(409, "runtime-busy", retryable=True),
    "500 retryable": problem(500, retryable=True),
    "Retry-After 0": problem(503, headers={"Retry-After": "0"}),
}


def impatient(url: str, failure: str, policy: RetryPolicy) -> RuntimeServerClient:
    """Only a stalled answer waits for the read timeout; all others come at once, however slow the machine."""
    return RuntimeServerClient(url, api_key="k", timeout=(30, 0.1 if failure == "stall" else 30), retry=policy)


def refuse_until(server: Any, clock: Clock, failures: int) -> None:
    """Refuse connections until the client has slept ``failures`` times."""

    def on_sleep(count: int) -> None:
        if count == failures:
            server.listen()

    clock.on_sleep = on_sleep


# A stalled DELETE would take its five seconds of grace.
MATRIX = [(m, f) for m in METHODS for f in [*RETRIED, "refused"] if (m, f) != ("DELETE", "stall")]


@pytest.mark.parametrize(("method", "failure"), MATRIX)
@pytest.mark.parametrize("failures", [1, 3])
def test_failures_before_success(method: str, failure: str, failures: int) -> None:
    clock = Clock()
    refused = failure == "refused"
    script = [] if refused else [RETRIED[failure]] * failures
    with (
        on_socket(*script, listening=not refused) as server,
        impatient(server.url, failure, clock.policy()) as client,
    ):
        if refused:
            refuse_until(server, clock, failures)
        assert METHODS[method](client).runtime_id == ANSWER["runtime_id"]
        got = server.received
    assert len(clock.slept) == failures
    assert [request.method for request in got] == [method] * (1 if refused else failures + 1)
    attempts = [int(request.headers["x-attempt"]) for request in got]
    assert attempts == ([failures + 1] if refused else list(range(1, failures + 2)))
    keys = {request.headers.get("idempotency-key") for request in got}
    assert len(keys) == 1
    assert (keys == {None}) == (method == "GET")
    assert len({(request.headers["x-request-id"], request.body) for request in got}) == 1


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_cut_at_any_byte_is_asked_for_again(status: int) -> None:
    whole = wire(Answer(status, {**ANSWER, "detail": "x"}, {"X-Request-ID": "r1"}))
    clock = Clock()
    with (
        on_socket(*(whole[:end] for end in range(len(whole)))) as server,
        RuntimeServerClient(
            server.url,
            api_key="k",
            retry=clock.policy(max_attempts=10_000, deadline=1e6, budget=1e6, backoff_base=0.0),
        ) as client,
    ):
        assert client.start_runtime(image="busybox").runtime_id == ANSWER["runtime_id"]
        assert len(server.received) == len(whole) + 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "answer",
    [
        problem(503, retryable=False),
        problem(409),
        problem(409, "runtime-busy"),
        problem(409, "invalid-state", retryable=False),
        problem(400),
        problem(401),
        problem(404),
        problem(422),
        problem(500),
        Answer(404, b"<html>", {"Content-Type": "text/html"}),
    ],
)
def test_answers_that_are_not_retried(method: str, answer: Answer) -> None:
    with scripted(answer) as (client, adapter), pytest.raises(Problem) as caught:
        METHODS[method](client)
    assert len(adapter.requests) == 1
    error = caught.value
    assert (error.attempts, error.status, error.retryable, error.gave_up) == (1, answer.status, False, None)


def test_a_page_of_a_proxy_becomes_a_problem_by_its_status() -> None:
    with scripted(HTML) as (client, adapter), pytest.raises(Problem) as caught:
        client.version()
    error = caught.value
    assert type(error) is Problem
    assert (error.code, error.status, error.retryable, error.attempts) == ("unknown", 502, True, 8)
    assert len(adapter.requests) == 8
    assert "<html>" not in str(error)


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "60"}, 60.0),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=9), usegmt=True)}, 9.0),
        ({"Retry-After": format_datetime(NOW - timedelta(days=9), usegmt=True)}, 0.0),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_as_seconds_or_date(headers: dict[str, str], seconds: float | None) -> None:
    clock = Clock()
    # A server whose clock is years off: the date counts from the answer's own Date.
    headers = {"Date": format_datetime(NOW, usegmt=True), **headers}
    failure = problem(429, headers=headers)
    with scripted(failure, Answer(), clock=clock) as (client, _):
        client.get_runtime("r")
    assert clock.slept == pytest.approx([(seconds or 0.0) + 0.05])


def test_retry_after_a_date_without_the_servers_clock() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    failure = problem(503, headers={"Retry-After": later})
    with scripted(failure) as (client, adapter), pytest.raises(Problem, match="retry_after_limit"):
        client.get_runtime("r")
    assert len(adapter.requests) == 1


@pytest.mark.parametrize("failure", ["close", "half body", "stall"])
def test_a_failure_that_lasts_is_typed_and_says_how_often_it_was_tried(failure: str) -> None:
    clock = Clock()
    with (
        on_socket(*[failure] * 3) as server,
        RuntimeServerClient(
            server.url,
            api_key="k",
            timeout=(30, 0.1 if failure == "stall" else 30),
            retry=clock.policy(max_attempts=3),
        ) as client,
    ):
        with pytest.raises(ServerTimeout if failure == "stall" else ServerUnreachable) as caught:
            client.start_runtime(image="busybox", wait=0)
        assert caught.value.attempts == 3
        assert caught.value.request_id == server.received[0].headers["x-request-id"]
        assert server.url in str(caught.value)
        assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, requests.RequestException)


@pytest.mark.parametrize(
    ("raised", "kind", "attempts"),
    [
        (requests.ConnectTimeout(), ServerTimeout, 8),
        (requests.ReadTimeout(), ServerTimeout, 8),
        (requests.ConnectionError(), ServerUnreachable, 8),
        (requests.exceptions.ProxyError(), ServerUnreachable, 8),
        (requests.exceptions.ChunkedEncodingError(), ServerUnreachable, 8),
        (requests.exceptions.ContentDecodingError(), ServerUnreachable, 8),
        (requests.exceptions.InvalidURL(), ServerUnreachable, 1),
        (requests.exceptions.SSLError(), ServerUnreachable, 8),
        (requests.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed")), ServerUnreachable, 1),
    ],
)
def test_every_kind_of_transport_error_is_typed(raised: Exception, kind: type[TransportError], attempts: int) -> None:
    with scripted(raised) as (client, adapter), pytest.raises(kind) as caught:
        client.remove_runtime("r")
    assert (caught.value.attempts, len(adapter.requests)) == (attempts, attempts)
    assert caught.value.request_id == adapter.last.headers["X-Request-ID"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_follows_no_redirect(status: int) -> None:
    with (
        on_socket() as elsewhere,
        on_socket(Answer(status, {}, {"Location": elsewhere.url + "/start"})) as server,
        RuntimeServerClient(server.url, api_key="secret-key") as client,
    ):
        with pytest.raises(IncompatibleServer, match="redirects") as caught:
            client.start_runtime(image="busybox")
        assert len(server.received) == 1
        assert elsewhere.received == []
        assert "secret-key" not in str(caught.value) + repr(client)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>Welcome to nginx!</html>", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"[]", "body"),
        (b"{}", "runtime_id: Field required"),
        (b'{"runtime_id": "r", "status": "levitating", "message": "", "changed": true}', "status"),
    ],
)
def test_an_answer_of_something_else_is_incompatible_and_not_retried(body: bytes, says: str) -> None:
    with scripted(Answer(200, body)) as (client, adapter), pytest.raises(IncompatibleServer, match=says) as caught:
        client.pause_runtime("r")
    assert len(adapter.requests) == 1
    assert (caught.value.attempts, caught.value.request_id) == (1, adapter.last.headers["X-Request-ID"])


def test_fields_of_a_newer_server_are_kept() -> None:
    with scripted(Answer(200, {**ANSWER, "flavour": "sweet"})) as (client, _):
        runtime = client.get_runtime("r")
    assert runtime.model_extra is not None
    assert runtime.model_extra["flavour"] == "sweet"


@pytest.mark.parametrize(
    ("send", "limit"),
    [
        (lambda c: c.get_runtime("r"), 60.0),
        (lambda c: c.get_runtime("r", wait_for="running", timeout=30), 90.0),
        (lambda c: c.start_runtime(image="i"), 68.0),
        (lambda c: c.start_runtime({"image": "i", "wait": 20}), 80.0),
        (lambda c: c.start_runtime(image="i", wait="soon"), 60.0),
        (lambda c: c.stop_runtime("r"), 65.0),
        (lambda c: c.stop_runtime("r", timeout=0), 60.0),
        (lambda c: c.stop_runtime("r", timeout=600), 660.0),
        (lambda c: c.remove_runtime("r"), 65.0),
    ],
)
def test_the_read_timeout_grows_by_what_the_server_may_wait(send: Send, limit: float) -> None:
    with scripted() as (client, adapter):
        send(client)
    assert adapter.timeouts == [(5, limit)]


def test_an_attempt_gets_no_more_time_than_the_deadline_leaves() -> None:
    clock = Clock()
    with scripted(problem(503, headers={"Retry-After": "18"}), Answer(), retry=clock.policy(deadline=20.0)) as (
        client,
        adapter,
    ):
        client.get_runtime("r")
    assert adapter.timeouts == [(5, 20.0), pytest.approx((1.95, 1.95))]


def test_the_deadline_names_the_last_attempts_error() -> None:
    policy = Clock().policy(deadline=10.0)
    busy = problem(409, "runtime-busy", retryable=True, headers={"Retry-After": "20"})
    with scripted(busy, retry=policy) as (client, adapter), pytest.raises(DeadlineExceeded) as caught:
        client.pause_runtime("r")
    assert isinstance(caught.value.__cause__, RuntimeBusy)
    assert (caught.value.attempts, caught.value.request_id) == (1, adapter.last.headers["X-Request-ID"])


def test_no_time_limits_means_the_deadline_alone() -> None:
    with scripted(timeout=None, retry=RetryPolicy(deadline=50.0, clock=lambda: 0.0)) as (client, adapter):
        client.get_runtime("r")
    assert adapter.timeouts == [(50.0, 50.0)]


def test_the_budget_belongs_to_the_client() -> None:
    with scripted(problem(503), retry=Clock().policy(budget=10)) as (client, adapter):
        for _ in range(5):
            with pytest.raises(Problem):
                client.get_runtime("r")
    assert len(adapter.requests) == 5 + 10


def test_the_request_id_of_the_answer_is_the_errors() -> None:
    failure = problem(404, headers={"X-Request-ID": "from-header"})
    with scripted(failure) as (client, _), pytest.raises(RuntimeClientError) as caught:
        client.get_runtime("r")
    assert caught.value.request_id == "from-header"


def test_netrc_and_cookies_and_auth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with on_socket() as server, RuntimeServerClient(server.url, api_key="k") as client:
        client.get_runtime("r")
        headers = server.received[0].headers
    assert headers["x-api-key"] == "k"
    assert "authorization" not in headers


def test_proxies_of_the_environment_serve_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_socket() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with RuntimeServerClient("http://runtimes.example", api_key="k") as client:
            client.get_runtime("r")
        assert [request.path for request in proxy.received] == ["http://runtimes.example/runtimes/r"]


def test_a_given_session_keeps_its_headers_auth_cookies_and_stays_open() -> None:
    with on_socket() as server, requests.Session() as session:
        session.headers["X-Team"] = "blue"
        session.auth = ("user", "password")
        session.cookies.set("route", "a1")
        with RuntimeServerClient(server.url, api_key="k", session=session) as client:
            client.get_runtime("r")
        headers = server.received[0].headers
        assert session.get(server.url, auth=None).status_code == 200
    assert (headers["x-team"], headers["cookie"], headers["x-api-key"]) == ("blue", "route=a1", "k")
    assert headers["authorization"].startswith("Basic ")


def test_threads_share_a_client_and_its_connections() -> None:
    calls, failed = 20, problem(503)
    script: list[Answer | str] = [failed if n % 4 == 0 else Answer() for n in range(8 * calls)]
    errors: list[BaseException] = []
    with on_socket(*script) as server, RuntimeServerClient(server.url, api_key="k", retry=Clock().policy()) as client:

        def work(number: int) -> None:
            try:
                for call in range(calls):
                    client.pause_runtime(f"r-{number}-{call}")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        keys: dict[str, set[bytes]] = {}
        for request in server.received:
            keys.setdefault(request.headers["idempotency-key"], set()).add(request.body)
    assert errors == []
    assert len(keys) == 8 * calls
    assert all(len(bodies) == 1 for bodies in keys.values())
    assert len(server._open) <= 8
