"""Where in a runtime's output a reader is, so that it loses and repeats nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_server.client.logs import overlap
from runtime_server.models.logs import SLACK, LogPosition, nanoseconds, rfc3339

Entry = tuple[str, int]


@st.composite
def outputs(draw: st.DrawFn) -> list[Entry]:
    """Entries in the order in which they were written: in each stream time never goes back, between them a little."""
    found = []
    for stream in ("stdout", "stderr"):
        at = 1_000_000_000_000
        for step in draw(st.lists(st.sampled_from([0, 0, 1, 3, SLACK // 2, SLACK * 4]), max_size=12)):
            at += step
            found.append((stream, at))
    # An entry may be overtaken by less than the slack.
    late = draw(st.lists(st.integers(0, SLACK // 3), min_size=len(found), max_size=len(found)))
    keyed = sorted(zip(found, late, strict=True), key=lambda each: each[0][1] + each[1] * (each[0][0] == "stderr"))
    order = [entry for entry, _ in keyed]
    for stream in ("stdout", "stderr"):
        own = iter(sorted(entry for entry in order if entry[0] == stream))
        order = [next(own) if entry[0] == stream else entry for entry in order]
    return order


@given(outputs(), st.lists(st.integers(0, 8), max_size=8))
def test_a_broken_connection_neither_loses_nor_repeats(written: list[Entry], breaks: list[int]) -> None:
    position, seen = LogPosition(), list[Entry]()
    for count in [*breaks, len(written)]:
        position.again()
        since = position.since
        offered = [entry for entry in written if since is None or entry[1] >= since]
        for taken, entry in enumerate(offered):
            if taken >= count and count < len(written):
                break
            if not position.passed(*entry):
                seen.append(entry)
    assert seen == written


def test_nothing_before_the_beginning_is_wanted() -> None:
    position = LogPosition()
    assert not position.known
    position.begins(7 * SLACK)
    position.begins(9 * SLACK)
    assert (position.known, position.since) == (True, 7 * SLACK)
    assert not position.passed("stdout", 7 * SLACK + 5)
    assert position.since == 7 * SLACK
    assert not position.passed("stdout", 20 * SLACK)
    assert position.since == 19 * SLACK


def test_of_the_last_entries_the_first_is_the_beginning() -> None:
    position = LogPosition(2 * SLACK, from_first=True)
    assert (position.known, position.since) == (False, 2 * SLACK)
    assert not position.passed("stdout", 5 * SLACK)
    assert (position.known, position.since) == (True, 5 * SLACK)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("0", 0),
        ("1.5", 1_500_000_000),
        ("1769860800.000000001", 1_769_860_800_000_000_001),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000_000),
        ("2026-01-31t12:00:00.123456789z", 1_769_860_800_123_456_789),
        ("2026-01-31T13:30:00.1+01:30", 1_769_860_800_100_000_000),
        ("2026-01-31T12:00:00.1234567891Z", 1_769_860_800_123_456_789),
    ],
)
def test_times(text: str, at: int) -> None:
    assert nanoseconds(text) == at
    assert nanoseconds(rfc3339(at)) == at


@pytest.mark.parametrize("text", ["", "now", "-1", "1.1234567890", "2026-01-31", "2026-13-31T12:00:00Z", "٣", "1e9"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        nanoseconds(text)


@pytest.mark.parametrize(
    ("read", "kept", "known"),
    [
        ("abc", "abcd", 3),
        ("abc", "bcde", 2),
        ("abc", "abc", 3),
        ("abc", "xyz", 0),
        ("", "abc", 0),
        ("abc", "", 0),
        ("cabab", "abab", 4),
        ("aaa", "aaaa", 4),
        ("bc", "abcd", 3),
    ],
)
def test_the_place_in_what_a_record_keeps(read: str, kept: str, known: int) -> None:
    assert overlap(list(read), list(kept)) == known
