"""The API's own documentation."""

from __future__ import annotations

import json
from functools import cached_property

import falcon

from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.docs_page import CONTENT_SECURITY_POLICY, docs_page
from runtime_server.web.openapi import openapi
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import NoQuery


class OpenAPI(Resource):
    """``GET /openapi.json``."""

    operations = {
        "GET": Operation(
            id="openapi",
            summary="This API as an OpenAPI 3.1 document.",
            query=NoQuery,
            answers={200: Answered("The document.")},
            public=True,
        )
    }

    @cached_property
    def _document(self) -> bytes:
        return json.dumps(openapi(self._services.routes)).encode()

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """The OpenAPI document, made at the first request for it."""
        read_query(req, NoQuery)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._document


class Docs(Resource):
    """``GET /docs``."""

    operations = {
        "GET": Operation(
            id="docs",
            summary="This API as a page.",
            query=NoQuery,
            answers={200: Answered("The page.", media_type="text/html")},
            public=True,
        )
    }

    @cached_property
    def _page(self) -> bytes:
        return docs_page(self._services.routes).encode()

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """The documentation as a page that needs no script and no other host."""
        read_query(req, NoQuery)
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        resp.data = self._page
