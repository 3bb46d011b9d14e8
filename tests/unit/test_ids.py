from __future__ import annotations

import re

import pytest

from runtime_server.errors import ValidationFailed
from runtime_server.runtimes import cursors, ids
from tests.unit.test_store_runtimes import record

SHAPE = re.compile(r"runtime-[0-9a-f]{12}")


def test_ids_are_dns_labels_and_differ() -> None:
    made = {ids.fresh() for _ in range(100)}
    assert len(made) == 100
    assert all(SHAPE.fullmatch(each) for each in made)


def test_a_derived_id_depends_on_all_that_it_stands_for() -> None:
    assert ids.derived("i", "alice", "k") == ids.derived("i", "alice", "k")
    made = [
        ids.derived(*each)
        for each in [("i", "alice", "k"), ("i", "alic", "ek"), ("ia", "lice", "k"), ("j", "alice", "k")]
    ]
    assert len(set(made)) == 4
    assert all(SHAPE.fullmatch(each) for each in made)
    assert SHAPE.fullmatch(ids.derived("i", "alice", "\udcff"))


def test_a_cursor_says_where_to_go_on() -> None:
    last = record(created_at=1700000000.123456)
    assert cursors.decode(cursors.encode(last)) == (last.created_at, last.runtime_id)


@pytest.mark.parametrize("cursor", ["x", "ü", "bnVsbA==", "W10=", "WyJhIiwgImIiXQ==", "W1tbW1tb", "////", "=" * 9])
def test_what_is_no_cursor_is_the_callers_fault(cursor: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        cursors.decode(cursor)
    assert caught.value.extensions["errors"][0]["loc"] == ["cursor"]
