"""What every client does with a runtime, in every version."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from runtime_server.testing import in_memory_server
from tests.golden import agents
from tests.golden.conftest import Make, clients
from tests.golden.sdk import ApiRemoteWorkspace10
from tests.golden.v0 import RemoteRuntime009
from tests.golden.wire import LOOKS, GaveUp
from tests.golden.world import ALL, SDK, SESSIONS, V0, V1, Client, InMemory, Kind, World

NEWEST = (SDK[0], V0[0], V1[0])


def status(client: Client) -> tuple[str, str]:
    """The runtime's two states."""
    found = client.wire.ask("GET", f"/runtime/{client.runtime_id or known(client)}")
    return found["status"], found["pod_status"]


def known(client: Client) -> str:
    """The id of the session's runtime."""
    return str(client.wire.ask("GET", f"/sessions/{client.session_id}")["runtime_id"])


def held(client: Client) -> tuple[str | None, str | None, str | None]:
    """What a client holds of its runtime: the id, the address, the key."""
    return client.runtime_id, client.url, client.key


def until(client: Client, look: Callable[[], bool]) -> None:
    for _ in range(LOOKS):
        if look():
            return
        client.wire.pause()
    raise AssertionError("it never came to that")


@clients(SESSIONS, docker=SESSIONS)
def test_a_sessions_life(kind: Kind, make: Make, world: World) -> None:
    first = make(kind)
    first.connect()
    assert status(first) == ("running", "Ready")
    assert first.wire.reach(f"{first.url}/alive") == 200
    assert all(held(first))

    second = make(kind, first.session_id)
    second.connect()
    assert held(second) == held(first)

    first.pause()
    assert status(first) == ("paused", "Not Found")
    first.resume()
    until(first, lambda: status(first) == ("running", "Ready"))
    assert first.wire.reach(f"{first.url}/health") == 200

    second.pause()
    third = make(kind, first.session_id)
    if kind in V1:
        third.stored = first.stored  # type: ignore[attr-defined]  # the app server's own table
    third.connect()
    assert held(third) == held(first)
    assert "POST /resume" in third.wire.paths()
    assert "POST /start" not in third.wire.paths()

    third.close()
    assert status(third) == ("stopped", "Not Found")

    fourth = make(kind, first.session_id)
    fourth.connect()
    assert fourth.runtime_id != first.runtime_id
    assert fourth.key != first.key
    assert status(fourth) == ("running", "Ready")


@clients([RemoteRuntime009], docker=[RemoteRuntime009])
def test_the_earliest_clients_runtimes_are_one_each(kind: Kind, make: Make, world: World) -> None:
    first, second = make(kind, "sid-one"), make(kind, "sid-two")
    first.connect()
    second.connect()
    assert first.runtime_id != second.runtime_id
    assert first.url != second.url
    assert all(held(first))
    first.close()
    assert status(first) == ("stopped", "Not Found")
    assert status(second) == ("running", "Ready")


@clients(SESSIONS, docker=NEWEST)
def test_starts_of_one_session_meet(kind: Kind, make: Make, world: World) -> None:
    """SDK and V0 start again while the session's runtime still starts."""
    first = make(kind, image=agents.SLEEPER)
    second = make(kind, first.session_id, agents.SLEEPER)
    first.wire.wait = second.wire.wait = 0.1
    answers = [each.wire.call("POST", "/start", body_of(each)) for each in (first, second)]
    found = [answer.json() for answer in answers]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert [each["status"] for each in found] == ["starting", "starting"]
    for name in ("runtime_id", "url", "session_api_key"):
        assert found[0][name]
        assert found[0][name] == found[1][name]
    until(first, lambda: status(first) == ("starting", "Running"))
    world.wake(known(first))
    second.connect()
    assert held(second) == (found[0]["runtime_id"], found[0]["url"], found[0]["session_api_key"])


def body_of(client: Any) -> dict[str, Any]:
    """What it sends to start its session."""
    body: dict[str, Any] = client.start_body(client.session_id) if type(client) in V1 else client.start_body()
    return body


@clients(ALL, docker=NEWEST)
def test_it_waits_for_one_that_takes_its_time(kind: Kind, make: Make, world: World) -> None:
    client = make(kind, image=agents.SLEEPER)
    client.wire.wait = 0.1
    looked = threading.Event()
    caught: list[BaseException] = []
    pause = client.wire.pause

    def note() -> None:
        looked.set()
        pause()

    def connect() -> None:
        try:
            client.connect()
        except BaseException as error:
            caught.append(error)
            looked.set()

    client.wire.pause = note
    thread = threading.Thread(target=connect)
    thread.start()
    assert looked.wait(60)
    assert caught == []
    assert status(client)[0] == "starting"
    until(client, lambda: status(client)[1] == "Running")
    world.wake(client.runtime_id or known(client))
    thread.join(120)
    assert caught == []
    # The earliest client asks the service alone, which may answer before the server has looked.
    until(client, lambda: status(client) == ("running", "Ready"))


@clients(SESSIONS, docker=NEWEST)
@pytest.mark.parametrize("image", [agents.BARE, agents.BROKEN], ids=["no program", "it ends"])
def test_it_gives_up_what_fails(kind: Kind, image: str, make: Make, world: World) -> None:
    client = make(kind, image=image)
    with pytest.raises(GaveUp) as failed:
        client.connect()

    found = client.wire.ask("GET", f"/sessions/{client.session_id}")
    assert "not found" in found["status_detail"] or image == agents.BROKEN
    assert agents.LAST_WORDS in found["pod_logs"] or image == agents.BARE
    assert found["container_statuses"]
    assert found["events"]
    if kind in SDK and image == agents.BROKEN:
        assert agents.LAST_WORDS in str(failed.value)
    # V0 stopped what had failed, until 0.25; it stays what it is.
    assert ("POST /stop" in client.wire.paths()) == (kind in V0[1:])
    assert (found["status"], found["pod_status"]) == ("error", "Failed")

    second = make(kind, client.session_id)
    second.connect()
    assert status(second) == ("running", "Ready")


@clients(NEWEST[:1], docker=NEWEST[1:2])
def test_it_gives_up_an_image_that_nobody_has(kind: Kind, make: Make, world: World) -> None:
    client = make(kind, image=agents.MISSING)
    with pytest.raises(GaveUp):
        client.connect()

    found = client.wire.ask("GET", f"/sessions/{client.session_id}")
    assert "ImagePullBackOff" in found["status_detail"] or "ErrImagePull" in found["status_detail"]
    assert (found["status"], found["pod_status"]) == ("error", "Failed")


def test_the_first_sdk_works_without_keys() -> None:
    with in_memory_server(auth="off") as server:
        world = InMemory(server)
        first = ApiRemoteWorkspace10(world.wire(), "keyless", agents.AGENT)
        first.connect()
        first.pause()
        second = ApiRemoteWorkspace10(world.wire(), "keyless", agents.AGENT)
        second.connect()
        assert held(second) == held(first)
        second.close()
        assert status(first) == ("stopped", "Not Found")


@clients(SESSIONS)
def test_a_strangers_session_is_another(kind: Kind, make: Make) -> None:
    mine = make(kind)
    mine.connect()
    theirs = make(kind, mine.session_id, owner="stranger")
    theirs.connect()

    assert theirs.runtime_id != mine.runtime_id
    assert theirs.key != mine.key
    assert theirs.wire.call("GET", f"/runtime/{mine.runtime_id}").status_code == 404
