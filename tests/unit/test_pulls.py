from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from runtime_server.engine.memory import MemoryEngine
from runtime_server.engine.stock import PullState
from runtime_server.errors import EngineTimeout, ImageNotFound, ImagePullFailed, Problem
from runtime_server.metrics.instruments import Metrics
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.pulls import Pulls
from runtime_server.store.store import Store
from tests.unit.conftest import DEADLINE, World, eventually, get, start

IMAGE = "registry.test/agent:1"
MakePulls = Callable[[], tuple[Pulls, Holder]]
PREFIX = "runtime_server_"


@pytest.fixture
def engine() -> MemoryEngine:
    engine = MemoryEngine("tests")
    engine.add_pullable(IMAGE)
    return engine


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make(
    engine: MemoryEngine, store: Store, metrics: Metrics, tmp_path: Path, request: pytest.FixtureRequest
) -> MakePulls:
    (tmp_path / "holders").mkdir()

    def pulls() -> tuple[Pulls, Holder]:
        holder = Holder(tmp_path / "holders")
        request.addfinalizer(holder.close)
        return Pulls(engine, store.operations, holder, metrics), holder

    return pulls


def counted(metrics: Metrics) -> dict[str, float]:
    """Pulls by outcome."""
    return {
        each.labels["outcome"]: each.value
        for family in metrics.pulls.collect()
        for each in family.samples
        if each.name == f"{PREFIX}pulls_total"
    }


def pull(pulls: Pulls, told: Callable[[PullState], None] = lambda _: None, image: str = IMAGE) -> None:
    pulls.pull(image, platform=None, login=None, progress=told)


@pytest.mark.parametrize("failure", [None, ImagePullFailed("no route", image=IMAGE), EngineTimeout("slow")])
def test_several_processes_share_one_pull_and_its_outcome(
    engine: MemoryEngine, make: MakePulls, metrics: Metrics, failure: Problem | None
) -> None:
    begun, go_on = Event(), Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        if failure is not None:
            raise failure

    engine.hook("pull", hold, times=1)
    told: list[list[PullState]] = [[], [], []]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(pull, make()[0])
        assert begun.wait(DEADLINE)
        others = [pool.submit(pull, make()[0], each.append) for each in told]
        eventually(lambda: all(told))
        go_on.set()
        outcomes = [each.exception(DEADLINE) for each in (first, *others)]
    assert engine.calls["pull"] == 1
    assert counted(metrics) == ({"ok": 1} if failure is None else {"ok": 0, failure.code: 1})
    assert metrics.registry.get_sample_value(f"{PREFIX}pull_duration_seconds_count") == 1
    assert [type(each) for each in outcomes] == [type(failure)] * 4
    if failure is not None:
        assert {str(each) for each in outcomes} == {str(failure)}


def test_what_comes_afterwards_pulls_again(engine: MemoryEngine, make: MakePulls) -> None:
    pull(make()[0])
    pull(make()[0])
    assert engine.calls["pull"] == 2
    for _ in range(2):
        with pytest.raises(ImageNotFound):
            pull(make()[0], image="registry.test/none:1")
    assert engine.calls["pull"] == 4


def test_a_dead_process_pull_is_begun_anew(engine: MemoryEngine, make: MakePulls, store: Store) -> None:
    pulls, holder = make()
    assert store.operations.claim(pulls._new(f"{IMAGE} "))
    told: list[PullState] = []
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(pull, make()[0], told.append)
        eventually(lambda: told)
        assert engine.calls["pull"] == 0
        holder.close()
        assert second.exception(DEADLINE) is None
    assert engine.calls["pull"] == 1


def test_whoever_no_longer_wants_it_leaves_it_to_others(
    engine: MemoryEngine, make: MakePulls, metrics: Metrics
) -> None:
    def enough(_: PullState) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pull(make()[0], enough)
    pull(make()[0])
    assert engine.calls["pull"] == 2
    assert counted(metrics) == {"abandoned": 1, "ok": 1}


class TestInAStart:
    def test_progress_is_in_the_status_detail(self, world: World) -> None:
        world.engine.add_pullable(IMAGE)
        begun, go_on = Event(), Event()

        def hold() -> None:
            begun.set()
            assert go_on.wait(DEADLINE)

        world.engine.hook("pull", hold, times=1)
        service, other = world.service(), world.service()
        first = start(service, image=IMAGE, wait=0)
        assert first.status is RuntimeStatus.STARTING
        assert begun.wait(DEADLINE)
        second = start(other, image=IMAGE, wait=0)
        detail = eventually(lambda: get(other, second.runtime_id).status_detail)
        assert detail == f"Pulling {IMAGE}: pulling"
        go_on.set()
        for each in (first, second):
            other.starts.await_start(each.runtime_id, DEADLINE)
            assert get(other, each.runtime_id).status_detail is None
        assert world.engine.calls["pull"] == 1

    @pytest.mark.parametrize(("policy", "pulls"), [("Always", 1), ("IfNotPresent", 0), ("Never", 0)])
    def test_policies_where_the_image_is_there(self, world: World, policy: str, pulls: int) -> None:
        assert start(world.service(), image_pull_policy=policy).status is RuntimeStatus.RUNNING
        assert world.engine.calls["pull"] == pulls

    @pytest.mark.parametrize(("policy", "pulls"), [("Always", 1), ("IfNotPresent", 1), ("Never", 0)])
    def test_policies_where_the_image_is_missing(self, world: World, policy: str, pulls: int) -> None:
        with pytest.raises(ImageNotFound):
            start(world.service(), image="registry.test/none:1", image_pull_policy=policy)
        assert world.engine.calls["pull"] == pulls
        assert world.engine.list() == []

    def test_credentials_reach_the_pull_and_no_file(self, world: World) -> None:
        world.engine.add_pullable(IMAGE)
        login = {"username": "robot-7f3a", "password": "hunter2-9c1e"}
        service = world.service()
        made = start(service, key="k", image=IMAGE, registry_auth=login, session_id="s")
        assert made.status is RuntimeStatus.RUNNING
        key = made.session_api_key
        assert key
        files = [path for path in world.state.directory.rglob("*") if path.is_file()]
        written = b"".join(path.read_bytes() for path in files)
        assert key.encode() in written, "the bytes are looked at, the write-ahead log's too"
        for secret in login.values():
            assert secret.encode() not in written
