"""The dashboard: a page for people, and the files that it is made of."""

from __future__ import annotations

import falcon

from runtime_server.errors import RouteNotFound
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.dashboard_files import CONTENT_SECURITY_POLICY, dashboard_files
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import NoQuery


class DashboardFile(Resource):
    """``GET /dashboard/{file}``."""

    operations = {
        "GET": Operation(
            id="dashboardFile",
            summary="A file of the dashboard.",
            query=NoQuery,
            answers={200: Answered("The file.", media_type="*/*")},
            raises=(RouteNotFound,),
            public=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, file: str) -> None:
        """A file of the dashboard."""
        read_query(req, NoQuery)
        found = dashboard_files().get(file)
        if found is None:
            raise RouteNotFound("The dashboard has no such file.")
        resp.content_type = found.media_type
        resp.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        resp.data = found.content


class DashboardPage(DashboardFile):
    """``GET /``."""

    operations = {
        "GET": Operation(
            id="dashboard",
            summary="The dashboard.",
            query=NoQuery,
            answers={200: Answered("The page.", media_type="text/html")},
            public=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, file: str = "index.html") -> None:
        """The page; it asks for the key itself, and can't do anything without."""
        super().on_get(req, resp, file)
