"""Notes on the look-ups that nginx keeps."""

from __future__ import annotations

import os
import time
from hashlib import md5
from pathlib import Path

import pytest

from runtime_server.runtimes import nginx_cache
from runtime_server.runtimes.nginx_cache import LONGEST, MOST, NginxCache

RUNTIME, OTHER = "runtime-0123456789ab", "runtime-ba9876543210"


@pytest.fixture
def kept(tmp_path: Path) -> NginxCache:
    for name in ("notes", "cache"):
        (tmp_path / name).mkdir()
    return NginxCache(tmp_path / "notes", tmp_path / "cache")


def cached(folder: Path, key: str) -> Path:
    """The file in which nginx keeps the answer to a key."""
    path = folder / "cache" / md5(key.encode("latin-1")).hexdigest()
    path.write_text("200")
    return path


def test_a_runtimes_own_answers_are_taken_back(tmp_path: Path, kept: NginxCache) -> None:
    keys = ["|one|", "|two é|"]
    mine = [cached(tmp_path, key) for key in keys]
    another = cached(tmp_path, "|other|")
    assert all(kept.note(RUNTIME, key) for key in keys)
    assert kept.note(OTHER, "|other|")
    assert kept.take_back(RUNTIME)
    assert not any(path.exists() for path in mine)
    assert another.exists()
    # What was on its way is found the next time.
    late = cached(tmp_path, keys[0])
    assert kept.take_back(RUNTIME)
    assert not late.exists()
    assert kept.take_back("runtime-000000000000")


def test_when_a_runtime_was_looked_up(tmp_path: Path, kept: NginxCache) -> None:
    assert kept.last(RUNTIME) is None
    before = time.time()
    kept.note(RUNTIME, "|a|")
    kept.note(RUNTIME, "|b|")
    last = kept.last(RUNTIME)
    assert last is not None
    assert before - 1 < last < time.time() + 1
    for path in (tmp_path / "notes" / RUNTIME).iterdir():
        os.utime(path, (1.0, 1.0))
    assert kept.last(RUNTIME) == 1.0
    kept.note(RUNTIME, "|b|")
    assert (kept.last(RUNTIME) or 0) > before - 1
    kept.forget(RUNTIME)
    assert kept.last(RUNTIME) is None
    assert not (tmp_path / "notes" / RUNTIME).exists()


def test_only_so_many_are_kept_at_once(tmp_path: Path, kept: NginxCache) -> None:
    assert all(kept.note(RUNTIME, f"|{number}|") for number in range(MOST))
    assert not kept.note(RUNTIME, "|one more|")
    assert kept.note(RUNTIME, "|0|")
    assert kept.note(OTHER, "|one more|")
    old = time.time() - 3 * LONGEST
    for path in (tmp_path / "notes" / RUNTIME).iterdir():
        os.utime(path, (old, old))
    assert kept.note(RUNTIME, "|one more|")
    assert len(list((tmp_path / "notes" / RUNTIME).iterdir())) == 1


def test_what_cannot_be_taken_back_is_said_once(
    tmp_path: Path, kept: NginxCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(nginx_cache.log, "warning", lambda event, **_: said.append(event))
    cached(tmp_path, "|one|").unlink()
    kept.note(RUNTIME, "|one|")
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("not a folder")
    assert not kept.take_back(RUNTIME)
    assert not kept.take_back(RUNTIME)
    assert len(said) == 1
