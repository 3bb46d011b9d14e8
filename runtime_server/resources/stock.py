"""What the engine has in stock: images, named volumes, and what can be tidied up."""

from __future__ import annotations

from typing import Annotated, Any, Final

import falcon
from pydantic import Field, StringConstraints

from runtime_server import errors, models
from runtime_server.errors import ImageReferenceInvalid, VolumeNotFound
from runtime_server.models import PruneRequest, PullRequest, PullStatus
from runtime_server.resources import described
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_body, read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.idempotency import answer_once
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import NoQuery, Query
from runtime_server.web.streaming import NDJSON, Ndjson, stream

MAX_NAME = 1024
"""No reference and no volume's name is longer."""
IMAGE: Final = "registry.example.com/team/agent:1.4"
Owned = Annotated[str, StringConstraints(min_length=1, max_length=64)] | None
VOLUME: Final[dict[str, Any]] = {
    "name": "cache",
    "owner": "default",
    "volume": "runtime-server-0a1b2c3d-37a8eec1ce19687d-cache",
    "size_bytes": None,
    "in_use_by": [described.ID],
}


class VolumesQuery(Query):
    """The query of ``GET /volumes``."""

    owner: Owned = Field(None, description="Only this owner's, where the caller is an admin.")
    sizes: bool = Field(False, description="Also measure them, which reads all volumes and may take long.")


class VolumeQuery(Query):
    """The query of ``DELETE /volumes/{volume}``."""

    owner: Owned = Field(None, description="Whose, where the caller is an admin and several have one of that name.")


class Images(Resource):
    """``/images``."""

    operations = {
        "GET": Operation(
            id="listImages",
            summary="List the engine's images that the caller can start; an admin's are all.",
            query=NoQuery,
            answers={
                200: Answered(
                    "The images.",
                    models.ImageList,
                    {
                        "images": [
                            {
                                "image_id": "sha256:" + "9b0c" * 16,
                                "references": [IMAGE],
                                "size_bytes": 81_982_456,
                                "created_at": "2026-01-31T12:00:00Z",
                            }
                        ]
                    },
                )
            },
            raises=described.ENGINE,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """List images."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._inside.images.list(req.context.caller))


class ImagePull(Resource):
    """``/images/pull``."""

    operations = {
        "POST": Operation(
            id="pullImage",
            summary="Pull an image, telling how far it is; a failure that comes late is an `error` line.",
            request=models.PullRequest,
            answers={200: Answered("A `PullStatus` a line.", media_type=NDJSON, lines={NDJSON: models.PullStatus})},
            raises=(
                *described.ENGINE,
                errors.PolicyRefused,
                errors.ImageNotFound,
                errors.ImagePullFailed,
                errors.ImageReferenceInvalid,
                errors.TooManyStreams,
            ),
            example={"image": IMAGE},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Pull an image."""
        caller, request = req.context.caller, read_body(req, PullRequest)
        style = Ndjson[PullStatus](lambda item: item.model_dump_json().encode())
        stream(req, resp, self._services.streams, lambda: self._inside.images.pull(caller, request), style)


class ImageItem(Resource):
    """``/images/{reference}``."""

    operations = {
        "DELETE": Operation(
            id="deleteImage",
            summary="Remove an image from the engine: admins any, others what they have built.",
            answers={
                200: Answered(
                    "It is gone.",
                    models.ImageDeleted,
                    {"image": IMAGE, "message": "The image is removed.", "changed": True},
                )
            },
            raises=(*described.ENGINE, errors.AdminOnly, errors.ImageInUse, errors.ImageReferenceInvalid),
            mutating=True,
        )
    }

    def on_delete(self, req: ApiRequest, resp: falcon.Response, reference: str) -> None:
        """Remove an image."""
        caller = req.context.caller
        if not reference.isprintable() or len(reference) > MAX_NAME:
            raise ImageReferenceInvalid("The image reference is not valid.", image=None)
        answer_once(req, resp, self._calls, lambda: self._inside.images.delete(caller, reference), unrecorded=True)


class Volumes(Resource):
    """``/volumes``."""

    operations = {
        "GET": Operation(
            id="listVolumes",
            summary="List the caller's named volumes; an admin's are everybody's.",
            query=VolumesQuery,
            answers={200: Answered("The volumes.", models.VolumeList, {"volumes": [VOLUME]})},
            raises=(*described.ENGINE, errors.TooManyWaiting),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """List named volumes."""
        query = read_query(req, VolumesQuery)
        set_answer(req, resp, self._inside.volumes.list(req.context.caller, owner=query.owner, sizes=query.sizes))


class VolumeItem(Resource):
    """``/volumes/{volume}``."""

    operations = {
        "DELETE": Operation(
            id="deleteVolume",
            summary="Remove a named volume with all that is in it; no runtime may have it.",
            query=VolumeQuery,
            answers={
                200: Answered(
                    "It is gone.",
                    models.VolumeDeleted,
                    {"name": "cache", "owner": "default", "message": "The volume is removed.", "changed": True},
                )
            },
            raises=(*described.ENGINE, errors.VolumeNotFound, errors.VolumeInUse),
            mutating=True,
        )
    }

    def on_delete(self, req: ApiRequest, resp: falcon.Response, volume: str) -> None:
        """Remove a named volume."""
        query, caller = read_query(req, VolumeQuery), req.context.caller
        if not volume.isprintable() or len(volume) > MAX_NAME:
            raise VolumeNotFound("No volume has that name.")
        work = lambda: self._inside.volumes.delete(caller, volume, owner=query.owner)  # noqa: E731
        answer_once(req, resp, self._calls, work, unrecorded=True)


class Prune(Resource):
    """``/maintenance/prune``."""

    operations = {
        "POST": Operation(
            id="prune",
            summary="Remove what has ended and what nobody uses: the caller's own, an admin's is everybody's.",
            request=models.PruneRequest,
            answers={
                200: Answered(
                    "What was removed, or would be.",
                    models.PruneReport,
                    {
                        "dry_run": True,
                        "runtimes": [described.ID],
                        "workspaces": [],
                        "build_cache_bytes": None,
                        "failed": [],
                        "more": False,
                    },
                )
            },
            raises=(*described.ENGINE, errors.AdminOnly, errors.TooManyWaiting),
            mutating=True,
            example={"dry_run": True, "older_than": 3600},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Tidy up."""
        caller, request = req.context.caller, read_body(req, PruneRequest)
        answer_once(req, resp, self._calls, lambda: self._inside.housekeeping.prune(caller, request), unrecorded=True)
