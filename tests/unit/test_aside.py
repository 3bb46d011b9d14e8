"""What is put aside between callers and engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from runtime_server.errors import EngineUnreachable
from runtime_server.runtimes import aside
from runtime_server.runtimes.aside import Ahead, put_aside


class Source:
    """An archive that tells when it has been read and closed."""

    def __init__(self, size: int, error: Exception | None = None) -> None:
        self.left = size
        self.error = error
        self.closed = threading.Event()

    def read(self, size: int) -> bytes:
        found = b"x" * min(size, self.left)
        self.left -= len(found)
        if not found and self.error is not None:
            raise self.error
        return found

    def close(self) -> None:
        self.closed.set()


def everything(reader: Ahead) -> int:
    size = 0
    while chunk := reader.read(10_000):
        size += len(chunk)
    return size


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_the_engine_is_done_before_the_reader_begins(size: int) -> None:
    source = Source(size)
    reader = Ahead(source)
    assert source.closed.wait(60)
    assert source.left == 0
    assert everything(reader) == size
    reader.close()
    assert reader._file.closed


def test_not_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "MOST_AHEAD", 2_000_000)
    source = Source(9_000_000)
    reader = Ahead(source)
    assert not source.closed.wait(0.1)
    assert source.left >= 9_000_000 - 2_000_000 - aside.CHUNK
    assert everything(reader) == 9_000_000
    assert source.closed.wait(60)
    reader.close()


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_what_breaks_off_does_so_after_what_came(size: int) -> None:
    reader, read = Ahead(Source(size, EngineUnreachable())), 0
    while read < size:
        read += len(reader.read(10_000))
    with pytest.raises(EngineUnreachable):
        reader.read(1)
    reader.close()


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: object, _chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ahead, "_keep", full)
    source = Source(5)
    reader = Ahead(source)
    assert source.closed.is_set()
    with pytest.raises(OSError, match="space"):
        reader.read(1)
    reader.close()


def test_who_leaves_early_lets_go_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "MOST_AHEAD", 2_000_000)
    source = Source(2**40)
    reader = Ahead(source)
    assert reader.read(1) == b"x"
    reader.close()
    assert source.closed.wait(60)


def test_nothing_is_handed_on_of_what_breaks_off() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise EngineUnreachable

    with pytest.raises(EngineUnreachable), put_aside(broken()):
        raise AssertionError("something was handed on")
    with put_aside(iter([b"a" * 700_000, b"b" * 700_000])) as chunks:
        assert b"".join(chunks) == b"a" * 700_000 + b"b" * 700_000
