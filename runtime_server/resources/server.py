"""The server itself: alive, ready, which version."""

from __future__ import annotations

import falcon

from runtime_server.models import Health
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Resource
from runtime_server.web.queries import NoQuery


class Healthz(Resource):
    """``GET /healthz``."""

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Say that the process lives."""
        read_query(req, NoQuery)
        set_answer(req, resp, Health())


class Readyz(Resource):
    """``GET /readyz``."""

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Say whether the engine answers; why it doesn't is for callers with a key."""
        read_query(req, NoQuery)
        readiness = self._manager.readiness()
        if not req.context.authenticated:
            readiness = readiness.model_copy(update={"reason": None})
        set_answer(req, resp, readiness, 200 if readiness.ready else 503)


class Version(Resource):
    """``GET /version``."""

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Tell the versions of server, API and engine."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._manager.version())
