"""The routes that OpenHands' clients use beside those of the lifecycle."""

from __future__ import annotations

import falcon

from runtime_server import errors, models
from runtime_server.models import Health, RuntimeBatch, RuntimeList
from runtime_server.resources import described
from runtime_server.resources.naming import named
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import BatchQuery, NoQuery

_READ = (*described.ONE, *described.ENGINE)


class SessionItem(Resource):
    """``GET /sessions/{session_id}``."""

    operations = {
        "GET": Operation(
            id="getSession",
            summary="Read a session's runtime: the live one, else the last that isn't removed.",
            query=NoQuery,
            answers={200: Answered("The runtime.", models.Runtime, described.SESSION)},
            raises=_READ,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, session_id: str) -> None:
        """Read a session's runtime."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._manager.session(req.context.caller, session_id))


class SessionBatch(Resource):
    """``GET /sessions/batch``."""

    operations = {
        "GET": Operation(
            id="getSessions",
            summary="Read the runtimes of several sessions, without those that have none.",
            query=BatchQuery,
            answers={200: Answered("A bare array of runtimes.", models.RuntimeBatch, [described.SESSION])},
            raises=described.ENGINE,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Read the runtimes of several sessions."""
        query = read_query(req, BatchQuery)
        set_answer(req, resp, RuntimeBatch(list(self._manager.sessions(req.context.caller, query.ids))))


class RuntimeLookup(Resource):
    """``GET /runtime/{runtime_id}``."""

    operations = {
        "GET": Operation(
            id="lookUpRuntime",
            summary="Read a runtime by its id, its alias or its session.",
            query=NoQuery,
            answers={200: Answered("The runtime.", models.Runtime, described.RUNTIME)},
            raises=_READ,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Read a runtime."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._manager.lookup(req.context.caller, named(req, runtime_id)))


class RunningRuntimes(Resource):
    """``GET /list``."""

    operations = {
        "GET": Operation(
            id="listRunning",
            summary="List the caller's runtimes that are starting or running.",
            query=NoQuery,
            answers={
                200: Answered("All of them.", models.RuntimeList, {"runtimes": [described.RUNTIME], "total": 1})
            },
            raises=(errors.EngineUnreachable, errors.EngineTimeout),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """List what is starting or running."""
        read_query(req, NoQuery)
        found = list(self._manager.running(req.context.caller))
        set_answer(req, resp, RuntimeList(runtimes=found, total=len(found)))


class HealthCheck(Resource):
    """``GET /health``."""

    operations = {
        "GET": Operation(
            id="health",
            summary="As `/healthz`.",
            query=NoQuery,
            answers={200: Answered("The process lives.", models.Health, {"status": "ok"})},
            public=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Say that the process lives."""
        read_query(req, NoQuery)
        set_answer(req, resp, Health())
