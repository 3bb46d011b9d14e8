"""Workspaces: what outlives the runtimes of a session."""

from __future__ import annotations

from typing import Any, Final

import falcon

from runtime_server import errors, models
from runtime_server.errors import WorkspaceNotFound
from runtime_server.resources import described
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.idempotency import answer_once
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import WorkspaceQuery, WorkspacesQuery

MAX_NAME = 1024
"""No session is longer."""

ID: Final = "workspace-0123456789abcdef"
WORKSPACE: Final[dict[str, Any]] = {
    "workspace_id": ID,
    "session_id": "conversation-7",
    "name": None,
    "owner": "default",
    "volume": "runtime-server-workspace-0123456789abcdef0123456789abcdef",
    "path": "/workspace",
    "size_bytes": None,
    "created_at": "2026-01-31T12:00:00Z",
    "last_used_at": "2026-01-31T13:00:00Z",
    "expires_at": None,
    "in_use_by": [described.ID],
}


class Workspaces(Resource):
    """``/workspaces``."""

    operations = {
        "GET": Operation(
            id="listWorkspaces",
            summary="List the caller's workspaces; an admin's are everybody's.",
            query=WorkspacesQuery,
            answers={
                200: Answered("A page.", models.WorkspacePage, {"workspaces": [WORKSPACE], "next_cursor": None})
            },
            raises=(*described.ENGINE, errors.TooManyWaiting),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """List the caller's workspaces."""
        query = read_query(req, WorkspacesQuery)
        page = self._services.workspaces.list(
            req.context.caller,
            owner=query.owner,
            session_id=query.session_id,
            sizes=query.sizes,
            limit=query.limit,
            cursor=query.cursor,
        )
        set_answer(req, resp, page)


class WorkspaceItem(Resource):
    """``/workspaces/{workspace}``."""

    operations = {
        "GET": Operation(
            id="getWorkspace",
            summary="Read a workspace.",
            query=WorkspaceQuery,
            answers={200: Answered("The workspace.", models.Workspace, WORKSPACE)},
            raises=(errors.WorkspaceNotFound, *described.ENGINE, errors.TooManyWaiting),
        ),
        "DELETE": Operation(
            id="deleteWorkspace",
            summary="Remove a workspace with all that is in it; no runtime may have it.",
            answers={
                200: Answered(
                    "It is gone.",
                    models.WorkspaceDeleted,
                    {"workspace_id": ID, "message": "The workspace is removed.", "changed": True},
                )
            },
            raises=(errors.WorkspaceNotFound, errors.WorkspaceInUse, *described.ENGINE),
            mutating=True,
        ),
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, workspace: str) -> None:
        """Read a workspace."""
        query, caller, name = read_query(req, WorkspaceQuery), req.context.caller, _named(workspace)
        set_answer(req, resp, self._services.workspaces.get(caller, name, sizes=query.sizes))

    def on_delete(self, req: ApiRequest, resp: falcon.Response, workspace: str) -> None:
        """Remove a workspace."""
        caller, name = req.context.caller, _named(workspace)
        answer_once(req, resp, self._calls, lambda: self._services.workspaces.delete(caller, name))


def _named(workspace: str) -> str:
    if not workspace.isprintable() or len(workspace) > MAX_NAME:
        raise WorkspaceNotFound("No workspace has that id, session or alias.")
    return workspace
