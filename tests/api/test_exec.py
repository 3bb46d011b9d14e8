"""``POST /runtimes/{id}/exec``: its body, its two forms, and its key."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from falcon.testing import Result
from structlog.testing import capture_logs

from tests.api.conftest import OTHER_KEY, Api
from tests.api.fakes import NAME

PATH = f"/runtimes/{NAME}/exec"


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in result.content.splitlines()]


def test_an_answer_says_how_it_ended(api: Api) -> None:
    result = api.post(PATH, {"command": "echo oh no >&2; exit 3"})
    assert result.status_code == 200
    answer = result.json
    assert (answer["exit_code"], answer["stdout"], answer["stderr"]) == (3, "", "oh no\n")
    assert (answer["truncated"], answer["timed_out"], answer["killed"], answer["encoding"]) == (
        False,
        False,
        None,
        "utf-8",
    )


def test_a_stream_has_output_and_end(api: Api) -> None:
    result = api.post(PATH, {"command": ["echo", "grüße"], "stream": True})
    chunk, end, last = lines(result)
    assert chunk == {"stream": "stdout", "data": "grüße\n"}
    assert (end["exit_code"], end["timed_out"], end["killed"]) == (0, False, None)
    assert set(end) == {"exec_id", "exit_code", "timed_out", "killed", "duration", "finished_at"}
    assert last == {"end": "exited"}
    assert result.headers["X-Accel-Buffering"] == "no"


def test_a_stream_of_bytes(api: Api) -> None:
    data = base64.b64encode(b"\xff\xfe").decode()
    body = {"command": ["cat"], "stdin": data, "encoding": "base64", "stream": True}
    assert lines(api.post(PATH, body))[0] == {"stream": "stdout", "data": data}
    text = lines(api.post(PATH, {"command": ["cat"], "stdin": "ab", "stream": True}))
    assert text[0]["data"] == "ab"


def test_a_stream_is_not_cut_off_by_the_limit_on_streams(api: Api) -> None:
    body = {"command": ["sleep", "9"], "stream": True, "timeout": 0.5}
    end, last = lines(api.post(PATH, body))  # streams last 0.2 s here
    assert (end["timed_out"], last) == (True, {"end": "exited"})


def test_a_command_that_is_not_there_is_a_problem_in_both_forms(api: Api) -> None:
    body = {"command": ["/no/such"]}
    result = api.post(PATH, body)
    assert (result.status_code, result.json["code"]) == (422, "command-not-found")
    (error,) = lines(api.post(PATH, {**body, "stream": True}))
    assert error["error"]["code"] == "command-not-found"


def test_a_character_in_two_pieces_stays_whole() -> None:
    from runtime_server.engine.inside import ExecOutput
    from runtime_server.resources.exec import _Lines
    from runtime_server.runtimes.execs import Ended

    made = _Lines("utf-8")
    assert made.encode(ExecOutput("stdout", "ä".encode()[:1])) == b""
    assert json.loads(made.encode(ExecOutput("stdout", "ä".encode()[1:]))) == {"stream": "stdout", "data": "ä"}
    assert made.encode(ExecOutput("stderr", "ä".encode()[:1])) == b""
    rest, end = made.encode(Ended("id", 0, False, None, 1.0, 1.0)).splitlines()
    assert json.loads(rest) == {"stream": "stderr", "data": "\ufffd"}
    assert json.loads(end)["exec_id"] == "id"


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["command"]),
        ({"command": []}, ["command"]),
        ({"command": ""}, ["command"]),
        ({"command": [""]}, ["command"]),
        ({"command": ["a\0"]}, ["command"]),
        ({"command": ["a"], "timeout": 0}, ["timeout"]),
        ({"command": ["a"], "timeout": -1}, ["timeout"]),
        ({"command": ["a"], "output_limit": -1}, ["output_limit"]),
        ({"command": ["a"], "working_dir": "relative"}, ["working_dir"]),
        ({"command": ["a"], "user": ""}, ["user"]),
        ({"command": ["a"], "environment": {"A=B": "c"}}, ["environment", "[key]"]),
        ({"command": ["a"], "encoding": "latin-1"}, ["encoding"]),
        ({"command": ["a"], "privileged": True}, ["privileged"]),
        ({"command": ["a"], "stdin": 7}, ["stdin"]),
    ],
)
def test_a_wrong_body_says_where(api: Api, body: dict[str, Any], loc: list[str]) -> None:
    result = api.post(PATH, body)
    assert result.status_code == 422
    found = result.json["errors"][0]["loc"]
    assert found[: len(loc)] == loc or found[0] == loc[0]
    assert api.engine.calls["exec"] == 0


def test_a_key_replays(api: Api) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.post(PATH, {"command": ["echo", "a"]}, headers=headers)
    second = api.post(PATH, {"command": ["echo", "a"]}, headers=headers)
    assert first.json == second.json
    assert second.headers["Idempotency-Replayed"] == "true"
    assert api.engine.calls["exec"] == 1
    other = api.post(PATH, {"command": ["echo", "b"]}, headers=headers)
    assert other.json["code"] == "idempotency-key-reused"


def test_a_streams_key_starts_it_once(api: Api) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"command": ["echo", "a"], "stream": True}
    assert len(lines(api.post(PATH, body, headers=headers))) == 3
    again = api.post(PATH, body, headers=headers)
    assert (again.status_code, again.json["code"]) == (409, "exec-outcome-unknown")
    assert (again.json["running"], again.json["exit_code"], again.json["retryable"]) == (False, 0, False)


def test_nothing_of_a_command_is_logged(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as logs:
        api.post(
            PATH, {"command": ["true", "hidden-word"], "environment": {"A": "hidden-value"}, "stdin": "hidden-input"}
        )
    captured = capsys.readouterr()
    # Wherever it goes: other tests may have set up logging before.
    written = f"{logs}{captured.out}{captured.err}"
    assert "hidden" not in written
    assert "/exec" in written


def test_others_have_no_such_runtime(api: Api) -> None:
    for body in ({"command": ["true"]}, {"command": ["true"], "stream": True}):
        result = api.post(PATH, body, headers={"X-API-Key": OTHER_KEY})
        assert (result.status_code, result.json["code"]) == (404, "runtime-not-found")
