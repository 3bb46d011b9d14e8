"""The client's calls on workspaces."""

from __future__ import annotations

import uuid
from urllib.parse import quote

from runtime_server.client.replies import parse
from runtime_server.client.transport import Call, Transport
from runtime_server.errors import IncompatibleServer, WorkspaceNotFound
from runtime_server.models import Workspace, WorkspaceDeleted, WorkspacePage

PAGE = 1000
SIZES_PATIENCE = 60.0
"""Seconds that an engine may take to measure its volumes."""


class WorkspaceCalls:
    """What ``RuntimeServerClient`` can do with workspaces."""

    _transport: Transport

    def list_workspaces(
        self, *, session_id: str | None = None, owner: str | None = None, sizes: bool = False
    ) -> list[Workspace]:
        """All workspaces of this key's owner, an admin's of all owners, newest first (``GET /workspaces``).

        Args:
            session_id: only this session's.
            owner: only this owner's; for admins.
            sizes: also measure them, which may take the engine long.
        """
        query = [("session_id", session_id)] if session_id is not None else []
        query += [("owner", owner)] if owner is not None else []
        query += [("sizes", "true")] if sizes else []
        found: list[Workspace] = []
        cursor: str | None = None
        while True:
            last = [("cursor", cursor)] if cursor is not None else []
            call = Call(
                "GET",
                "/workspaces",
                query=(*query, ("limit", str(PAGE)), *last),
                patience=SIZES_PATIENCE if sizes else 0.0,
            )
            page = parse(WorkspacePage, self._transport.send(call))
            found += page.workspaces
            if page.next_cursor is None:
                return found
            if page.next_cursor == cursor:
                raise IncompatibleServer("the server's next_cursor leads to the same page again")
            cursor = page.next_cursor

    def get_workspace(self, workspace: str, *, sizes: bool = False) -> Workspace:
        """A workspace.

        Args:
            workspace: its id, its session's id, or the alias that it belongs to.
            sizes: also measure it, which may take the engine long.

        Raises:
            WorkspaceNotFound: there is none.
        """
        query = (("sizes", "true"),) if sizes else ()
        call = Call("GET", self._path(workspace), query, patience=SIZES_PATIENCE if sizes else 0.0)
        return parse(Workspace, self._transport.send(call))

    def delete_workspace(self, workspace: str, *, idempotency_key: str | None = None) -> WorkspaceDeleted:
        """Remove a workspace with all that is in it (``DELETE /workspaces/{workspace}``).

        Args:
            workspace: as for ``get_workspace``.
            idempotency_key: as for ``start_runtime``.

        Raises:
            WorkspaceNotFound: there is none.
            WorkspaceInUse: a runtime that isn't removed has it.
        """
        call = Call("DELETE", self._path(workspace), key=idempotency_key or uuid.uuid4().hex)
        return parse(WorkspaceDeleted, self._transport.send(call))

    def _path(self, workspace: str) -> str:
        """By its name, or by its id where the name is none that a path can carry, whatever proxy it goes through."""
        if workspace in ("", ".", "..") or "/" in workspace or "\\" in workspace:
            found = self.list_workspaces(session_id=workspace) if workspace else []
            if len(found) != 1:
                many = "several owners have a workspace" if found else "there is no workspace"
                raise WorkspaceNotFound(f"{many} of the session {workspace!r}")
            workspace = found[0].workspace_id
        return "/workspaces/" + quote(workspace, safe="")
