"""The server itself: alive, ready, which version."""

from __future__ import annotations

import falcon

from runtime_server import models
from runtime_server.models import Health
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import NoQuery


class Healthz(Resource):
    """``GET /healthz``."""

    operations = {
        "GET": Operation(
            id="healthz",
            summary="Say that the process lives.",
            query=NoQuery,
            answers={200: Answered("It does.", models.Health, {"status": "ok"})},
            public=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Say that the process lives."""
        read_query(req, NoQuery)
        set_answer(req, resp, Health())


class Readyz(Resource):
    """``GET /readyz``."""

    operations = {
        "GET": Operation(
            id="readyz",
            summary="Say whether the engine answers.",
            query=NoQuery,
            answers={
                200: Answered("It does.", models.Readiness, {"ready": True, "reason": None}),
                503: Answered(
                    "It doesn't; the reason is for callers with a key.",
                    models.Readiness,
                    {"ready": False, "reason": None},
                ),
            },
            public=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Say whether the engine answers; why it doesn't is for callers with a key."""
        read_query(req, NoQuery)
        readiness = self._manager.readiness()
        if not req.context.authenticated:
            readiness = readiness.model_copy(update={"reason": None})
        set_answer(req, resp, readiness, 200 if readiness.ready else 503)


class Version(Resource):
    """``GET /version``."""

    operations = {
        "GET": Operation(
            id="version",
            summary="Tell the versions of server, API and engine.",
            query=NoQuery,
            answers={
                200: Answered(
                    "The versions.",
                    models.Version,
                    {
                        "server": "0.1.0",
                        "api": "1",
                        "engine": {"name": "Docker Engine", "version": "26.1.5", "api_version": "1.45"},
                    },
                )
            },
            public=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Tell the versions of server, API and engine."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._manager.version())
