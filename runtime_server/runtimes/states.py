"""Which action is allowed in which state, and what it leads to: one table."""

from __future__ import annotations

from enum import StrEnum

from runtime_server.engine.base import ContainerState, Snapshot
from runtime_server.errors import InvalidState
from runtime_server.models import RuntimeStatus as S
from runtime_server.store.records import Record


class Action(StrEnum):
    """What a caller can do to a runtime."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    REMOVE = "remove"
    RENEW = "renew"
    EXEC = "exec"
    STATS = "stats"
    RESTART = "restart"
    UPDATE = "update"


TRANSITIONS: dict[Action, dict[S, S]] = {
    Action.PAUSE: {S.RUNNING: S.PAUSED, S.PAUSED: S.PAUSED},
    Action.RESUME: {S.PAUSED: S.RUNNING, S.RUNNING: S.RUNNING},
    Action.STOP: {
        S.STARTING: S.STOPPED,
        S.RUNNING: S.STOPPED,
        S.PAUSED: S.STOPPED,
        S.STOPPING: S.STOPPED,
        S.STOPPED: S.STOPPED,
        S.ERROR: S.ERROR,
        S.REMOVED: S.REMOVED,
    },
    Action.REMOVE: dict.fromkeys(S, S.REMOVED),
    Action.RENEW: {S.STARTING: S.STARTING, S.RUNNING: S.RUNNING, S.PAUSED: S.PAUSED},
    Action.EXEC: {S.RUNNING: S.RUNNING},
    Action.STATS: {S.RUNNING: S.RUNNING, S.PAUSED: S.PAUSED},
    Action.RESTART: dict.fromkeys((S.RUNNING, S.PAUSED, S.STOPPED, S.ERROR), S.RUNNING),
    Action.UPDATE: {each: each for each in (S.RUNNING, S.PAUSED, S.STOPPED, S.ERROR)},
}
"""Where an action is allowed, with the state that it leads to; the same state means that it changes nothing."""


def allowed(status: S) -> list[str]:
    """The actions that a runtime in that state takes."""
    return [str(action) for action, table in TRANSITIONS.items() if status in table]


def target(action: Action, record: Record) -> S:
    """The state that the action leads to.

    Raises:
        InvalidState: the runtime's state doesn't allow it.
    """
    try:
        return TRANSITIONS[action][record.status]
    except KeyError:
        raise invalid(action, record.status) from None


def invalid(action: Action, status: S) -> InvalidState:
    """The refusal of the action in that state."""
    return refusal(f"A runtime that is {status} can't {_CANT[action]}.", status)


def refusal(why: str, status: S, *, of: Action | None = None) -> InvalidState:
    """A refusal with reasons of its own.

    Args:
        why: a sentence.
        status: the runtime's state.
        of: what the state allows and is refused all the same.
    """
    possible = [each for each in allowed(status) if each != of]
    return InvalidState(why, runtime_status=str(status), allowed_actions=possible)


_CANT = {
    Action.PAUSE: "be paused",
    Action.RESUME: "be resumed",
    Action.STOP: "be stopped",
    Action.REMOVE: "be removed",
    Action.RENEW: "be renewed",
    Action.EXEC: "run a command",
    Action.STATS: "be measured",
    Action.RESTART: "be restarted",
    Action.UPDATE: "be changed",
}

_SEEN = {
    ContainerState.RUNNING: S.RUNNING,
    ContainerState.RESTARTING: S.RUNNING,
    ContainerState.PAUSED: S.PAUSED,
    ContainerState.REMOVING: S.STOPPED,
    ContainerState.CREATED: S.ERROR,
}


def seen(snapshot: Snapshot) -> S:
    """The runtime's state by what the engine says.

    A process that ends by itself with status 0, or by a signal (128 and its number, up to 64), is ``stopped``; one
    that fails (any other status, of which 126 and 127 are a command that can't be executed or found) or is ended for
    lack of memory is ``error``.
    """
    if snapshot.state in _SEEN:
        return _SEEN[snapshot.state]
    code = snapshot.exit_code or 0
    failed = code != 0 and not 128 < code <= 128 + 64
    return S.ERROR if failed or snapshot.oom_killed else S.STOPPED
