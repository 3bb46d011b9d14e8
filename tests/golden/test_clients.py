"""What every client does with a runtime, in every version."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.golden import agents
from tests.golden.conftest import Make
from tests.golden.v0 import RemoteRuntime009
from tests.golden.wire import LOOKS, GaveUp
from tests.golden.world import ALL, SDK, SESSIONS, V0, V1, Client, Kind, World

every = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.version)
every_session = pytest.mark.parametrize("kind", SESSIONS, ids=lambda kind: kind.version)


def status(client: Client) -> tuple[str, str]:
    """The runtime's two states, whoever's client asks."""
    found = client.wire.ask("GET", f"/runtime/{client.runtime_id}")
    return found["status"], found["pod_status"]


def same(one: Client, other: Client) -> bool:
    """Whether two clients hold the same runtime, at the same address, with the same key."""
    return (one.runtime_id, one.url, one.key) == (other.runtime_id, other.url, other.key)


@every
def test_a_runtime_is_started_used_and_stopped(kind: Kind, make: Make) -> None:
    client = make(kind)
    client.connect()

    assert status(client) == ("running", "Ready")
    assert client.url is not None
    assert client.wire.reach(f"{client.url}/alive") == 200
    assert client.key
    client.close()
    assert status(client) == ("stopped", "Not Found")


@every_session
def test_another_client_of_the_session_finds_it(kind: Kind, make: Make) -> None:
    first = make(kind)
    first.connect()
    second = make(kind, first.session_id)
    second.connect()

    assert same(first, second)


@every_session
def test_it_stays_itself_over_pause_and_resume(kind: Kind, make: Make) -> None:
    client = make(kind)
    client.connect()
    before = (client.runtime_id, client.url, client.key)
    client.pause()
    assert status(client) == ("paused", "Not Found")
    client.resume()

    assert (client.runtime_id, client.url, client.key) == before
    assert status(client) == ("running", "Ready")
    assert client.wire.reach(f"{client.url}/health") == 200


@every_session
def test_a_paused_one_is_resumed_by_the_next(kind: Kind, make: Make) -> None:
    first = make(kind)
    first.connect()
    first.pause()
    second = make(kind, first.session_id)
    if kind in V1:
        second.stored = first.stored  # type: ignore[attr-defined]  # the app server's own table
    second.connect()

    assert same(first, second)
    assert "POST /resume" in second.wire.paths()
    assert "POST /start" not in second.wire.paths()


@every_session
def test_a_stopped_session_starts_afresh(kind: Kind, make: Make) -> None:
    first = make(kind)
    first.connect()
    first.close()
    second = make(kind, first.session_id)
    second.connect()

    assert second.runtime_id != first.runtime_id
    assert status(second) == ("running", "Ready")


@every_session
def test_starts_of_one_session_meet(kind: Kind, make: Make, world: World) -> None:
    """SDK and V0 start again while the session's runtime still starts."""
    first = make(kind, image=agents.SLEEPER)
    second = make(kind, first.session_id, agents.SLEEPER)
    first.wire.wait = second.wire.wait = 0.1
    answers = [each.wire.call("POST", "/start", body_of(each)) for each in (first, second)]
    ids = {answer.json()["runtime_id"] for answer in answers}

    assert [answer.status_code for answer in answers] == [201, 201]
    assert len(ids) == 1
    (first.runtime_id,) = ids
    assert {answer.json()["session_api_key"] for answer in answers} != {None}
    until(first, lambda: first.wire.ask("GET", f"/sessions/{first.session_id}")["pod_status"] == "Running")
    assert status(first) == ("starting", "Running")
    world.wake(str(first.runtime_id))
    second.connect()
    assert second.runtime_id == first.runtime_id


def body_of(client: Any) -> dict[str, Any]:
    """What it sends to start its session."""
    body: dict[str, Any] = client.start_body(client.session_id) if type(client) in V1 else client.start_body()
    return body


def until(client: Client, look: Callable[[], bool]) -> None:
    for _ in range(LOOKS):
        if look():
            return
        client.wire.pause()
    raise AssertionError("it never came to that")


@every
def test_it_waits_for_one_that_takes_its_time(kind: Kind, make: Make, world: World) -> None:
    client = make(kind, image=agents.SLEEPER)
    client.wire.wait = 0.1
    looked = threading.Event()
    pause = client.wire.pause

    def note() -> None:
        looked.set()
        pause()

    client.wire.pause = note
    caught: list[BaseException] = []

    def connect() -> None:
        try:
            client.connect()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    assert looked.wait(60), "its start was answered before the service was there"
    assert client.wire.ask("GET", f"/runtime/{client.runtime_id or known(client)}")["status"] == "starting"
    world.wake(str(client.runtime_id or known(client)))
    thread.join(120)
    assert caught == []
    # The earliest client asks the service alone, which may answer before the server has looked.
    until(client, lambda: status(client) == ("running", "Ready"))


def known(client: Client) -> str:
    """V1 looks its runtime up by its session."""
    return str(client.wire.ask("GET", f"/sessions/{client.session_id}")["runtime_id"])


@every_session
@pytest.mark.parametrize(
    ("image", "word", "said"),
    [
        (agents.MISSING, "ImagePull", None),
        (agents.BARE, "not found", None),
        (agents.BROKEN, None, agents.LAST_WORDS),
    ],
    ids=["no image", "no program", "it ends"],
)
def test_it_gives_up_what_fails(kind: Kind, image: str, word: str | None, said: str | None, make: Make) -> None:
    client = make(kind, image=image)
    with pytest.raises(GaveUp) as failed:
        client.connect()

    found = client.wire.ask("GET", f"/sessions/{client.session_id}")
    assert word is None or word in found["status_detail"]
    assert said is None or said in found["pod_logs"]
    assert found["container_statuses"]
    assert found["events"]
    if kind in SDK and said is not None:
        assert said in str(failed.value)
    stopped_it = kind in V0 and kind not in (V0[0],)
    assert (found["status"], found["pod_status"]) in (
        [("stopped", "Not Found")] if stopped_it else [("error", "Failed"), ("error", "CrashLoopBackOff")]
    )


@every_session
def test_a_failed_session_starts_afresh(kind: Kind, make: Make) -> None:
    first = make(kind, image=agents.BROKEN)
    with pytest.raises(GaveUp):
        first.connect()
    second = make(kind, first.session_id)
    second.connect()

    assert status(second) == ("running", "Ready")


@every_session
def test_a_strangers_session_is_another(kind: Kind, make: Make) -> None:
    mine = make(kind)
    mine.connect()
    theirs = make(kind, mine.session_id, owner="stranger")
    theirs.connect()

    assert theirs.runtime_id != mine.runtime_id
    assert theirs.key != mine.key
    assert theirs.wire.call("GET", f"/runtime/{mine.runtime_id}").status_code == 404


def test_the_earliest_clients_runtimes_are_one_each(make: Make) -> None:
    first, second = make(RemoteRuntime009, "sid-one"), make(RemoteRuntime009, "sid-two")
    first.connect()
    second.connect()
    assert first.runtime_id != second.runtime_id
    assert first.url != second.url
