"""Runtimes as things: listed, read, renewed and removed."""

from __future__ import annotations

import falcon

from runtime_server import errors, models
from runtime_server.models import RenewRequest, RestartRequest, UpdateRequest
from runtime_server.resources import described
from runtime_server.resources.naming import named
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_body, read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.idempotency import answer_once, idempotency_key
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import RuntimeQuery, RuntimesQuery


class Runtimes(Resource):
    """``/runtimes``."""

    operations = {
        "GET": Operation(
            id="listRuntimes",
            summary="List the caller's runtimes; an admin's are everybody's.",
            query=RuntimesQuery,
            answers={
                200: Answered("A page.", models.RuntimePage, {"runtimes": [described.RUNTIME], "next_cursor": None})
            },
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """List the caller's runtimes."""
        query = read_query(req, RuntimesQuery)
        page = self._manager.list(
            req.context.caller,
            statuses=query.status,
            labels=query.labels,
            owner=query.owner,
            limit=query.limit,
            cursor=query.cursor,
        )
        set_answer(req, resp, page)


class RuntimeItem(Resource):
    """``/runtimes/{runtime_id}``."""

    operations = {
        "GET": Operation(
            id="getRuntime",
            summary="Read a runtime, or wait until it is in a state.",
            query=RuntimeQuery,
            answers={200: Answered("The runtime.", models.Runtime, described.RUNTIME)},
            raises=(*described.ONE, *described.ENGINE, errors.TooManyWaiting),
        ),
        "PATCH": Operation(
            id="updateRuntime",
            summary="Change a runtime's limits, times or labels; what isn't named stays.",
            request=models.UpdateRequest,
            answers={
                200: Answered(
                    "The runtime as changed.",
                    models.UpdateResponse,
                    {
                        **described.RUNTIME,
                        "cpus": 1.5,
                        "memory_bytes": 536_870_912,
                        "pids_limit": 512,
                        "retention": None,
                    },
                )
            },
            raises=(*described.ACTION, errors.QuotaExceeded, errors.LimitOutOfRange),
            mutating=True,
            example={"cpus": 1.5, "memory": "512m", "labels": {"team": "agents"}},
        ),
        "DELETE": Operation(
            id="removeRuntime",
            summary="Stop and remove a runtime.",
            answers={200: Answered("It is gone.", models.ActionResponse, described.acted("removed", "Removed."))},
            raises=described.ACTION,
            mutating=True,
        ),
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Read a runtime, or wait until it is in a state."""
        query = read_query(req, RuntimeQuery)
        timeout = min(query.timeout, self._services.settings.max_wait) if query.wait_for else 0.0
        caller, name, values = req.context.caller, named(req, runtime_id), query.environment == "values"
        found = self._manager.get(caller, name, wait_for=query.wait_for, timeout=timeout, values=values)
        set_answer(req, resp, found)

    def on_patch(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Change a runtime."""
        caller, name, request = req.context.caller, named(req, runtime_id), read_body(req, UpdateRequest)
        answer_once(req, resp, self._calls, lambda: self._inside.changes.change(caller, name, request))

    def on_delete(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Stop and remove a runtime."""
        caller, name = req.context.caller, named(req, runtime_id)
        answer_once(req, resp, self._calls, lambda: self._manager.remove(caller, name), unrecorded=True)


class Renewal(Resource):
    """``/runtimes/{runtime_id}/renew``."""

    operations = {
        "POST": Operation(
            id="renewRuntime",
            summary="Set anew when a runtime ends.",
            request=models.RenewRequest,
            answers={
                200: Answered(
                    "The runtime, with its new end.",
                    models.Runtime,
                    {**described.RUNTIME, "expires_at": "2026-01-31T13:00:00Z"},
                )
            },
            raises=described.ACTION,
            mutating=True,
            example={"ttl": 3600},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Set anew when a runtime ends."""
        caller, name, request = req.context.caller, named(req, runtime_id), read_body(req, RenewRequest)
        answer_once(req, resp, self._calls, lambda: self._manager.renew(caller, name, request.ttl))


class Restart(Resource):
    """``/runtimes/{runtime_id}/restart``."""

    operations = {
        "POST": Operation(
            id="restartRuntime",
            summary="End a runtime's process, if it has one, and start it again in the same container.",
            request=models.RestartRequest,
            answers={
                200: Answered(
                    "It runs again; `starting` where it isn't ready within `wait` seconds.",
                    models.RestartResponse,
                    {
                        **described.acted("running", "Restarted."),
                        "moved_ports": [
                            {
                                "port": "8000/tcp",
                                "before": [{"HostIp": "127.0.0.1", "HostPort": "32767"}],
                                "after": [{"HostIp": "127.0.0.1", "HostPort": "32768"}],
                            }
                        ],
                    },
                )
            },
            raises=(
                *described.ACTION,
                errors.QuotaExceeded,
                errors.NameConflict,
                errors.PortInUse,
                errors.MountSourceMissing,
                errors.NetworkNotFound,
                errors.LimitOutOfRange,
                errors.CommandNotFound,
                errors.CommandNotExecutable,
                errors.SpecRejected,
            ),
            mutating=True,
            example={"timeout": 5},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """End a runtime's process and start it again."""
        caller, name, request = req.context.caller, named(req, runtime_id), read_body(req, RestartRequest)
        key = idempotency_key(req)
        answer_once(req, resp, self._calls, lambda: self._inside.restarts.restart(caller, name, request, key=key))
