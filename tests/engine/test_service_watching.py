"""Stats, history, events, restarts and changes of runtimes on the real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, pairwise

import pytest
from docker import APIClient

from runtime_server.errors import InvalidState, LimitOutOfRange
from tests.engine.served import Served, eventually, serve

BUSY = "while :; do :; done"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("watching"), docker_client, heartbeat=0.5) as found:
        yield found


def test_what_a_runtime_uses(served: Served) -> None:
    runtime = served.start(BUSY, cpus=1, memory="64m").runtime_id
    found = served.client.stats(runtime)
    assert found.runtime_id == runtime
    assert found.cpu_percent > 5
    assert (found.cpus, found.memory_limit_bytes) == (1.0, 64 * 2**20)
    assert 0 < found.memory_bytes < 64 * 2**20
    assert found.pids >= 1
    served.client.pause_runtime(runtime)
    assert served.client.stats(runtime).cpu_percent < 5
    served.client.stop_runtime(runtime, timeout=0)
    with pytest.raises(InvalidState):
        served.client.stats(runtime)


def test_a_stream_of_stats_ends_with_its_runtime(served: Served) -> None:
    runtime = served.start().runtime_id
    with served.client.stats(runtime, stream=True, interval=0.5) as stream:
        first, second = islice(stream, 2)
        assert first.time < second.time
        assert second.memory_bytes > 0
        served.client.stop_runtime(runtime, timeout=0)
        assert list(stream) == []
        assert stream.ended == "stopped"


def test_the_history_has_each_state_once(served: Served) -> None:
    runtime = served.start().runtime_id
    served.client.pause_runtime(runtime)
    served.client.resume_runtime(runtime)
    served.client.restart_runtime(runtime, timeout=0)
    served.client.remove_runtime(runtime)
    found = served.client.history(runtime).entries
    # A removal that takes long shows that it is stopping.
    states = [str(each.status) for each in found if each.status not in ("stopping", "stopped")]
    assert states == ["starting", "running", "paused", "running", "starting", "running", "removed"]
    assert [each.id for each in found] == sorted({each.id for each in found})
    assert all(a.at <= b.at for a, b in pairwise(found))


def test_events_are_followed_by_their_owners(served: Served) -> None:
    position = max((each.id for each in served.client.events(since_id=0, follow=False)), default=0)
    with served.client.events(since_id=position) as events:
        mine = served.start(name="seen").runtime_id
        served.client.pause_runtime(mine)
        found = list(islice(events, 3))
    assert [(each.runtime_id, str(each.status)) for each in found] == [
        (mine, "starting"),
        (mine, "running"),
        (mine, "paused"),
    ]
    assert {(each.owner, each.name) for each in found} == {("me", "seen")}
    assert list(served.stranger.events(since_id=position, follow=False)) == []
    assert list(served.client.events(since_id=position, owner="stranger", follow=False)) == []
    later = list(served.client.events(since_id=found[1].id, runtime="seen", follow=False))
    assert [str(each.status) for each in later] == ["paused"]
    only = list(served.client.events(since_id=position, status="running", follow=False))
    assert [each.id for each in only] == [found[1].id]


def test_server_sent_events_go_on_after_the_last_one(served: Served) -> None:
    runtime = served.start().runtime_id
    first, second = served.client.history(runtime).entries[:2]
    answer = served.session.get(
        f"http://testserver/events?runtime={runtime}&follow=false",
        headers={"X-API-Key": "key-of-me", "Accept": "text/event-stream", "Last-Event-ID": str(first.id)},
    )
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    position, event, end, rest = answer.text.split("\n\n")
    assert position == f"retry: 2000\nid: {first.id}"
    assert event.splitlines()[:2] == [f"id: {second.id}", "event: status"]
    told = json.loads(event.splitlines()[2].removeprefix("data: "))
    assert (told["runtime_id"], told["status"], told["id"]) == (runtime, "running", second.id)
    assert (end, rest) == ('event: end\ndata: "complete"', "")


@pytest.mark.parametrize("state", ["running", "paused", "stopped", "error"])
def test_restarts_keep_the_files_and_begin_anew(served: Served, state: str) -> None:
    count = "echo >> /srv/starts; wc=0; while read -r _; do wc=$((wc+1)); done < /srv/starts; echo start $wc;"
    wait = "exit 3" if state == "error" else "sleep 1000"
    runtime = served.start(f"{count} [ $wc -gt 1 ] || {wait}; sleep 1000").runtime_id
    container = served.inspect(runtime)["Id"]
    if state == "paused":
        served.client.pause_runtime(runtime)
    elif state == "stopped":
        served.client.stop_runtime(runtime, timeout=0)
    eventually(lambda: served.client.get_runtime(runtime).status == state, f"it is {state}")
    served.lines(runtime, 1)
    restarted = served.client.restart_runtime(runtime, timeout=0)
    assert (restarted.status, restarted.changed) == ("running", True)
    seen = served.inspect(runtime)
    assert (seen["Id"], seen["State"]["Status"]) == (container, "running")
    assert served.lines(runtime, 2) == ["start 1", "start 2"]
    now = served.client.get_runtime(runtime)
    assert (now.status, now.exit, now.error) == ("running", None, None)


def test_a_restart_of_what_is_removed_is_refused(served: Served) -> None:
    runtime = served.start().runtime_id
    served.client.remove_runtime(runtime)
    with pytest.raises(InvalidState):
        served.client.restart_runtime(runtime)


def test_limits_times_and_labels_change_in_place(served: Served) -> None:
    runtime = served.start(labels={"a": "1", "b": "2"}, cpus=1, memory="64m", ttl=1000).runtime_id
    process = served.inspect(runtime)["State"]["Pid"]
    changed = served.client.update_runtime(
        runtime, memory="96m", cpus=0.5, pids_limit=77, labels={"a": None, "c": "3"}, retention=60, ttl=None
    )
    assert (changed.cpus, changed.memory_bytes, changed.pids_limit, changed.retention) == (0.5, 96 * 2**20, 77, 60)
    assert (changed.labels, changed.expires_at) == ({"b": "2", "c": "3"}, None)
    host = served.inspect(runtime)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (96 * 2**20, 500_000_000, 77)
    assert served.inspect(runtime)["State"]["Pid"] == process
    assert served.client.get_runtime(runtime).labels == {"b": "2", "c": "3"}
    served.client.pause_runtime(runtime)
    assert served.client.update_runtime(runtime, memory="128m").memory_bytes == 128 * 2**20
    assert served.inspect(runtime)["HostConfig"]["Memory"] == 128 * 2**20
    with pytest.raises(LimitOutOfRange):
        served.client.update_runtime(runtime, memory="1m")
    assert served.client.update_runtime(runtime).memory_bytes == 128 * 2**20
