"""The form of ``POST /build`` over HTTP: what OpenHands' builders send, and what nobody should."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import Result

from runtime_server.errors import TooManyBuilds
from tests.api.conftest import Api
from tests.api.fakes import BUILD
from tests.forms import archive, build_form, form

IMAGE = "registry.test/sandboxes/alice/agent:1"
CONTEXT = archive()
TEXT = base64.b64encode(CONTEXT).decode()
NAMES = [("target_image", IMAGE), ("tags", "a"), ("tags", "b")]
FILE = ("context", ("context.tar.gz", TEXT))


def post(api: Api, request: dict[str, Any], **headers: str) -> Result:
    return api.ask("POST", "/build", **{**request, "headers": {**request["headers"], **headers}})


def asked(api: Api) -> Any:
    """The one request that reached the manager."""
    ((action, owner, request, key),) = api.manager.asked
    assert (action, owner) == ("build", "alice")
    return request, key


def left(folder: Path) -> list[Path]:
    return list(folder.glob("*.context"))


@pytest.mark.parametrize(
    "fields",
    [
        [FILE, *NAMES],
        [("tags", "a"), ("target_image", IMAGE), ("tags", "b"), FILE],
        [("context", ("context.tar.gz", TEXT, "application/x-tar")), *NAMES],
        [("context", ("c", CONTEXT, "application/octet-stream")), *NAMES],
        [("context", TEXT), *NAMES],
    ],
    ids=["as RemoteRuntimeBuilder", "in another order", "with a type", "as it is", "as a plain field"],
)  # fmt: skip
def test_a_form_is_read(api: Api, fields: Any, tmp_path: Path) -> None:
    result = post(api, form(fields))
    assert (result.status_code, result.json) == (202, {"build_id": BUILD})
    request, key = asked(api)
    assert (request.target_image, request.tags, key) == (IMAGE, ["a", "b"], None)
    assert api.builds.contexts == [CONTEXT]
    assert left(tmp_path) == [], "the fake keeps none"


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ([("target_image", IMAGE)], ["context"]),
        ([("context", ("c", "")), ("target_image", IMAGE)], ["context"]),
        ([FILE], ["target_image"]),
        ([FILE, ("target_image", "")], ["target_image"]),
        ([FILE, ("target_image", IMAGE), ("target_image", IMAGE)], ["target_image"]),
        ([FILE, FILE, ("target_image", IMAGE)], ["context"]),
        ([FILE, ("target_image", IMAGE), ("colour", "red")], ["colour"]),
        ([FILE, ("target_image", IMAGE), ("tags", "a\x00b")], ["tags", 0]),
        ([FILE, ("target_image", IMAGE), *[("tags", "a")] * 33], ["tags"]),
    ],
)
def test_a_wrong_form_says_where(api: Api, fields: Any, loc: list[Any], tmp_path: Path) -> None:
    result = post(api, form(fields))
    assert (result.status_code, result.json["code"]) == (422, "validation-failed")
    assert [each["loc"] for each in result.json["errors"]] == [loc]
    assert not api.manager.asked
    assert left(tmp_path) == []


def test_unknown_fields_may_be_ignored(make_api: Any) -> None:
    api = make_api(unknown_fields="ignore")
    assert post(api, form([FILE, ("target_image", IMAGE), ("platform", "linux/arm64")])).status_code == 202


BAD_BODIES = [
    b"",
    b"no form",
    b"--b\r\n",
    b'--b\r\nContent-Disposition: form-data; name="target_image"\r\n\r\na',
    b"--b\r\n\r\nno name\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="tags"\r\n\r\n\xff\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="tags"\r\n\r\n' + b"x" * 70_000 + b"\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="tags"\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--b--\r\n',
    b"--b\r\n" + b"X: " + b"x" * 10_000 + b"\r\n\r\n\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="t"\r\n\r\n\r\n' * 70 + b"--b--\r\n",
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_what_is_no_form_is_a_bad_request(api: Api, body: bytes) -> None:
    result = post(api, {"body": body, "headers": {"Content-Type": "multipart/form-data; boundary=b"}})
    assert (result.status_code, result.json["code"]) == (400, "bad-request")
    assert not api.manager.asked


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 71])
def test_a_boundary_is_needed(api: Api, content_type: str) -> None:
    result = post(api, {"body": b"--b--", "headers": {"Content-Type": content_type}})
    assert (result.status_code, result.json["code"]) == (400, "bad-request")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/mixed; boundary=b"},
        {},
    ],
)
def test_other_bodies_are_not_supported(api: Api, headers: dict[str, str]) -> None:
    result = post(api, {"body": b"{}", "headers": headers})
    assert (result.status_code, result.json["code"]) == (415, "unsupported-media-type")


def test_an_encoded_form_is_not_supported(api: Api) -> None:
    assert post(api, build_form(IMAGE), **{"Content-Encoding": "gzip"}).status_code == 415


def test_a_context_that_is_too_large(api: Api, tmp_path: Path) -> None:
    limit = api.builds.max_context
    for context in (b"\x1f\x8b" + bytes(limit), base64.b64encode(b"\x1f\x8b" + bytes(limit))):
        result = post(api, form([("context", ("c", context)), ("target_image", IMAGE)]))
        assert (result.status_code, result.json["code"], result.json["limit"]) == (413, "body-too-large", limit)
    assert left(tmp_path) == []


def test_a_body_that_is_too_large_is_not_read(api: Api) -> None:
    request = build_form(IMAGE)
    result = post(api, request, **{"Content-Length": str(10**12)})
    assert (result.status_code, result.json["code"]) == (413, "body-too-large")


@pytest.mark.parametrize("text", ["not base64!", TEXT[:-1], "QUJD=AAA"])
def test_a_context_that_is_neither_base64_nor_gzip(api: Api, text: str) -> None:
    result = post(api, form([("context", ("c", text)), ("target_image", IMAGE)]))
    assert (result.status_code, result.json["code"]) == (422, "build-context-invalid")


def test_the_same_form_is_one_call_whatever_its_boundary(api: Api) -> None:
    first = post(api, build_form(IMAGE, "a", boundary="one"), **{"Idempotency-Key": "k"})
    again = post(api, build_form(IMAGE, "a", boundary="two"), **{"Idempotency-Key": "k"})
    raw = form([("target_image", IMAGE), ("context", ("c", CONTEXT)), ("tags", "a")])
    third = post(api, raw, **{"Idempotency-Key": "k"})
    assert first.json == again.json == third.json
    assert [each.headers.get("Idempotency-Replayed") for each in (first, again, third)] == [None, "true", "true"]
    assert asked(api)[1] == "k"


@pytest.mark.parametrize(
    "other",
    [
        build_form(IMAGE),
        build_form(f"{IMAGE}2", "a"),
        build_form(IMAGE, "a", files={"Dockerfile": "FROM scratch\n"}),
    ],
)
def test_another_form_is_another_call(api: Api, other: dict[str, Any]) -> None:
    assert post(api, build_form(IMAGE, "a"), **{"Idempotency-Key": "k"}).status_code == 202
    reused = post(api, other, **{"Idempotency-Key": "k"})
    assert (reused.status_code, reused.json["code"]) == (422, "idempotency-key-reused")


def test_too_many_builds_say_when_to_come_again(api: Api) -> None:
    api.manager.fail = TooManyBuilds("2 builds of yours are waiting.", retry_after=30)
    result = post(api, build_form(IMAGE), **{"Idempotency-Key": "k"})
    assert (result.status_code, result.json["code"], result.json["retryable"]) == (429, "too-many-builds", True)
    assert result.headers["Retry-After"] == "30"
    api.manager.fail = None
    assert post(api, build_form(IMAGE), **{"Idempotency-Key": "k"}).status_code == 202


def test_look_ups(api: Api) -> None:
    status = api.get("/build_status", query_string=f"build_id={BUILD}")
    assert status.json["status"] == "SUCCESS"
    assert set(status.json) >= {"status", "image", "error"}
    assert status.json == api.get(f"/builds/{BUILD}").json
    log = api.get(f"/builds/{BUILD}/log")
    assert (log.headers["Content-Type"], log.text) == ("text/plain; charset=utf-8", "#1 FROM busybox\n")
    assert log.headers["Cache-Control"] == "no-store"
    assert api.get("/image_exists", query_string="image=busybox").json["exists"] is True
    assert api.get("/registry_prefix").json == {"registry_prefix": "a/b"}


@pytest.mark.parametrize("path", ["/build_status", "/image_exists"])
def test_a_look_up_says_what_it_needs(api: Api, path: str) -> None:
    for query in ("", "build_id=&image=", "colour=red"):
        assert api.get(path, query_string=query).status_code == 422


@pytest.mark.parametrize("build_id", ["nope", "%00", "%2e%2e", "a" * 500, "%ff"])
def test_a_build_that_nobody_can_have(api: Api, build_id: str) -> None:
    for path in (f"/builds/{build_id}", f"/builds/{build_id}/log"):
        result = api.get(path)
        assert (result.status_code, result.json["code"]) == (404, "build-not-found")
