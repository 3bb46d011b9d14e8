"""The workspace of a start: which, where, and whose it becomes.

A workspace is a named volume of its owner and session, or of its owner and alias where the start names no session.
Its name on the engine is a digest over instance, owner and that, with a beginning that no other volume of this
service has: a caller can't name it as one of its ``volumes``, and another owner's, or another instance's, workspace
of the same session is another volume. Before a container is made with it, the engine makes sure that the volume of
that name is this instance's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from runtime_server.engine import labels as tags
from runtime_server.engine.base import Engine, Mount, RuntimeSpec, VolumeInUse
from runtime_server.errors import EngineFailed, Problem, ValidationFailed
from runtime_server.models import DEFAULT_WORKSPACE, StartRequest, WorkspaceRequest
from runtime_server.runtimes import sessions

PREFIX = "runtime-server-workspace-"
"""How the names of workspaces' volumes begin; what follows it for other volumes is digits of the instance."""
ID_PREFIX = "workspace-"
ID_DIGITS = 16


def completed(request: StartRequest, default: str) -> StartRequest:
    """The request with the path at which it gets a workspace; False or None: it gets none.

    Args:
        request: as it was sent.
        default: where sessions have their workspace; empty: nowhere.

    Raises:
        ValidationFailed: there is nothing to name the workspace after, or its path is taken.
    """
    wanted = request.workspace
    volumes = sessions.completed(request).volumes
    taken = {path.rstrip("/") for path in (*(each.container_path for each in volumes), *request.tmpfs)}
    if wanted is None:
        # What is mounted there by the start's own wish is kept there.
        session = sessions.is_session(request.session_id, request.name)
        path = default if session and default not in taken else None
        return request.model_copy(update={"workspace": path}) if path else request
    if wanted is False:
        return request
    path = _path(wanted) or default or DEFAULT_WORKSPACE
    if not request.session_id and not request.name:
        raise _refused("needs a session_id or a name, by which a later start finds it again")
    if path in taken:
        raise _refused("is at a path that another mount of the start has")
    return request.model_copy(update={"workspace": path})


def _path(wanted: str | bool | WorkspaceRequest) -> str | None:
    if isinstance(wanted, WorkspaceRequest):
        return wanted.path
    return wanted if isinstance(wanted, str) else None


def _refused(why: str) -> ValidationFailed:
    wrong = [{"loc": ["workspace"], "msg": why, "type": "value_error"}]
    return ValidationFailed(f"workspace: {why}.", errors=wrong)


def volume_name(instance: str, owner: str, spec: Mapping[str, Any]) -> str | None:
    """The volume of a start, by its request as records keep it; None where it has no workspace."""
    if not isinstance(spec.get("workspace"), str):
        return None
    return named(instance, owner, session_id=spec.get("session_id"), name=spec.get("name"))


def named(instance: str, owner: str, *, session_id: str | None = None, name: str | None = None) -> str:
    """The volume of a session, or of an alias where that is None."""
    kind, value = ("session", session_id) if session_id else ("name", name or "")
    digest = hashlib.sha256("\0".join((instance, owner, kind, value)).encode("utf-8", "surrogatepass"))
    return PREFIX + digest.hexdigest()[:32]


def workspace_id(volume: str) -> str:
    """The id by which the API knows the workspace of that volume."""
    return ID_PREFIX + volume.removeprefix(PREFIX)[:ID_DIGITS]


def mounts(request: StartRequest, labels: Mapping[str, str]) -> tuple[Mount, ...]:
    """The mount of a completed request's workspace, if it has one.

    Args:
        request: what was asked.
        labels: of the container.
    """
    if not isinstance(request.workspace, str):
        return ()
    owner, instance = labels.get(tags.OWNER, ""), labels.get(tags.INSTANCE, "")
    ours = {each: labels[each] for each in (tags.CREATED_AT, tags.ATTEMPT) if each in labels}
    ours |= {tags.INSTANCE: instance, tags.OWNER: owner, tags.WORKSPACE: request.workspace}
    if request.session_id:
        ours[tags.SESSION_ID] = request.session_id
    elif request.name:
        ours[tags.NAME] = request.name
    source = named(instance, owner, session_id=request.session_id, name=request.name)
    return (Mount(source, request.workspace, labels=ours),)


def ensure(engine: Engine, spec: RuntimeSpec) -> None:
    """Have the engine make the workspace of a start, unless it is there.

    Raises:
        EngineFailed: somebody else's volume has its name.
    """
    for mount in _workspaces(spec):
        found = engine.ensure_volume(mount.source, mount.labels)
        # That the name has a digest of these in it is no proof: whoever can reach the engine can make volumes.
        same = (tags.OWNER, tags.SESSION_ID, tags.NAME)
        if any(found.labels.get(each) != mount.labels.get(each) for each in same):
            raise EngineFailed("A volume that isn't this workspace has its name.")


def give(engine: Engine, spec: RuntimeSpec, container_id: str) -> None:
    """Let the workspace of a container that hasn't been started belong to the user that it will run as."""
    for mount in _workspaces(spec):
        engine.give_folder(container_id, mount.target)


def discard(engine: Engine, volume: str | None, attempt: str) -> None:
    """Remove the workspace of a failed start, if that start made it: nothing of it is left.

    Args:
        engine: has it.
        volume: its name; None where the start has no workspace.
        attempt: the start's operation.
    """
    if volume is None:
        return
    with suppress(VolumeInUse, Problem):
        found = engine.find_volume(volume)
        if found is not None and found.labels.get(tags.ATTEMPT) == attempt:
            engine.remove_volume(volume)


def _workspaces(spec: RuntimeSpec) -> list[Mount]:
    return [mount for mount in spec.mounts if tags.WORKSPACE in mount.labels]
