from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from runtime_server.errors import StorageUnavailable
from runtime_server.models import RuntimeStatus as S
from runtime_server.store.database import Database
from runtime_server.store.records import AliasTaken, Happening, IdTaken, Operation, Record, SessionTaken
from runtime_server.store.store import Store


def record(runtime_id: str = "runtime-0", **changes: Any) -> Record:
    values = {"owner": "alice", "status": S.RUNNING, "image": "busybox", "created_at": 1.0, "seen_at": 1.0}
    return Record(runtime_id=runtime_id, **{**values, **changes})


def operation(key: str = "runtime-0", **changes: Any) -> Operation:
    values = {"id": f"operation-{key}", "kind": "start", "owner": "alice", "holder": "h", "lease_until": 10.0}
    return Operation(key=key, **{**values, **changes})


FULL = record(
    name="agent", session_id="s", status_detail="d", container_id="c", spec={"image": "é"}, ports={"80/tcp": []},
    labels={"team": "x"}, session_api_key="k", started_at=2.0, stopped_at=3.0, removed_at=4.0, expires_at=5.0,
    retention=6.0, auto_remove=True, exit={"exit_code": 0}, error={"code": "x"}, restart_count=7, logs="l",
    cpus=1.5, memory=8, restart_reasons=["OOMKilled"], note="n", workspace="w",
    address="172.18.0.2", pid=4711, pausing=True, active_at=8.0,
)  # fmt: skip


def test_a_record_comes_back_whole(store: Store) -> None:
    assert all(getattr(FULL, each.name) != each.default for each in dataclasses.fields(Record))
    store.add(FULL)
    assert store.get("runtime-0") == FULL
    assert store.get("runtime-1") is None


def test_a_record_and_its_operation_are_added_at_once_or_not_at_all(store: Store) -> None:
    store.operations.claim(operation())
    with pytest.raises(IdTaken):
        store.add(record(), operation(id="another"))
    assert store.get("runtime-0") is None
    store.add(record("runtime-1"))
    with pytest.raises(IdTaken):
        store.add(record("runtime-1"))


# Which states hold an alias and a session; `stopping` that had ended before is a removal.
HOLDS: list[tuple[S, float | None, bool, bool]] = [
    (S.STARTING, None, True, True),
    (S.RUNNING, None, True, True),
    (S.PAUSED, None, True, True),
    (S.STOPPING, None, True, True),
    (S.STOPPING, 3.0, False, False),
    (S.STOPPED, 3.0, True, False),
    (S.ERROR, 3.0, False, False),
    (S.REMOVED, 3.0, False, False),
]


def test_the_table_of_holds_is_complete() -> None:
    assert {each[0] for each in HOLDS} == set(S)


@pytest.mark.parametrize(("state", "stopped_at", "alias", "session"), HOLDS)
def test_who_holds_an_alias_and_a_session(
    store: Store, state: S, stopped_at: float | None, alias: bool, session: bool
) -> None:
    store.add(record(name="agent", session_id="s", status=state, stopped_at=stopped_at))
    for number, (field, error, held) in enumerate(
        [({"name": "agent"}, AliasTaken, alias), ({"session_id": "s"}, SessionTaken, session)], start=1
    ):
        other = record(f"runtime-{number}", **field)
        if held:
            with pytest.raises(error):
                store.add(other)
        else:
            store.add(other)
        store.add(record(f"runtime-bob-{number}", owner="bob", **field))
    found = store.by_session("alice", "s")
    assert found is not None
    assert found.runtime_id == ("runtime-0" if session else "runtime-2")
    named = store.by_alias("alice", "agent")
    assert named is not None
    assert named.runtime_id == ("runtime-0" if alias else "runtime-1")


def test_an_alias_that_nobody_holds_leads_to_the_newest_that_held_it(store: Store) -> None:
    for number in range(3):
        store.add(record(f"runtime-{number}", name="agent", status=S.REMOVED, created_at=float(number % 2)))
    found = store.by_alias("alice", "agent")
    assert found is not None
    assert found.runtime_id == "runtime-1"
    assert store.by_alias("bob", "agent") is None


def test_a_change_fits_or_does_nothing(store: Store) -> None:
    store.add(record(expires_at=5.0), operation())
    begin = operation(id="stop", kind="stop")
    gone = "operation-runtime-0"
    assert store.change("runtime-0", only_from={S.PAUSED}, begin=begin, end=gone, status=S.STOPPING) is None
    assert store.change("runtime-0", due_at=4.9, begin=begin, status=S.STOPPING) is None
    assert store.change("runtime-9", status=S.STOPPING) is None
    assert store.operations.find("stop", "alice", "runtime-0") is None
    assert store.operations.find("start", "alice", "runtime-0") is not None

    changed = store.change("runtime-0", due_at=5.0, begin=begin, end=gone, status=S.STOPPING, ports={"80/tcp": []})
    assert changed == record(expires_at=5.0, status=S.STOPPING, ports={"80/tcp": []})
    assert store.get("runtime-0") == changed
    assert store.operations.find("stop", "alice", "runtime-0") == begin
    assert store.operations.find("start", "alice", "runtime-0") is None


def test_a_change_whose_operation_exists_is_undone(store: Store) -> None:
    store.add(record(), operation())
    with pytest.raises(IdTaken):
        store.change("runtime-0", begin=operation(id="another"), status=S.STOPPING)
    assert store.get("runtime-0") == record()


def test_changes_that_take_what_another_holds_are_refused(store: Store) -> None:
    store.add(record(name="agent", session_id="s", status=S.ERROR))
    store.add(record("runtime-1", name="agent"))
    store.add(record("runtime-2", session_id="s"))
    with pytest.raises((AliasTaken, SessionTaken)):
        store.change("runtime-0", status=S.RUNNING)
    assert store.change("runtime-0", status=S.RUNNING, name=None, session_id=None) is not None


def test_history_writes_itself(store: Store) -> None:
    store.add(record(status=S.STARTING))
    store.change("runtime-0", status=S.STARTING, status_detail="pulling", seen_at=2.0)
    store.change("runtime-0", status=S.RUNNING, status_detail=None, seen_at=3.0)
    store.change("runtime-0", status=S.REMOVED, status_detail="gone", seen_at=4.0, removed_at=4.0)
    assert store.history("runtime-0") == [
        Happening(1.0, "starting", None),
        Happening(3.0, "running", None),
        Happening(4.0, "removed", "gone"),
    ]
    assert store.forget(4.0) == []
    assert store.forget(4.1) == ["runtime-0"]
    assert store.history("runtime-0") == []


def test_the_last_that_happened(store: Store) -> None:
    for name in ("runtime-0", "runtime-1", "runtime-2"):
        store.add(record(name, status=S.STARTING))
    for at in range(2, 8):
        store.change("runtime-0", status=S.PAUSED if at % 2 else S.RUNNING, seen_at=float(at))
    last = [Happening(5.0, "paused", None), Happening(6.0, "running", None), Happening(7.0, "paused", None)]
    assert store.recent("runtime-0", 3) == last
    assert store.recent("runtime-0", 100) == store.history("runtime-0")
    assert store.recent("nope", 3) == []
    several = store.recents(["runtime-0", "runtime-1", "nope"], 3)
    assert several == {"runtime-0": last, "runtime-1": [Happening(1.0, "starting", None)], "nope": []}


def test_a_change_that_is_put_says_whether_it_fitted(store: Store) -> None:
    store.add(record(status=S.RUNNING), operation())
    assert store.put("runtime-0", only_from={S.RUNNING}, status=S.PAUSED, seen_at=2.0)
    assert not store.put("runtime-0", only_from={S.RUNNING}, end="operation-runtime-0", status=S.STOPPED)
    assert not store.put("nope", status=S.PAUSED)
    found = store.get("runtime-0")
    assert found is not None
    assert (found.status, found.seen_at) == (S.PAUSED, 2.0)
    assert len(store.operations.running("start")) == 1
    assert store.put("runtime-0", end=store.operations.running("start")[0].id, status=S.RUNNING)
    assert store.operations.running("start") == []


def ids(found: list[Record]) -> list[str]:
    return [each.runtime_id.removeprefix("runtime-") for each in found]


def test_pages_run_from_new_to_old_without_gaps(store: Store) -> None:
    for number in range(7):
        store.add(record(f"runtime-{number}", created_at=float(number // 2)))
    store.add(record("runtime-b", owner="bob", created_at=9.0))
    seen: list[str] = []
    after: tuple[float, str] | None = None
    while page := store.page("alice", statuses=[], labels={}, after=after, limit=2):
        seen += ids(page)
        after = (page[-1].created_at, page[-1].runtime_id)
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize("key", ["team", "a.b/c", 'quote"d', "back\\slash", "ü", "$.x", "a[0]", "'"])
def test_labels_filter_by_any_key(store: Store, key: str) -> None:
    store.add(record("runtime-0", labels={key: "x", "other": "y"}))
    store.add(record("runtime-1", labels={key: "", "team2": "x"}))
    store.add(record("runtime-2", labels={"other": "x"}))

    def found(**labels: str | None) -> list[str]:
        return ids(store.page("alice", statuses=[], labels=labels, after=None, limit=9))

    assert found(**{key: "x"}) == ["0"]
    assert found(**{key: None}) == ["1", "0"]
    assert found(**{key: None, "other": "y"}) == ["0"]
    assert found(**{key: "z"}) == []


def test_statuses_filter(store: Store) -> None:
    for number, state in enumerate(S):
        store.add(record(f"runtime-{number}", status=state, expires_at=5.0))
    page = store.page("alice", statuses=[S.PAUSED, S.REMOVED], labels={}, after=None, limit=9)
    assert {each.status for each in page} == {S.PAUSED, S.REMOVED}
    assert {each.status for each in store.present()} == {*S} - {S.REMOVED}
    assert {each.status for each in store.due(5.0)} == {S.STARTING, S.RUNNING, S.PAUSED}
    assert store.due(4.9) == []
    assert {each.status for each in store.ended()} == {S.STOPPED, S.ERROR}


def test_updates_from_many_threads_are_never_lost(store: Store) -> None:
    store.add(record())

    def count() -> None:
        for _ in range(25):
            with store.database.transaction() as connection:
                found = connection.exec_driver_sql("SELECT restart_count FROM runtimes").scalar_one()
                connection.exec_driver_sql("UPDATE runtimes SET restart_count = ?", (found + 1,))

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.get("runtime-0")
    assert found is not None
    assert found.restart_count == 100


def test_a_full_disk_is_storage_unavailable_and_passes(store: Store) -> None:
    store.add(record())
    with store.database.connection() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageUnavailable) as caught:
        store.add(record("runtime-1", logs="x" * 4096 * 500), operation("runtime-1"))
    assert caught.value.retry_after
    assert store.get("runtime-0") == record()
    assert store.get("runtime-1") is None
    store.add(record("runtime-1"), operation("runtime-1"))


def test_no_database_is_storage_unavailable(tmp_path: Path) -> None:
    database = Database(tmp_path / "missing" / "state.db")
    with pytest.raises(StorageUnavailable):
        Store(database).get("runtime-0")
    database.close()


class TestOperations:
    def test_only_one_claims(self, store: Store) -> None:
        first, second = operation(), operation(id="second")
        assert store.operations.claim(first)
        assert not store.operations.claim(second)
        assert store.operations.find("start", "alice", "runtime-0") == first
        assert store.operations.claim(operation(id="third", kind="stop"))
        assert store.operations.running("start") == [first]

    def test_only_one_takes_over_and_only_what_it_saw(self, store: Store) -> None:
        seen = operation()
        store.operations.claim(seen)
        store.operations.renew([seen.id], 20.0)
        assert not store.operations.take_over(seen, "other", 30.0), "its holder has renewed the lease"
        seen = dataclasses.replace(seen, lease_until=20.0)
        assert store.operations.take_over(seen, "other", 30.0)
        assert not store.operations.take_over(seen, "third", 30.0)
        assert not store.operations.finish(seen, b"late", 40.0)
        assert not store.operations.held(seen.id, "h")
        assert store.operations.held(seen.id, "other")
        store.operations.drop(seen.id, "h")
        store.operations.release(dataclasses.replace(seen, holder="other"))
        released = store.operations.find("start", "alice", "runtime-0")
        assert released is not None
        assert (released.holder, released.lease_until) == ("", 0.0)

    def test_what_is_done_is_kept_until_its_time(self, store: Store) -> None:
        done = operation()
        store.operations.claim(done)
        assert store.operations.finish(done, b"answer", 40.0)
        assert store.operations.running("start") == []
        found = store.operations.find("start", "alice", "runtime-0")
        assert found is not None
        assert (found.done, found.answer) == (True, b"answer")
        assert not store.operations.take_over(done, "other", 30.0)
        assert store.operations.expire(39.0) == 0
        assert store.operations.expire(41.0) == 1

    def test_what_is_worked_on_outlives_its_time(self, store: Store) -> None:
        store.operations.claim(operation(expires_at=5.0, lease_until=10.0))
        assert store.operations.expire(9.0) == 0
        assert store.operations.expire(11.0) == 1

    def test_expiry_is_by_the_clock_where_no_moment_is_given(self, store: Store) -> None:
        store.operations.claim(operation(expires_at=time.time() - 1, done=True))
        assert store.operations.expire() == 1
