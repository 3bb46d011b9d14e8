"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

import falcon

from runtime_server import errors
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import NoQuery


class Metrics(Resource):
    """``GET /metrics``."""

    operations = {
        "GET": Operation(
            id="metrics",
            summary="Tell the metrics of all workers, to whom RUNTIME_SERVER_METRICS lets: admins, by default.",
            query=NoQuery,
            answers={
                200: Answered(
                    "Prometheus' text format, or OpenMetrics where `Accept` asks for it.", media_type="text/plain"
                )
            },
            raises=(errors.Unauthorized, errors.RouteNotFound),
            public=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Tell the metrics; owners' names are for admins."""
        read_query(req, NoQuery)
        caller = req.context.caller if req.context.authenticated else None
        owners = self._services.metrics.allowed(caller)
        resp.data, resp.content_type = self._services.metrics.text(req.accept, owners=owners)
