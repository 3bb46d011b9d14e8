"""The client's calls on workspaces, onto the whole service in this process."""

from __future__ import annotations

import pytest

from runtime_server import (
    EngineTimeout,
    RetryPolicy,
    RuntimeServerClient,
    StartRequest,
    ValidationFailed,
    WorkspaceInUse,
    WorkspaceNotFound,
    WorkspaceRequest,
)
from runtime_server.client import workspaces
from runtime_server.testing import InMemoryServer, in_memory_server
from tests.contract.conftest import FaultyAdapter

PROMPT = RetryPolicy(sleep=lambda _: None)


def used(client: RuntimeServerClient, session: str) -> str:
    """A workspace that nobody uses any more."""
    runtime = client.start_runtime(image="busybox", session_id=session, workspace="/workspace")
    client.remove_runtime(runtime.runtime_id)
    assert runtime.workspace is not None
    return runtime.workspace.workspace_id


def test_a_workspaces_life(client: RuntimeServerClient) -> None:
    request = StartRequest(image="busybox", session_id="s", workspace=WorkspaceRequest(path="/workspace/"))
    first = client.start_runtime(request)
    assert first.workspace is not None
    assert first.workspace.path == "/workspace"
    told = client.get_workspace("s")
    assert told.workspace_id == first.workspace.workspace_id
    assert (told.session_id, told.in_use_by, told.size_bytes) == ("s", [first.runtime_id], None)
    assert told.created_at == first.created_at
    assert client.get_workspace(told.workspace_id, sizes=True).size_bytes == 0
    with pytest.raises(WorkspaceInUse) as caught:
        client.delete_workspace("s")
    assert caught.value.extensions["runtime_ids"] == [first.runtime_id]
    client.stop_runtime(first.runtime_id)
    second = client.start_runtime(request)
    assert second.workspace == first.workspace
    for each in (first, second):
        client.remove_runtime(each.runtime_id)
    assert [each.in_use_by for each in client.list_workspaces()] == [[]]
    done = client.delete_workspace("s")
    assert (done.workspace_id, done.changed) == (told.workspace_id, True)
    assert client.list_workspaces() == []
    for call in (client.get_workspace, client.delete_workspace):
        with pytest.raises(WorkspaceNotFound):
            call("s")


@pytest.mark.parametrize("session", ["a/b", "..", ".", "/", "a\\b", "ä ö?#%2F", "100%", "x" * 1024])
def test_a_session_of_any_name(client: RuntimeServerClient, session: str) -> None:
    workspace = used(client, session)
    assert client.get_workspace(session).workspace_id == workspace
    assert [each.session_id for each in client.list_workspaces(session_id=session)] == [session]
    assert client.delete_workspace(session).workspace_id == workspace
    with pytest.raises(WorkspaceNotFound):
        client.delete_workspace(session)


def test_names_that_nobody_can_have(client: RuntimeServerClient) -> None:
    for name in ("", "x" * 1025, "\x07", "\u202e"):
        with pytest.raises(WorkspaceNotFound):
            client.get_workspace(name)


def test_an_admin_names_one_of_several_by_its_id() -> None:
    with in_memory_server(api_keys="alice:ka,bob:kb,root+admin:kr") as server:
        alice, bob, root = (server.client(api_key=key) for key in ("ka", "kb", "kr"))
        ids = [used(client, "a/b") for client in (alice, bob)]
        with pytest.raises(WorkspaceNotFound, match="several owners"):
            root.delete_workspace("a/b")
        assert [each.owner for each in root.list_workspaces(owner="bob")] == ["bob"]
        assert root.delete_workspace(ids[0]).changed
        assert root.delete_workspace("a/b").workspace_id == ids[1]


def test_all_pages(client: RuntimeServerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "PAGE", 2)
    ids = [used(client, f"s{n}") for n in range(5)]
    assert [each.workspace_id for each in client.list_workspaces(sizes=True)] == ids[::-1]


def test_a_start_without_a_name_is_refused(client: RuntimeServerClient) -> None:
    with pytest.raises(ValidationFailed, match="session_id or a name"):
        client.start_runtime(image="busybox", workspace="/workspace")


def test_a_deletion_whose_answer_is_lost_happens_once(server: InMemoryServer) -> None:
    client = server.client(retry=PROMPT)
    workspace = used(client, "s")
    lossy = server.client(retry=PROMPT)
    lossy._transport.session.mount("http://testserver", FaultyAdapter(server, iter(["cut"])))
    done = lossy.delete_workspace("s")
    assert (done.workspace_id, done.changed) == (workspace, True)
    assert server.engine.calls["remove_volume"] == 1


def test_a_deletion_that_an_engine_did_without_answering_succeeds(server: InMemoryServer) -> None:
    client = server.client(retry=PROMPT)
    used(client, "s")
    server.engine.fail_next("remove_volume", EngineTimeout(), after=True)
    assert client.delete_workspace("s").changed is False
    assert client.list_workspaces() == []
