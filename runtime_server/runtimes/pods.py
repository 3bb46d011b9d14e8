"""Runtimes in the words of OpenHands' clients, which are Kubernetes': pods, containers, events. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runtime_server import errors
from runtime_server.engine.base import Snapshot
from runtime_server.models import ContainerStatus, PodEvent, PodStatus, RuntimeStatus, utc
from runtime_server.store.records import Happening, Record

ERR_IMAGE_PULL = "ErrImagePull"
"""The image can't be pulled; it is tried again."""
IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
"""The image couldn't be pulled again."""
CRASH_LOOP = "CrashLoopBackOff"
CONFIG_ERROR = "CreateContainerConfigError"
CREATE_ERROR = "CreateContainerError"
NO_MEMORY = "Insufficient memory"
NO_CPU = "Insufficient cpu"

_REASONS: dict[type[errors.Problem], str] = {
    errors.ImageNotFound: ERR_IMAGE_PULL,
    errors.ImagePullFailed: ERR_IMAGE_PULL,
    errors.ImageReferenceInvalid: "InvalidImageName",
    errors.MountSourceMissing: CONFIG_ERROR,
    errors.NetworkNotFound: CONFIG_ERROR,
    errors.PolicyRefused: CONFIG_ERROR,
    errors.CommandNotFound: CREATE_ERROR,
    errors.CommandNotExecutable: CREATE_ERROR,
    errors.UserUnknown: CREATE_ERROR,
    errors.PortInUse: CREATE_ERROR,
    errors.RuntimeClassUnknown: CREATE_ERROR,
    errors.SpecRejected: CREATE_ERROR,
    errors.EngineFailed: CREATE_ERROR,
}
"""The word that a start's failure begins with, by which clients tell failures apart."""

MOST_REASONS = 10

_WORD = re.compile(r"([A-Z][A-Za-z]+|Insufficient (?:memory|cpu)):? ")
_KNOWN = frozenset({*_REASONS.values(), IMAGE_PULL_BACK_OFF, CRASH_LOOP, NO_MEMORY, NO_CPU, "OOMKilled"})
_EVENTS = {
    RuntimeStatus.STARTING: "Scheduled",
    RuntimeStatus.RUNNING: "Started",
    RuntimeStatus.PAUSED: "Paused",
    RuntimeStatus.STOPPING: "Killing",
    RuntimeStatus.STOPPED: "Stopped",
    RuntimeStatus.ERROR: "Failed",
    RuntimeStatus.REMOVED: "Removed",
}
_NOT_FOUND = (RuntimeStatus.PAUSED, RuntimeStatus.STOPPING, RuntimeStatus.STOPPED, RuntimeStatus.REMOVED)


def detail(problem: errors.Problem) -> str:
    """Why a start failed, with the word for it before it, e.g. ``ErrImagePull: No such image``."""
    text = problem.detail.lower()
    if "cannot allocate memory" in text or "not enough memory" in text:
        return f"{NO_MEMORY}: {problem.detail}"
    if isinstance(problem, errors.LimitOutOfRange):
        return f"{NO_CPU if 'cpu' in text else NO_MEMORY if 'memory' in text else CONFIG_ERROR}: {problem.detail}"
    reason = _REASONS.get(type(problem))
    return problem.detail if reason is None or reason_of(problem.detail) else f"{reason}: {problem.detail}"


def reason_of(text: str | None) -> str | None:
    """The known word that a detail begins with."""
    match = _WORD.match(text or "")
    return match[1] if match and match[1] in _KNOWN else None


def pod_status(record: Record) -> PodStatus:
    """The state as those clients compare it.

    Not ``Running`` for a paused one, which would be one that starts; they find the pause in ``status``.
    """
    crashed = bool(record.exit and record.exit.get("oom_killed")) or reason_of(record.status_detail) == CRASH_LOOP
    if record.status is RuntimeStatus.ERROR:
        return "CrashLoopBackOff" if crashed else "Failed"
    if record.status in _NOT_FOUND:
        return "Not Found"
    if crashed:
        return "CrashLoopBackOff"
    if record.status is RuntimeStatus.RUNNING:
        return "Ready"
    return "Pending" if record.container_id is None else "Running"


def container_statuses(record: Record) -> list[ContainerStatus]:
    """The one container, as the engine tells it."""
    state, reason = _container_state(record)
    exit_code = record.exit.get("exit_code") if record.exit else None
    return [
        ContainerStatus(
            name=record.runtime_id,
            ready=record.status is RuntimeStatus.RUNNING,
            restart_count=record.restart_count,
            state=state,
            reason=reason,
            message=record.status_detail,
            exit_code=exit_code,
        )
    ]


def _container_state(record: Record) -> tuple[str, str | None]:
    status, told = record.status, reason_of(record.status_detail)
    if status in (RuntimeStatus.STOPPED, RuntimeStatus.ERROR, RuntimeStatus.REMOVED):
        if record.exit and record.exit.get("oom_killed"):
            return "terminated", "OOMKilled"
        if status is RuntimeStatus.ERROR and record.container_id is None:
            return "waiting", told or "Failed"
        return "terminated", "Error" if status is RuntimeStatus.ERROR else "Completed"
    if status is RuntimeStatus.STARTING and record.container_id is None:
        return "waiting", told or "ContainerCreating"
    if told == CRASH_LOOP:
        return "waiting", CRASH_LOOP
    return "running", "Paused" if status is RuntimeStatus.PAUSED else None


def events(happened: Iterable[Happening]) -> list[PodEvent]:
    """What happened to a runtime, oldest first."""
    found: list[PodEvent] = []
    for each in happened:
        word = reason_of(each.detail)
        at = utc(each.at)
        assert at is not None
        found.append(
            PodEvent(
                type="Warning" if word or each.status == RuntimeStatus.ERROR else "Normal",
                reason=word or _EVENTS[RuntimeStatus(each.status)],
                message=each.detail or f"The runtime is {each.status}.",
                timestamp=at,
            )
        )
    return found


def restart_reasons(
    record: Record, snapshot: Snapshot, *, exit_code: int | None = None, oom_killed: bool = False
) -> list[str]:
    """Why the container was restarted, as far as it was seen, the last ``MOST_REASONS`` of them.

    Args:
        record: as last written.
        snapshot: the container now.
        exit_code: of its last process, where an event told; a container that waits for its restart tells it too.
        oom_killed: likewise.
    """
    if snapshot.restart_count <= record.restart_count:
        return record.restart_reasons
    code = snapshot.exit_code if exit_code is None else exit_code
    if oom_killed or snapshot.oom_killed:
        reason = "OOMKilled"
    else:
        reason = "Error: nobody saw how it ended" if code is None else f"Error: exit code {code}"
    return [*record.restart_reasons, reason][-MOST_REASONS:]
