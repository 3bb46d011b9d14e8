from __future__ import annotations

from itertools import product

import pytest

from runtime_server.engine.base import ContainerState as C
from runtime_server.engine.base import Snapshot
from runtime_server.errors import InvalidState
from runtime_server.models import RuntimeStatus as S
from runtime_server.runtimes.states import Action, allowed, seen, target
from runtime_server.runtimes.waits import REACHABLE, settled
from tests.unit.test_store_runtimes import record

# What each action leads to; a dot is refused.
TABLE = """
            starting  running  paused   stopping  stopped  error    removed
    pause   .         paused   paused   .         .        .        .
    resume  .         running  running  .         .        .        .
    stop    stopped   stopped  stopped  stopped   stopped  error    removed
    remove  removed   removed  removed  removed   removed  removed  removed
    renew   starting  running  paused   .         .        .        .
    exec    .         running  .        .         .        .        .
    stats   .         running  paused   .         .        .        .
    restart .         running  running  .         running  running  .
    update  .         running  paused   .         stopped  error    .
"""
HEAD, *LINES = [line.split() for line in TABLE.strip().splitlines()]
EXPECTED = {
    (Action(line[0]), S(status)): None if led == "." else S(led)
    for line in LINES
    for status, led in zip(HEAD, line[1:], strict=True)
}


@pytest.mark.parametrize(("action", "status"), list(product(Action, S)))
def test_every_action_in_every_state(action: Action, status: S) -> None:
    expected = EXPECTED[action, status]
    assert (str(action) in allowed(status)) is (expected is not None)
    if expected is not None:
        assert target(action, record(status=status)) is expected
        return
    with pytest.raises(InvalidState) as caught:
        target(action, record(status=status))
    assert caught.value.extensions == {"runtime_status": str(status), "allowed_actions": allowed(status)}
    assert str(status) in caught.value.detail


SEEN: list[tuple[C, int | None, bool, S]] = [
    (C.RUNNING, None, False, S.RUNNING),
    (C.RESTARTING, 1, False, S.RUNNING),
    (C.PAUSED, None, False, S.PAUSED),
    (C.REMOVING, 0, False, S.STOPPED),
    (C.CREATED, None, False, S.ERROR),
    (C.EXITED, 0, False, S.STOPPED),
    (C.EXITED, None, False, S.STOPPED),
    (C.EXITED, 1, False, S.ERROR),
    (C.EXITED, 126, False, S.ERROR),
    (C.EXITED, 127, False, S.ERROR),
    (C.EXITED, 128, False, S.ERROR),
    (C.EXITED, 137, False, S.STOPPED),
    (C.EXITED, 137, True, S.ERROR),
    (C.EXITED, 143, False, S.STOPPED),
    (C.EXITED, 192, False, S.STOPPED),
    (C.EXITED, 193, False, S.ERROR),
    (C.EXITED, 255, False, S.ERROR),
    (C.DEAD, 0, False, S.STOPPED),
]


@pytest.mark.parametrize(("state", "code", "oom", "expected"), SEEN)
def test_what_a_container_looks_like(state: C, code: int | None, oom: bool, expected: S) -> None:
    snapshot = Snapshot("c", "n", state, "busybox", {}, exit_code=code, oom_killed=oom)
    assert seen(snapshot) is expected


def test_every_container_state_is_looked_at() -> None:
    assert {each[0] for each in SEEN} == set(C)


@pytest.mark.parametrize(("status", "wanted"), list(product(S, S)))
def test_a_wait_ends_where_it_is_so_or_never_will_be(status: S, wanted: S) -> None:
    comes = wanted in REACHABLE[status]
    assert settled(record(status=status), wanted) is (status is wanted or not comes)


def test_reachability_follows_the_actions() -> None:
    ended = (S.STOPPED, S.ERROR, S.REMOVED)
    for (action, status), led in EXPECTED.items():
        # Nobody waits for an ended one to be started again.
        ends_or_starts_again = action in (Action.STOP, Action.RESTART) and status in ended
        if led is not None and led is not status and not ends_or_starts_again:
            assert led in REACHABLE[status], (action, status)
    assert all(S.RUNNING not in REACHABLE[status] for status in ended)
    assert REACHABLE[S.REMOVED] == frozenset()
