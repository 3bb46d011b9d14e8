"""The frames in which an engine sends two streams over one connection."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_server.engine.docker_logs import entry
from runtime_server.engine.inside import LogEntry
from runtime_server.engine.multiplexed import MOST, Demultiplexer
from runtime_server.errors import EngineFailed

Frames = list[tuple[str, bytes]]
NUMBERS = {"stdout": 1, "stderr": 2}


def framed(stream: str, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", NUMBERS[stream], len(payload)) + payload


frames = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=40)), max_size=6)


@given(frames, st.lists(st.integers(1, 13), max_size=60))
def test_frames_come_out_whole_however_they_are_cut(sent: Frames, cuts: list[int]) -> None:
    data = b"".join(framed(*each) for each in sent)
    whole, parts = Demultiplexer(), Demultiplexer(whole=False)
    seen: Frames = []
    seen_parts: Frames = []
    for size in [*cuts, len(data)]:
        piece, data = data[:size], data[size:]
        seen += whole.feed(piece)
        seen_parts += parts.feed(piece)
    assert seen == [each for each in sent if each[1]]
    assert all(payload for _, payload in seen_parts)
    for stream in NUMBERS:
        told = b"".join(payload for each, payload in seen_parts if each == stream)
        assert told == b"".join(payload for each, payload in sent if each == stream)


def test_parts_come_as_soon_as_they_are_there() -> None:
    parts = Demultiplexer(whole=False)
    data = framed("stderr", b"abcdef")
    assert list(parts.feed(data[:8])) == []
    assert list(parts.feed(data[8:10])) == [("stderr", b"ab")]
    assert list(parts.feed(data[10:] + framed("stdout", b"x"))) == [("stderr", b"cdef"), ("stdout", b"x")]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1",
        struct.pack(">BxxxL", 4, 1),
        struct.pack(">BxxxL", 1, MOST + 1),
        struct.pack(">BxxxL", 3, 2) + b"no",
    ],
)
def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    with pytest.raises(EngineFailed):
        list(Demultiplexer().feed(data))


def test_an_entry_begins_with_its_time() -> None:
    found = entry("stdout", b"2026-01-31T12:00:00.000000007Z one two\n")
    assert found == LogEntry("stdout", 1_769_860_800_000_000_007, b"one two\n")
    assert entry("stderr", b"2026-01-31T13:00:00.5+01:00 ").data == b""
    with pytest.raises(EngineFailed):
        entry("stdout", b"one two\n")
