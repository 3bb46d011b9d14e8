"""Request bodies: what is read, what is refused and how."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize, InvalidHeader

from tests.api.conftest import Api, MakeApi
from tests.api.fakes import NAME

JSON = {"Content-Type": "application/json"}
WITH_BODY = ["/start", "/pause", "/resume", "/stop", f"/runtimes/{NAME}/renew"]
SECRET = "hunter2-hunter2"


@pytest.mark.parametrize("path", WITH_BODY)
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", JSON, 400, "malformed-json"),
        (b"", {}, 400, "malformed-json"),
        (b"{}", {}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        (b"{}", {**JSON, "Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
        (b"{", JSON, 400, "malformed-json"),
        (b'{"a": NaN}', JSON, 400, "malformed-json"),
        (b'{"a": -Infinity}', JSON, 400, "malformed-json"),
        (b'{"a": "\xff"}', JSON, 400, "malformed-json"),
        (b'{"a": "\\ud800"}', JSON, 400, "malformed-json"),
        (b'{"\\udfff": 1}', JSON, 400, "malformed-json"),
        (b'{"a": 1, "a": 2}', JSON, 400, "malformed-json"),
        (b"\xef\xbb\xbf{}", JSON, 400, "malformed-json"),
        (b"[" * 100_000, JSON, 400, "malformed-json"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, JSON, 400, "malformed-json"),
        (b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}", JSON, 400, "malformed-json"),
        (b'{"a": ' + b"9" * 5_000 + b"}", JSON, 400, "malformed-json"),
        (b'{"a": "' + b"x" * 1_048_576 + b'"}', JSON, 413, "body-too-large"),
        (b"[]", JSON, 422, "validation-failed"),
        (b"null", JSON, 422, "validation-failed"),
        (b'"text"', JSON, 422, "validation-failed"),
        (b"{}", {"Content-Type": "Application/JSON; charset=utf-8"}, 422, "validation-failed"),
        (b"{}", {"Content-Type": "application/vnd.mine+json"}, 422, "validation-failed"),
    ],
)
def test_what_is_not_a_body_is_refused(
    api: Api, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    result = api.ask("POST", path, body=body, headers=headers)
    assert (result.status_code, result.json["code"]) == (status, code)
    assert isinstance(result.json["detail"], str)
    assert len(result.content) < 2000
    assert not api.manager.asked


def test_a_chunked_body_is_read_and_bounded(make_api: MakeApi) -> None:
    api = make_api(max_body_bytes=1024)
    body = json.dumps({"runtime_id": NAME}).encode()
    chunked = {"wsgi.input_terminated": True, "CONTENT_TYPE": "application/json"}
    read = api.ask("POST", "/pause", extras={**chunked, "wsgi.input": io.BytesIO(body)})
    assert read.status_code == 200
    large = api.ask("POST", "/pause", extras={**chunked, "wsgi.input": io.BytesIO(body + b" " * 1024)})
    assert (large.status_code, large.json["limit"]) == (413, 1024)


def test_a_body_that_ends_early_is_a_bad_request(api: Api) -> None:
    result = api.ask("POST", "/pause", body=b'{"runt', headers={**JSON, "Content-Length": "100"})
    assert (result.status_code, result.json["code"]) == (400, "bad-request")


class _Broken(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    "error", [ConnectionResetError("gone"), InvalidHeader("in a trailer"), InvalidChunkSize(b"ZZ")]
)
def test_a_peer_that_left_is_no_fault_of_ours(api: Api, error: Exception) -> None:
    extras = {"wsgi.input": _Broken(error), "wsgi.input_terminated": True, "CONTENT_TYPE": "application/json"}
    assert api.ask("POST", "/pause", extras=extras).json["code"] == "bad-request"


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [(["image"], "missing")]),
        ({"image": ""}, [(["image"], "string_too_short")]),
        ({"image": 5}, [(["image"], "string_type")]),
        ({"image": "a", "ports": [{"container_port": 0}]}, [(["ports", 0, "container_port"], "greater_than_equal")]),
        ({"image": "a", "ports": [{"host_port": 1}]}, [(["ports", 0, "container_port"], "missing")]),
        ({"image": "a", "ttl": 10**400}, None),
        ({"image": "a", "pids_limit": 10**400}, None),
        ({"image": "a", "wait": True}, []),
        ({"image": "a", "environment": {f"{SECRET}=x": ""}}, [(["environment", "[key]"], "string_pattern_mismatch")]),
        ({"image": "a", "memory": SECRET}, [(["memory"], "value_error")]),
        ({"image": "a", "detach": False}, [(["detach"], "value_error")]),
        ({"image": "a", "registry_auth": {"username": SECRET, "pass": SECRET}}, None),
        ({"image": "a", "nope": SECRET, "volumes": [{"nah": 1}]}, None),
        ({"image": "a", "x" * 5000: 1}, [(["x" * 128], "extra_forbidden")]),
        ({"image": "a\x00b"}, [(["image"], "string_pattern_mismatch")]),
        ({"image": "a", "labels": {"runtime-server.owner": SECRET}}, [(["labels"], "value_error")]),
        ({"image": "a", "volumes": [{"host_path": SECRET + "/", "container_path": "/a"}]}, None),
        ({"image": "a", "restart_policy": {"Name": SECRET}}, [(["restart_policy", "Name"], "literal_error")]),
    ],
)
def test_validation_says_where_and_what_and_no_value(
    api: Api, body: dict[str, Any], errors: list[tuple[list[Any], str]] | None
) -> None:
    result = api.post("/start", body)
    if errors == []:
        assert result.status_code == 201
        return
    assert result.status_code == 422
    assert SECRET not in result.text
    found = result.json["errors"]
    assert found
    assert all(set(each) == {"loc", "msg", "type"} for each in found)
    assert all("Value error" not in each["msg"] for each in found)
    if errors is not None:
        assert [(each["loc"], each["type"]) for each in found] == errors


def test_many_errors_are_bounded(api: Api) -> None:
    result = api.post("/start", {"image": "a", **{f"f{n}": 1 for n in range(5000)}})
    assert len(result.json["errors"]) == 50
    assert len(result.json["detail"]) < 300


def test_unknown_fields_are_named_and_nothing_happens(api: Api) -> None:
    result = api.post("/pause", {"runtime_id": NAME, "colour": "red"})
    assert result.status_code == 422
    assert "colour" in result.json["detail"]
    assert not api.manager.asked


def test_unknown_fields_can_be_ignored_with_a_warning(make_api: MakeApi) -> None:
    api = make_api(unknown_fields="ignore")
    body = {
        "image": "a",
        "new": {"deep": [1]},
        "ports": [{"container_port": 80, "fresh": SECRET}],
        "restart_policy": {"Name": "no", "Jitter": 3},
    }
    result = api.post("/start", body)
    assert result.status_code == 201
    assert sorted(result.json["warnings"]) == [
        "the unknown field new was ignored",
        "the unknown field ports.0.fresh was ignored",
        "the unknown field restart_policy.Jitter was ignored",
    ]
    assert api.manager.asked[-1][2].ports[0].container_port == 80
    for path in ("/pause", "/resume", "/stop"):
        warned = api.post(path, {"runtime_id": NAME, "later": 1})
        assert warned.json["warnings"] == ["the unknown field later was ignored"]
    wrong = api.post("/start", {"new": 1})
    assert [each["loc"] for each in wrong.json["errors"]] == [["image"]]


def test_ignoring_survives_names_of_every_kind(make_api: MakeApi) -> None:
    api = make_api(unknown_fields="ignore")
    body = {"runtime_id": NAME, "\x00": 1, "é\U0001f600": 2, "y" * 10_000: [[[[{}]]]]}
    result = api.post("/pause", body, headers={"Idempotency-Key": "k"})
    assert result.status_code == 200
    assert len(result.json["warnings"]) == 3


def test_stop_hands_over_its_fields(api: Api) -> None:
    api.post("/stop", {"runtime_id": NAME, "timeout": 0, "remove": True})
    assert api.manager.asked[-1] == ("stop", "alice", NAME, 0.0, True)
    api.post("/stop", {"runtime_id": NAME})
    assert api.manager.asked[-1] == ("stop", "alice", NAME, 5.0, False)


def test_renew_needs_to_say_what(api: Api) -> None:
    assert api.post(f"/runtimes/{NAME}/renew", {}).status_code == 422
    assert api.post(f"/runtimes/{NAME}/renew", {"ttl": None}).status_code == 200
    assert api.manager.asked[-1] == ("renew", "alice", NAME, None)
