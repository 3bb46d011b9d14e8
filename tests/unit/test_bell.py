"""Processes wake one another, and a dead one's pipe goes."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from runtime_server.store.bell import Bell

LONG = 60.0


def test_a_ring_wakes_all_that_wait(tmp_path: Path) -> None:
    bells = [Bell(tmp_path / "places") for _ in range(3)]
    heard: list[bool] = []
    threads = [threading.Thread(target=lambda bell=bell: heard.append(bell.wait(LONG))) for bell in bells]
    assert [bell.wait(0) for bell in bells] == [False] * 3
    for thread in threads:
        thread.start()
    Bell(tmp_path / "places").ring()
    for thread in threads:
        thread.join(LONG)
    assert heard == [True] * 3
    for bell in bells:
        bell.close()
    assert list((tmp_path / "places").iterdir()) == []


def test_a_ring_between_two_waits_counts_once(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "places")
    bell.wait(0)
    for _ in range(100_000 // os.sysconf("SC_PAGE_SIZE") * 4):
        bell.ring()
    assert [bell.wait(LONG), bell.wait(0)] == [True, False]
    bell.close()


def test_a_full_pipe_holds_nobody_up(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "places")
    bell.wait(0)
    (pipe,) = (tmp_path / "places").iterdir()
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.close(writer)
    bell.ring()
    assert bell.wait(LONG)
    bell.close()


def test_the_dead_leave_nothing_behind(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "places")
    bell.wait(0)
    os.mkfifo(tmp_path / "places" / "a dead process's")
    Bell(tmp_path / "places").ring()
    assert bell.wait(LONG)
    bell.close()
    assert list((tmp_path / "places").iterdir()) == []


def test_where_nothing_can_be_written_a_wait_ends_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bell = Bell(tmp_path / "file" / "places")
    bell.ring()
    began = time.monotonic()
    assert not bell.wait(0.05)
    assert time.monotonic() - began >= 0.05
    bell.close()


def test_a_ring_that_fails_takes_no_living_pipe_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bell = Bell(tmp_path / "places")
    bell.wait(0)

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", none_left)
        Bell(tmp_path / "places").ring()
    Bell(tmp_path / "places").ring()
    assert bell.wait(LONG)
    bell.close()


def test_what_is_none_of_ours_is_left_as_it_is(tmp_path: Path) -> None:
    bells = [Bell(tmp_path / "places") for _ in range(3)]
    (tmp_path / "places").mkdir()
    for number in range(8):
        (tmp_path / "places" / f"folder-{number}").mkdir()
        (tmp_path / "places" / f"file-{number}").write_text("hello")
    for bell in bells:
        bell.wait(0)
    Bell(tmp_path / "places").ring()
    assert [bell.wait(LONG) for bell in bells] == [True] * 3
    assert {each.read_text() for each in (tmp_path / "places").glob("file-*")} == {"hello"}
    for bell in bells:
        bell.close()


def test_a_pipe_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "places")
    bell.wait(0)
    for pipe in (tmp_path / "places").iterdir():
        pipe.unlink()
    assert not bell.wait(0.01)
    bell.wait(0)
    Bell(tmp_path / "places").ring()
    assert bell.wait(LONG)
    bell.close()


def test_what_was_half_made_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    bell = Bell(tmp_path / "places")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refused)
        before = set(os.listdir("/proc/self/fd"))
        assert not bell.wait(0.01)
        assert set(os.listdir("/proc/self/fd")) == before
    assert [each.name for each in tmp_path.iterdir()] == ["places"]
