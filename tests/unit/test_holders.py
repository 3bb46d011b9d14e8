from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from runtime_server.errors import StorageUnavailable
from runtime_server.runtimes.holders import LEASE, Holder, runtime_lock
from runtime_server.store.store import Store
from tests.unit.conftest import DEADLINE
from tests.unit.test_store_runtimes import operation


def test_a_holder_lives_until_it_is_closed(tmp_path: Path) -> None:
    one, other = Holder(tmp_path), Holder(tmp_path)
    work = operation(holder=one.id, lease_until=one.lease())
    assert one.alive(work)
    assert other.alive(work)
    assert not other.alive(operation(holder=one.id, lease_until=0.0)), "its lease is over"
    assert not other.alive(operation(holder="", lease_until=one.lease()))
    one.close()
    assert not other.alive(work)
    assert list(tmp_path.iterdir()) == []
    assert one.id not in work.holder, "used again it is another"
    one.close()


def test_a_killed_process_is_seen_at_once_and_its_file_goes(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from runtime_server.runtimes.holders import Holder\n"
        "print(Holder(pathlib.Path(sys.argv[1])).id, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        work = operation(holder=process.stdout.readline().strip(), lease_until=Holder(tmp_path).lease())
        assert Holder(tmp_path).alive(work)
        process.kill()
    assert not Holder(tmp_path).alive(work)
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_worked_on_is_renewed(tmp_path: Path, store: Store) -> None:
    holder = Holder(tmp_path)
    busy, left = operation("busy", lease_until=1.0), operation("left", lease_until=1.0)
    for each in (busy, left):
        store.operations.claim(each)
    with holder.working(left):
        pass
    with holder.working(busy):
        holder.renew(store.operations)
    leases = {each.key: each.lease_until for each in store.operations.running("start")}
    assert leases["left"] == 1.0
    assert leases["busy"] > LEASE


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        _ = Holder(tmp_path / "missing").id
    with pytest.raises(StorageUnavailable), runtime_lock(tmp_path / "missing", "runtime-0", wait=0.0):
        pass


def test_a_runtime_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with runtime_lock(tmp_path, "runtime-0", wait=DEADLINE) as got:
            assert got
            order.append("second")

    thread = Thread(target=second)
    with runtime_lock(tmp_path, "runtime-0", wait=0.0) as got:
        assert got
        thread.start()
        with runtime_lock(tmp_path, "runtime-0", wait=0.0) as again:
            assert not again
        with runtime_lock(tmp_path, "runtime-1", wait=0.0) as another:
            assert another
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
