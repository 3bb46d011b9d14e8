"""What the app server, its poller, and those who clean up make of /list and of many sessions at once."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import pytest

from tests.golden import agents
from tests.golden.conftest import Make
from tests.golden.others import NestedConversations, clean_up
from tests.golden.v1 import RemoteSandboxService
from tests.golden.world import SDK, V0, V1, World

every = pytest.mark.parametrize("kind", V1, ids=lambda kind: kind.version)
either = pytest.mark.parametrize("world", ["memory", pytest.param("docker", marks=pytest.mark.engine)], indirect=True)


@pytest.fixture
def app(request: pytest.FixtureRequest, make: Make) -> Any:
    """An app server whose two sandboxes run; their names hold nothing that others' might."""
    kind: type[RemoteSandboxService] = request.param
    service: Any = make(kind, secrets.token_hex(11))
    service.connect()
    other = secrets.token_hex(11)
    service.start(other)
    service.other = other
    yield service
    service.delete_sandbox(other)


apps = pytest.mark.parametrize("app", V1, ids=lambda kind: kind.version, indirect=True)


@apps
def test_a_page_of_sandboxes(app: Any) -> None:
    app.pause_sandbox(app.other)
    unknown = secrets.token_hex(11)
    found = app.sandboxes([app.session_id, app.other, unknown])
    assert {each: shown.status for each, shown in found.items()} == {
        app.session_id: "RUNNING",
        app.other: "PAUSED",
        unknown: "MISSING",
    }
    shown = found[app.session_id]
    assert shown.key == app.key
    assert shown.urls["AGENT_SERVER"] == app.url
    origin = str(app.url).removeprefix("http://")
    vscode = f"http://vscode-{origin}/?tkn={app.key}&folder=%2Fworkspace%2Fproject"
    assert shown.urls["VSCODE"] == vscode
    assert shown.urls["WORKER_1"].rstrip("/") == f"http://work-1-{origin}"


@apps
def test_a_hundred_sandboxes_in_one_request(app: Any) -> None:
    """The app server's page; its ids may be as long as a UUID."""
    many = [str(uuid.uuid4()) for _ in range(98)]
    found = app.sandboxes([*many, app.session_id, app.other])
    assert {shown.status for shown in found.values()} == {"MISSING", "RUNNING"}
    assert [each for each, shown in found.items() if shown.status == "RUNNING"] == [app.session_id, app.other]


@apps
def test_only_running_ones_count(app: Any) -> None:
    assert {app.session_id, app.other} <= app.running()
    assert app.pause_old(1) == [app.session_id]
    assert app.session_id not in app.running()
    assert app.sandbox(app.session_id).status == "PAUSED"
    assert app.pause_old(1) == []


@apps
def test_the_poller_finds_what_runs(app: Any) -> None:
    app.pause_sandbox(app.other)
    found = app.polled()
    assert found[app.session_id] == f"{app.url} {app.key}"
    assert app.other not in found


@apps
def test_a_sandbox_is_found_by_its_key(app: Any) -> None:
    assert app.by_key(app.key) == app.session_id
    # 1.6 and later forget the key's hash with the pause, and take it from the resume's answer.
    app.pause_sandbox(app.session_id)
    assert app.resume_sandbox(app.session_id)
    assert app.by_key(app.key) == app.session_id


@apps
def test_a_sandbox_that_is_gone_is_deleted_all_the_same(app: Any) -> None:
    app.stored["never-started"] = None
    assert app.delete_sandbox("never-started")
    started = secrets.token_hex(11)
    app.start(started)
    app.wire.call("POST", "/stop", {"runtime_id": app.runtime(started)["runtime_id"]})
    assert app.delete_sandbox(started)


@either
def test_the_clean_up_script_stops_everything(make: Make, world: World) -> None:
    clean_up(world.wire("stranger"))
    running = make(SDK[0], owner="stranger")
    running.connect()
    paused = make(V0[0], owner="stranger")
    paused.connect()
    paused.pause()
    mine = make(V0[0])
    mine.connect()

    assert clean_up(world.wire("stranger")) == 1
    assert clean_up(world.wire("stranger")) == 0
    states = [each.wire.ask("GET", f"/runtime/{each.runtime_id}")["status"] for each in (running, paused, mine)]
    assert states == ["stopped", "paused", "running"]


def test_the_manager_of_conversations(make: Make, world: World) -> None:
    client = make(V0[0], "conversation-1")
    manager = NestedConversations(world.wire())
    assert manager.status("conversation-1") == "STOPPED"
    client.connect()
    found = manager.runtime("conversation-1")
    assert found is not None
    assert (found["runtime_id"], found["session_api_key"]) == (client.runtime_id, client.key)
    assert manager.status("conversation-1") == "RUNNING"
    assert "conversation-1" in manager.running()
    manager.close("conversation-1")
    assert "conversation-1" not in manager.running()
    client.resume()
    client.close()
    assert manager.status("conversation-1") == "ARCHIVED"


def test_runtimes_without_a_session_do_no_harm(make: Make, world: World) -> None:
    """Others of the same key start what has no session: it is in /list as well."""
    wire = world.wire()
    plain = wire.ask("POST", "/start", {"image": agents.AGENT})
    service = make(V1[0])
    service.connect()
    assert service.session_id in service.running()  # type: ignore[attr-defined]
    assert NestedConversations(world.wire()).running() >= {service.session_id}
    wire.ask("POST", "/stop", {"runtime_id": plain["runtime_id"]})
