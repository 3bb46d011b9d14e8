"""Image builds, as OpenHands' RemoteRuntimeBuilder sends and follows them."""

from __future__ import annotations

from typing import Any, Final

import falcon

from runtime_server import errors, models
from runtime_server.builds.context import Upload
from runtime_server.models import BuildRequest
from runtime_server.web.answers import NO_STORE, set_answer
from runtime_server.web.body import read_document, read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.forms import read_form
from runtime_server.web.idempotency import answer_once, idempotency_key
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import BuildQuery, NoQuery

BUILD_ID: Final = "build-0123456789ab"
IMAGE: Final = "registry.example.com/sandboxes/default/agent:1"
STATUS: Final[dict[str, Any]] = {
    "build_id": BUILD_ID,
    "status": "SUCCESS",
    "image": IMAGE,
    "tags": [],
    "error": None,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:00.010000Z",
    "finished_at": "2026-01-31T12:01:30Z",
}
FIELDS: Final = 1_048_576
"""Bytes that a form may have beside its context."""


class Build(Resource):
    """``POST /build``."""

    operations = {
        "POST": Operation(
            id="buildImage",
            summary="Build an image out of a context, behind the request.",
            request=models.BuildRequest,
            form=True,
            answers={202: Answered("It is queued.", models.BuildAccepted, {"build_id": BUILD_ID})},
            raises=(
                errors.BuildContextInvalid,
                errors.BuilderUnavailable,
                errors.ImageReferenceInvalid,
                errors.ServerDraining,
                errors.TooManyBuilds,
                errors.TooManyWaiting,
            ),
            mutating=True,
            example={"context": "H4sIA…", "target_image": IMAGE, "tags": []},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Build an image out of a context, behind the request."""
        caller, key = req.context.caller, idempotency_key(req)
        with self._builds.upload(caller, keyed=key is not None) as upload:
            request = self._read(req, upload)
            answer_once(
                req, resp, self._calls, lambda: self._builds.submit(caller, request, upload, key=key), status=202
            )

    def _read(self, req: ApiRequest, upload: Upload) -> BuildRequest:
        """The form. What tells two of them apart is the context's digest, not the boundary between its parts."""
        # Base64 makes four bytes of three, and a line break in 76 another two or three.
        limit = self._builds.max_context * 7 // 5 + FIELDS
        form = read_form(req, limit=limit, files={"context": upload.write}, lists=frozenset({"tags"}))
        if upload.began:
            upload.finish()
            form["context"] = upload.digest
        req.context.document = form
        return read_document(req, BuildRequest, form)


class BuildProgress(Resource):
    """``GET /build_status``."""

    operations = {
        "GET": Operation(
            id="buildStatus",
            summary="Tell how far a build is.",
            query=BuildQuery,
            answers={200: Answered("The build.", models.BuildStatus, STATUS)},
            raises=(errors.BuildNotFound,),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Tell how far a build is."""
        query = read_query(req, BuildQuery)
        set_answer(req, resp, self._builds.status(req.context.caller, query.build_id))


class BuildItem(Resource):
    """``/builds/{build_id}``."""

    operations = {
        "GET": Operation(
            id="getBuild",
            summary="Read a build, as `GET /build_status` does.",
            query=NoQuery,
            answers={200: Answered("The build.", models.BuildStatus, STATUS)},
            raises=(errors.BuildNotFound,),
        ),
        "DELETE": Operation(
            id="cancelBuild",
            summary="End a build; one that has ended stays as it is.",
            answers={
                200: Answered(
                    "The build.",
                    models.BuildStatus,
                    {**STATUS, "status": "CANCELLED", "error": "The build was cancelled."},
                )
            },
            raises=(errors.BuildNotFound,),
            mutating=True,
        ),
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, build_id: str) -> None:
        """Read a build."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._builds.status(req.context.caller, build_id))

    def on_delete(self, req: ApiRequest, resp: falcon.Response, build_id: str) -> None:
        """End a build."""
        caller = req.context.caller
        answer_once(req, resp, self._calls, lambda: self._builds.cancel(caller, build_id))


class BuildOutput(Resource):
    """``GET /builds/{build_id}/log``."""

    operations = {
        "GET": Operation(
            id="buildLog",
            summary="Read what a build has written so far.",
            query=NoQuery,
            answers={200: Answered("The log.", media_type="text/plain")},
            raises=(errors.BuildNotFound,),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, build_id: str) -> None:
        """Read what a build has written so far."""
        read_query(req, NoQuery)
        resp.data = self._builds.log(req.context.caller, build_id)
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_headers(NO_STORE)
