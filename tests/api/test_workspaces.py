"""The routes of workspaces: what they read of a request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.fakes import WORKSPACE


def test_listing_reads_its_query(api: Api) -> None:
    plain = {"owner": None, "session_id": None, "sizes": False, "limit": 100, "cursor": None}
    api.get("/workspaces")
    assert api.manager.asked[-1] == ("list_workspaces", "alice", plain)
    api.get("/workspaces", query_string="owner=bob&session_id=a%2Fb&sizes=true&limit=7&cursor=xyz")
    asked: dict[str, Any] = {"owner": "bob", "session_id": "a/b", "sizes": True, "limit": 7, "cursor": "xyz"}
    assert api.manager.asked[-1] == ("list_workspaces", "alice", asked)


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("sizes=perhaps", "sizes"),
        ("session_id=", "session_id"),
        ("session_id=a&session_id=b", "session_id"),
        ("cursor=", "cursor"),
    ],
)
def test_a_wrong_query_says_where(api: Api, query: str, loc: str) -> None:
    result = api.get("/workspaces", query_string=query)
    assert result.status_code == 422
    assert [each["loc"] for each in result.json["errors"]] == [[loc]]


def test_one_is_read_with_its_size_if_asked_for(api: Api) -> None:
    for query, sizes in (("", False), ("sizes=true", True)):
        assert api.get(f"/workspaces/{WORKSPACE}", query_string=query).status_code == 200
        assert api.manager.asked[-1] == ("get_workspace", "alice", WORKSPACE, sizes)


@pytest.mark.parametrize("name", ["x", "%00", "%0a", "%ff", "a" * 1025, "%F0%9F%98%80", "%ED%A0%80", "%E2%80%AE"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_name_that_nobody_can_have_is_not_found(api: Api, name: str, method: str) -> None:
    result = api.ask(method, f"/workspaces/{name}")
    assert (result.status_code, result.json["code"]) == (404, "workspace-not-found")


@pytest.mark.parametrize(
    "workspace", ["relative", "/", "/a/../b", "/a:b", "true", 1, {}, {"path": "x"}, {"path": "/w", "more": 1}, []]
)
def test_a_start_with_a_path_that_is_none_is_refused(api: Api, workspace: Any) -> None:
    result = api.post("/start", {"image": "busybox", "session_id": "s", "workspace": workspace})
    assert result.status_code == 422
    assert {each["loc"][0] for each in result.json["errors"]} == {"workspace"}
    assert not api.manager.asked
