"""Workspaces: what a start asks for, and the answers that tell of them."""

from __future__ import annotations

import posixpath
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
)

from runtime_server.models.base import (
    AbsolutePath,
    Answer,
    Request,
)

DEFAULT_WORKSPACE = "/workspace"
"""Where a workspace is mounted that names no path, on a server that has none of its own."""


def workspace_path(path: str) -> str:
    """The path without a slash at its end.

    Raises:
        ValueError: it isn't absolute and plain, or is the root.
    """
    plain = path.rstrip("/")
    # POSIX lets two slashes at the beginning mean something else, so normpath keeps them.
    if not plain.startswith("/") or plain.startswith("//") or posixpath.normpath(path) != plain or ":" in path:
        raise ValueError("must be an absolute path below /, without colons, empty steps, `.` or `..`")
    return plain


WorkspacePath = Annotated[AbsolutePath, AfterValidator(workspace_path)]


class WorkspaceRequest(Request):
    """A workspace, the long way to say it."""

    path: WorkspacePath = Field(description="Where it is mounted.", examples=["/workspace"])


class RuntimeWorkspace(Answer):
    """The workspace that a runtime has."""

    workspace_id: str = Field(description="Its id, as in `GET /workspaces`.")
    path: str = Field(description="Where it is mounted in the runtime.")


class Workspace(Answer):
    """A workspace: a volume that outlives the runtimes of a session, or of an alias where there is no session."""

    workspace_id: str = Field(description="`workspace-` and 16 hex digits; the same as long as it has the same name.")
    session_id: str | None = Field(None, description="The session that it belongs to.")
    name: str | None = Field(None, description="Where there is no session: the alias that it belongs to.")
    owner: str = Field(description="Name of the key whose start made it.")
    volume: str = Field(description="The volume's name on the engine.")
    path: str = Field(description="Where the start that made it mounted it.")
    size_bytes: int | None = Field(
        None, description="Its size, where that was asked for (`sizes=true`) and the engine can tell."
    )
    created_at: AwareDatetime | None = Field(None, description="When the start that made it was recorded.")
    last_used_at: AwareDatetime | None = Field(
        None, description="When a runtime that has it last began or ended; after a loss of the records, that moment."
    )
    expires_at: AwareDatetime | None = Field(
        None, description="When it will be removed, unless it is used again; null while it is in use, or for never."
    )
    in_use_by: list[str] = Field(
        default_factory=list, description="Ids of the runtimes that have it, stopped ones that aren't removed too."
    )


class WorkspacePage(Answer):
    """The answer of ``GET /workspaces``."""

    workspaces: list[Workspace]
    next_cursor: str | None = Field(None, description="Pass as `cursor` for the next page; null at the end.")


class WorkspaceDeleted(Answer):
    """The answer of ``DELETE /workspaces/{workspace}``."""

    workspace_id: str = Field(description="The id that it had.")
    message: str = Field(description="What happened, for people.")
    changed: bool = Field(description="False where an earlier attempt had removed it.")
