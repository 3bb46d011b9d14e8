"""Events, stats and pulls through the client, on the whole service in memory, over connections that break."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import requests

from runtime_server import InvalidState, RetryPolicy, RuntimeServerClient, ServerUnreachable
from runtime_server.errors import ImageInUse, ImageNotFound, VolumeInUse, VolumeNotFound
from runtime_server.testing import TEST_URL, InMemoryServer, in_memory_server
from tests.contract.test_logs import PROMPT, Breaking

STATES = ["starting", "running", "paused", "running", "stopping", "stopped"]


@pytest.fixture(scope="module")
def memory() -> Iterator[InMemoryServer]:
    with in_memory_server(api_keys="me+admin:key-me", heartbeat=0.1, max_stream=5) as found:
        yield found


def through(adapter: Breaking, server: InMemoryServer, policy: RetryPolicy = PROMPT) -> RuntimeServerClient:
    session = requests.Session()
    session.mount("http://", adapter)
    return RuntimeServerClient(TEST_URL, api_key=server.api_key, session=session, retry=policy)


def lived(client: RuntimeServerClient) -> tuple[int, str]:
    """What was the last event before a runtime that went through ``STATES``, and that runtime."""
    before = max((each.id for each in client.events(since_id=0, follow=False)), default=0)
    runtime = client.start_runtime(image="busybox").runtime_id
    client.pause_runtime(runtime)
    client.resume_runtime(runtime)
    client.stop_runtime(runtime, timeout=0)
    return before, runtime


@pytest.mark.parametrize("most", [300, 450, 1000])
def test_no_event_is_lost_or_repeated_over_broken_connections(memory: InMemoryServer, most: int) -> None:
    before, runtime = lived(memory.client())
    adapter = Breaking(memory, [most])  # type: ignore[arg-type]
    with through(adapter, memory).events(since_id=before) as events:
        wanted = [each for each in islice(events, 6) if each.runtime_id == runtime]
    assert [str(each.status) for each in wanted] == STATES
    assert len(adapter.queries) > 1 or most == 1000
    assert "after=" in adapter.queries[-1]


def test_a_stream_without_anything_new_is_given_up(memory: InMemoryServer) -> None:
    adapter = Breaking(memory, [10])  # type: ignore[arg-type]
    with pytest.raises(ServerUnreachable):
        next(through(adapter, memory, RetryPolicy(max_attempts=3, sleep=lambda _: None)).events())
    assert len(adapter.queries) == 3


def test_followers_of_one_process_see_the_same(memory: InMemoryServer) -> None:
    client = memory.client()
    before, runtime = lived(client)
    streams = [memory.client().events(since_id=before, runtime=runtime) for _ in range(4)]
    late = memory.client().events(since_id=before, status=["paused", "stopped"], runtime=runtime)
    assert [[str(each.status) for each in islice(stream, 6)] for stream in streams] == [STATES] * 4
    assert [str(each.status) for each in islice(late, 2)] == ["paused", "stopped"]
    client.restart_runtime(runtime)
    for stream in streams:
        assert [str(each.status) for each in islice(stream, 2)] == ["starting", "running"]
        stream.close()
    late.close()


def test_stats_end_with_their_runtime(memory: InMemoryServer) -> None:
    client = memory.client()
    runtime = client.start_runtime(image="busybox").runtime_id
    assert client.stats(runtime).cpu_percent == pytest.approx(50, abs=10)
    with client.stats(runtime, stream=True, interval=0.5) as stream:
        assert next(stream).runtime_id == runtime
        client.remove_runtime(runtime)
        assert list(stream) == []
        assert stream.ended == "removed"
    with pytest.raises(InvalidState):
        client.stats(runtime)
    assert [str(each.status) for each in client.history(runtime).entries][-1] == "removed"


def test_changes_are_all_or_nothing_and_outlive_a_restart(memory: InMemoryServer) -> None:
    client = memory.client()
    runtime = client.start_runtime(image="busybox", labels={"a": "1", "b": "2"}).runtime_id
    changed = client.update_runtime(runtime, memory="96m", cpus=0.5, labels={"a": None}, ttl=100)
    assert (changed.memory_bytes, changed.cpus, changed.labels) == (96 * 2**20, 0.5, {"b": "2"})
    with pytest.raises(Exception, match="labels"):
        client.update_runtime(runtime, memory="64m", labels={"runtime-server.owner": "x"})
    client.restart_runtime(runtime)
    again = client.update_runtime(runtime)
    assert (again.memory_bytes, again.labels, again.status) == (96 * 2**20, {"b": "2"}, "running")
    assert client.update_runtime(runtime, ttl=None).expires_at is None


def test_pulls_images_and_volumes(memory: InMemoryServer) -> None:
    client = memory.client()
    memory.engine.add_pullable("registry.test/agent:1")
    told = list(client.pull_image("registry.test/agent:1"))
    assert [(each.status, each.layer is not None, each.current_bytes, each.total_bytes) for each in told] == [
        ("pulling", True, 500_000, 1_000_000),
        ("pulling", False, None, None),
        ("pulling", True, 1_000_000, 1_000_000),
        ("pulling", False, None, None),
        ("complete", False, None, None),
    ]
    with pytest.raises(ImageNotFound):
        client.pull_image("registry.test/none:1").wait()
    mount = [{"host_path": "cache", "container_path": "/c"}]
    runtime = client.start_runtime(image="registry.test/agent:1", volumes=mount).runtime_id
    (volume,) = client.list_volumes()
    assert (volume.name, volume.in_use_by) == ("cache", [runtime])
    with pytest.raises(VolumeInUse):
        client.delete_volume("cache")
    with pytest.raises(ImageInUse):
        client.delete_image("registry.test/agent:1")
    client.stop_runtime(runtime, timeout=0)
    assert runtime in client.prune(dry_run=True).runtimes
    assert runtime in client.prune().runtimes
    assert client.delete_volume("cache").changed
    assert client.delete_image("registry.test/agent:1").changed
    assert "registry.test/agent:1" not in {name for each in client.list_images() for name in each.references}
    for name in ("cache", "", "..", "a/b"):
        with pytest.raises(VolumeNotFound):
            client.delete_volume(name)
