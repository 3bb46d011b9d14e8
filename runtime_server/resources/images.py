"""Images: how built ones are named, and which there are."""

from __future__ import annotations

import falcon

from runtime_server import errors, models
from runtime_server.resources import described
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import ImageQuery, NoQuery


class RegistryPrefix(Resource):
    """``GET /registry_prefix``."""

    operations = {
        "GET": Operation(
            id="registryPrefix",
            summary="Tell what the names of the caller's built images begin with.",
            query=NoQuery,
            answers={
                200: Answered(
                    "The prefix.",
                    models.RegistryPrefix,
                    {"registry_prefix": "registry.example.com/sandboxes/default"},
                )
            },
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Tell what the names of the caller's built images begin with."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._builds.registry_prefix(req.context.caller))


class ImageExists(Resource):
    """``GET /image_exists``."""

    operations = {
        "GET": Operation(
            id="imageExists",
            summary="Tell whether the engine has an image.",
            query=ImageQuery,
            answers={
                200: Answered(
                    "Whether it does.",
                    models.ImageExists,
                    {
                        "exists": True,
                        "image": {"upload_time": "2026-01-31T12:01:30Z", "image_size_bytes": 1_982_456},
                    },
                )
            },
            raises=(*described.ENGINE, errors.ImageReferenceInvalid),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Tell whether the engine has an image."""
        query = read_query(req, ImageQuery)
        set_answer(req, resp, self._builds.image_exists(req.context.caller, query.image))
