"""The queue of starts: exact over processes, fair between owners, and nothing of it lost with a process."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime_server.engine.memory import MemoryEngine
from runtime_server.models import RuntimeStatus, StartRequest
from runtime_server.runtimes.caller import Caller
from runtime_server.service import Service, build
from runtime_server.settings import Settings
from runtime_server.state import locate, prepare
from runtime_server.store.records import Record

ADA, BOB = Caller("ada"), Caller("bob")
REQUEST = StartRequest(image="busybox", wait=0)


class Gate:
    """Holds each creation of a container until it is let through, and knows the order in which they came."""

    def __init__(self) -> None:
        self._tokens = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.inside = self.most = 0
        self.came = 0

    def __call__(self) -> None:
        with self._lock:
            self.inside += 1
            self.came += 1
            self.most = max(self.most, self.inside)
        self._tokens.acquire()
        with self._lock:
            self.inside -= 1

    def open(self, times: int = 1) -> None:
        self._tokens.release(times)


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a database; migrating is what takes longest here."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(Settings(state_dir=folder / "state", auth="off"))
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(prepared / "state", tmp_path / "state")
    return tmp_path


@contextmanager
def workers(folder: Path, count: int, **settings: Any) -> Iterator[tuple[list[Service], Gate]]:
    """Services on one state directory and one engine, each as a worker of its own, without a reconciler."""
    chosen = Settings(state_dir=folder / "state", auth="off", log_level="error", **settings)
    engine = MemoryEngine(locate(chosen).instance)
    gate = Gate()
    with ExitStack() as stack:
        services = []
        for _ in range(count):
            sibling = engine.sibling()
            sibling.hook("create", gate)
            services.append(build(chosen, engine=sibling))
            stack.callback(services[-1].close)
        stack.callback(gate.open, 1000)
        yield services, gate


def start(service: Service, caller: Caller, **changes: Any) -> str:
    return service.manager.start(caller, REQUEST.model_copy(update=changes)).runtime_id


def record(service: Service, runtime_id: str) -> Record:
    found = service.store.get(runtime_id)
    assert found is not None
    return found


def queued(service: Service, runtimes: list[str]) -> list[str]:
    return [each for each in runtimes if (record(service, each).status_detail or "").startswith("Queued")]


def running(service: Service, runtimes: list[str]) -> list[str]:
    return [each for each in runtimes if record(service, each).status is RuntimeStatus.RUNNING]


def test_no_more_are_worked_on_than_there_are_places_over_all_workers(folder: Path) -> None:
    with workers(folder, 2, max_starting=3) as (services, gate):
        with ThreadPoolExecutor(16) as pool:
            started = list(pool.map(lambda n: start(services[n % 2], ADA), range(16)))
        until(lambda: gate.inside == 3)
        assert len(queued(services[0], started)) == 13
        assert record(services[0], started[0]).status is RuntimeStatus.STARTING
        gate.open(16)
        until(lambda: len(running(services[0], started)) == 16)
        assert gate.most == 3
        assert not queued(services[0], started)
        assert not services[0].store.operations.running("start")


@pytest.mark.parametrize("places", [1, 2])
def test_an_owner_that_comes_later_is_next(folder: Path, places: int) -> None:
    with workers(folder, 1, max_starting=places) as ((service,), gate):
        many = [start(service, ADA) for _ in range(20 + places)]
        until(lambda: gate.inside == places)
        for _ in range(4):
            came = gate.came
            gate.open()
            until(lambda came=came: gate.came == came + 1)  # type: ignore[misc]
        few = [start(service, BOB) for _ in range(2)]
        gate.open()
        until(lambda: len(queued(service, few)) == 1)
        gate.open(3)
        until(lambda: not queued(service, few))
        assert len(queued(service, many)) > 12
        gate.open(40)
        until(lambda: len(running(service, many + few)) == 22 + places)


def test_a_dead_workers_places_are_free_at_once_and_its_starts_go_on_elsewhere(folder: Path) -> None:
    with workers(folder, 2, max_starting=2) as ((dead, alive), gate):
        begun = [start(dead, ADA) for _ in range(2)]
        until(lambda: gate.inside == 2)
        waiting = [start(dead, ADA) for _ in range(2)]
        late = start(alive, BOB)
        assert queued(alive, [*waiting, late]) == [*waiting, late]
        dead.starts._queue.close()  # what a killed process no longer does: look, work, and hold its lock
        dead.holder.close()
        until(lambda: not queued(alive, [late]))
        gate.open(10)
        alive.start_background()
        until(lambda: len(running(alive, [*begun, *waiting, late])) == 5)


def test_a_queued_start_is_stopped_without_ever_having_been_begun(folder: Path) -> None:
    with workers(folder, 2, max_starting=1) as ((one, other), gate):
        first = start(one, ADA)
        until(lambda: gate.inside == 1)
        second = start(one, ADA)
        assert other.manager.stop(ADA, second).status is RuntimeStatus.STOPPED
        until(lambda: not one.starts._queue._waiting)
        gate.open(2)
        until(lambda: running(one, [first]))
        assert gate.came == 1


def test_a_start_that_is_queued_goes_on_after_a_restart(folder: Path) -> None:
    with workers(folder, 1, max_starting=1) as ((service,), gate):
        started = [start(service, ADA) for _ in range(3)]
        until(lambda: gate.inside == 1)
        closing = threading.Thread(target=service.close)
        closing.start()
        until(service.starts._queue._closing.is_set)
        gate.open(10)
        closing.join()
        assert queued(service, started[1:]) == started[1:]
        again = build(service.settings, engine=service.engine)
        again.start_background()
        until(lambda: len(running(again, started)) == 3)
        again.close()


def test_who_pulls_gives_the_place_to_others_meanwhile(folder: Path) -> None:
    with workers(folder, 1, max_starting=1) as ((service,), gate):
        engine = service.engine
        assert isinstance(engine, MemoryEngine)
        engine.add_pullable("slow")
        pulls = Gate()
        engine.hook("pull", pulls)
        gate.open(50)
        slow = start(service, ADA, image="slow")
        until(lambda: pulls.inside == 1)
        others = [start(service, ADA) for _ in range(3)]
        until(lambda: len(running(service, others)) == 3)
        pulls.open()
        until(lambda: running(service, [slow]))
        assert gate.most == 1


def test_a_caller_waits_for_its_turn_and_gets_the_running_one(folder: Path) -> None:
    with workers(folder, 1, max_starting=2) as ((service,), gate):
        gate.open(100)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: service.manager.start(ADA, StartRequest(image="busybox")), range(16)))
        assert {each.status for each in answers} == {RuntimeStatus.RUNNING}
        assert {each.status_detail for each in answers} == {None}
        assert gate.most <= 2


def test_closing_waits_for_no_place(folder: Path) -> None:
    with workers(folder, 1, max_starting=1) as ((service,), gate):
        engine = service.engine
        assert isinstance(engine, MemoryEngine)
        engine.add_pullable("slow")
        pulls = Gate()
        engine.hook("pull", pulls)
        gate.open()
        slow = start(service, ADA, image="slow")
        until(lambda: pulls.inside == 1)
        start(service, ADA)
        until(lambda: gate.inside == 1)
        closing = threading.Thread(target=service.close, daemon=True)
        closing.start()
        until(service.starts._queue._closing.is_set)
        pulls.open()
        gate.open()
        closing.join(60)
        assert not closing.is_alive()
        assert record(service, slow).status is RuntimeStatus.STARTING
