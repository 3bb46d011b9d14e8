"""Metrics of several processes: added up, kept beyond a death, and gone with the last."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime_server.api import ROUTES
from runtime_server.errors import CATALOGUE
from runtime_server.metrics.shared import SIZES, Shared, joined
from runtime_server.metrics.timings import PHASES
from runtime_server.web.observed import ACTIONS

CHILD = """
import sys
from pathlib import Path
from runtime_server.metrics import shared
shared.MEMORY = Path(sys.argv[2])
mine = shared.Shared(Path(sys.argv[1]), memory=shared.MEMORY)
metrics = mine.join()
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Process:
    """A process that counts what it is told to."""

    def __init__(self, state: Path, memory: Path) -> None:
        command = [sys.executable, "-c", CHILD, str(state), str(memory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, code: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        with self.process:
            pass


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    (tmp_path / "memory").mkdir()
    return tmp_path / "memory"


@pytest.fixture
def shared(state: Path, memory: Path) -> Shared:
    """As another process sees it that only looks."""
    return Shared(state, memory=memory)


@pytest.fixture
def process(state: Path, memory: Path) -> Iterator[Callable[[], Process]]:
    made = []

    def start() -> Process:
        made.append(Process(state, memory))
        made[-1].run("pass")
        return made[-1]

    yield start
    for each in made:
        each.kill()


def value(shared: Shared, sample: str, **labels: str) -> float:
    found = [
        each.value
        for metric in shared.collect()
        for each in metric.samples
        if each.name == f"runtime_server_{sample}" and each.labels == labels
    ]
    assert len(found) == 1, (sample, labels)
    return found[0]


COUNT = "metrics.request('GET', '/runtimes', 200, 0.02); metrics.lane.inc()"
REQUESTS = {"method": "GET", "route": "/runtimes", "status": "200"}
BUCKET = {"method": "GET", "route": "/runtimes", "le": "0.025"}


def test_what_a_killed_process_counted_stays_counted(shared: Shared, process: Callable[[], Process]) -> None:
    first, second = process(), process()
    for each in (first, second, second):
        each.run(COUNT)

    def counted() -> tuple[float, float, float]:
        return (
            value(shared, "http_requests_total", **REQUESTS),
            value(shared, "http_request_duration_seconds_bucket", **BUCKET),
            value(shared, "slow_lane_places_in_use"),
        )

    assert counted() == (3, 3, 3)
    second.kill()
    assert counted() == (3, 3, 1)  # the places that it had are free
    assert counted() == (3, 3, 1)
    third = process()
    third.run(COUNT)
    assert counted() == (4, 4, 2)
    third.kill()
    assert counted() == (4, 4, 1)
    assert value(shared, "http_request_duration_seconds_sum", method="GET", route="/runtimes") == pytest.approx(0.08)
    assert len(list(shared.folder.iterdir())) == len(SIZES) + 1 + 2 + 1  # the living one's, the dead ones', the mark


def test_all_dead_are_folded_by_who_comes_next(shared: Shared, process: Callable[[], Process]) -> None:
    for _ in range(3):
        one = process()
        one.run(COUNT)
        one.kill()
    process()
    assert value(shared, "http_requests_total", **REQUESTS) == 3


def test_the_last_process_takes_the_folder_away(shared: Shared, process: Callable[[], Process]) -> None:
    first, second = process(), process()
    assert shared.folder.stat().st_mode & 0o777 == 0o700
    first.run(COUNT)
    first.run("mine.leave()")
    assert value(shared, "http_requests_total", **REQUESTS) == 1
    second.run("mine.leave()")
    assert not shared.folder.exists()
    second.run(COUNT)  # a thread that still works harms nobody


def test_folders_of_lost_state_directories_are_cleared(
    shared: Shared, memory: Path, tmp_path: Path, process: Callable[[], Process]
) -> None:
    for name, state in (("gone", tmp_path / "nowhere"), ("kept", tmp_path)):
        folder = memory / f"runtime-server-{name}"
        folder.mkdir(mode=0o700)
        (folder / "state").write_bytes(os.fsencode(state))
    process()
    assert {each.name for each in memory.iterdir()} == {"runtime-server-kept", shared.folder.name}


def test_every_series_has_room_from_the_start(shared: Shared, process: Callable[[], Process]) -> None:
    one = process()
    statuses = sorted({each.status for each in CATALOGUE.values()} | {200, 201, 202, 204, 304})
    outcomes = [*sorted(CATALOGUE), "ok"]
    operations = [f"operation-{number:02}" for number in range(40)]
    # Each route with all of its own methods, HEAD and OPTIONS; each with every status there is.
    for route in ROUTES:
        for method in {*route.operations, "HEAD", "OPTIONS"}:
            one.run(f"[metrics.request({method!r}, {route.path!r}, each, 1.0) for each in {statuses}]")
    one.run(f"[metrics.engine_call(each, outcome, 1.0) for each in {operations} for outcome in {outcomes[:8]}]")
    one.run(f"[metrics.starts.labels(each).inc() for each in {outcomes}]")
    one.run(f"[metrics.pull(each, 1.0) for each in {[*outcomes, 'abandoned']}]")
    for action in ("start", *ACTIONS.values()):
        one.run(f"[metrics.phase_seconds.labels({action!r}, each).observe(1.0) for each in {PHASES}]")
    sizes = {each.name.partition("_")[0]: each.stat().st_size for each in shared.folder.glob("*_*-*.db")}
    assert sizes == {"counter": SIZES["counter"], "histogram": SIZES["histogram"], "gauge": SIZES["gauge_livesum"]}


def test_without_a_place_to_share_a_process_counts_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = state / "metrics"
    folder.mkdir(mode=0o755)  # not private: somebody else could read it
    monkeypatch.setattr(Shared.__init__, "__kwdefaults__", {"memory": state / "missing"})
    metrics, shared = joined(state)
    assert shared is None
    metrics.request("BREW", None, 418, 0.1)
    counted = {"method": "other", "route": "other", "status": "418"}
    assert metrics.registry.get_sample_value("runtime_server_http_requests_total", counted) == 1


def test_what_a_process_left_half_made_harms_nobody(shared: Shared, process: Callable[[], Process]) -> None:
    first = process()
    first.run(COUNT)
    for name in ("7-unmarked", "8-dead"):
        for kind in SIZES:
            (shared.folder / f"{kind}_{name}.db").touch()
    (shared.folder / "8-dead.alive").touch()
    process().run(COUNT)
    assert value(shared, "http_requests_total", **REQUESTS) == 2
    assert not [each.name for each in shared.folder.iterdir() if "unmarked" in each.name or "8-dead" in each.name]


def test_a_process_that_finds_no_room_leaves_nothing(
    state: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, allocated = os.posix_fallocate, itertools.count()

    def full(descriptor: int, offset: int, size: int) -> None:
        if next(allocated) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    mine = Shared(state, memory=memory)
    with pytest.raises(OSError, match="No space"):
        mine.join()
    assert {each.name for each in mine.folder.iterdir()} == {"state", "counter_dead.db", "histogram_dead.db"}


def test_a_folder_that_was_taken_away_is_made_anew(shared: Shared, process: Callable[[], Process]) -> None:
    one = process()
    one.run(COUNT)
    shutil.rmtree(shared.folder)
    one.run("list(mine.collect())")
    one.run(COUNT)
    assert value(shared, "http_requests_total", **REQUESTS) == 1


def test_the_folder_of_a_server_that_lives_is_left(
    memory: Path, tmp_path: Path, state: Path, process: Callable[[], Process]
) -> None:
    process().run(COUNT)
    state.rename(tmp_path / "elsewhere")  # as it is for a process in another container
    (tmp_path / "mine").mkdir(mode=0o700)
    other = Process(tmp_path / "mine", memory)
    other.run("pass")
    assert len(list(memory.iterdir())) == 2
    other.kill()
