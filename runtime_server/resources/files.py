"""Files of runtimes."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import falcon
from pydantic import AfterValidator, Field, StringConstraints, field_validator

from runtime_server import errors, models
from runtime_server.models import AbsolutePath, Word
from runtime_server.resources import described
from runtime_server.resources.naming import named
from runtime_server.runtimes.files import KEEP
from runtime_server.web import downloads
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import Query
from runtime_server.web.uploads import Upload

TAR = "application/x-tar"
BYTES = "application/octet-stream"


def _plain(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("must not have .. in it")
    return path


Path = Annotated[AbsolutePath, AfterValidator(_plain)]
Octal = Annotated[str, StringConstraints(pattern=r"^[0-7]{3,4}$")]


class ReadQuery(Query):
    """The query of ``GET /runtimes/{runtime_id}/files``."""

    path: Path = Field(description="Absolute path in the runtime; links are followed.")
    list: bool = Field(False, description="What is in the folder, as JSON, rather than its content.")
    limit: int = Field(1000, ge=1, le=10_000, description="With `list`: how many entries at most.")


class WriteQuery(Query):
    """The query of ``PUT /runtimes/{runtime_id}/files``."""

    path: Path = Field(description="Absolute path in the runtime; missing folders are made, links followed.")
    mode: Octal | None = Field(
        None, description="Permissions of a file in octal; none: those that it had, else `0644`."
    )
    owner: Word | None = Field(
        None, description="User, `name`, `uid`, either with `:group`; none: the runtime's; `keep`: as a tar says."
    )

    @field_validator("path")
    @classmethod
    def _something(cls, value: str) -> str:
        return value.rstrip("/") or "/"


class DeleteQuery(Query):
    """The query of ``DELETE /runtimes/{runtime_id}/files``."""

    path: Path = Field(description="Absolute path in the runtime; a link there isn't followed.")
    recursive: bool = Field(False, description="Also a folder that isn't empty.")


_PATHS = (
    *described.ONE,
    *described.ENGINE,
    errors.InvalidState,
    errors.PathNotFound,
    errors.PathConflict,
    errors.TooManyStreams,
)
_WRITTEN = {"path": "/srv/page.html", "entries": 1, "bytes": 6, "warnings": []}


class FilesIn(Resource):
    """``/runtimes/{runtime_id}/files``."""

    operations = {
        "GET": Operation(
            id="readFiles",
            summary="Read a file as it is, a file or folder as a tar, or list a folder.",
            query=ReadQuery,
            answers={
                200: Answered(
                    "The file; with `Accept: application/x-tar` a tar, whose names begin with the path's last part; "
                    "with `list` a `FileListing`.",
                    media_type=BYTES,
                    also={TAR: None, "application/json": models.FileListing},
                )
            },
            raises=_PATHS,
        ),
        "PUT": Operation(
            id="writeFiles",
            summary="Write a file, or unpack a tar into a folder.",
            query=WriteQuery,
            answers={200: Answered("It is written.", models.FilesWritten, _WRITTEN)},
            raises=(
                *_PATHS,
                errors.PathReadOnly,
                errors.UserUnknown,
                errors.FileTooLarge,
                errors.ArchiveInvalid,
                errors.UnsupportedMediaType,
            ),
            body=(BYTES, TAR),
        ),
        "DELETE": Operation(
            id="deleteFiles",
            summary="Delete a file, a link or a folder.",
            query=DeleteQuery,
            answers={200: Answered("It is gone.", models.FilesWritten, {**_WRITTEN, "bytes": 0})},
            raises=(*_PATHS, errors.PathReadOnly),
        ),
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Read a file, a folder as a tar, or what is in it."""
        query, caller, name, files = (
            read_query(req, ReadQuery),
            req.context.caller,
            named(req, runtime_id),
            self._inside.files,
        )
        if query.list:
            with self._services.streams.lane.place():
                set_answer(req, resp, files.list(caller, name, query.path, limit=query.limit))
            return
        archive = req.client_prefers((BYTES, TAR)) == TAR
        opened = lambda: files.read(caller, name, query.path, archive=archive)  # noqa: E731
        downloads.send(req, resp, self._services.streams, opened, TAR if archive else BYTES)

    def on_put(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Write a file, or unpack a tar."""
        query, caller, name, files = (
            read_query(req, WriteQuery),
            req.context.caller,
            named(req, runtime_id),
            self._inside.files,
        )
        with self._services.streams.lane.place(), closing(Upload(req, files.limit)) as upload:
            if (req.content_type or "").partition(";")[0].strip().lower() == TAR:
                written = files.write_archive(caller, name, query.path, upload, owner=query.owner)
            else:
                owner = None if query.owner == KEEP else query.owner
                mode = None if query.mode is None else int(query.mode, 8)
                with closing(upload.whole()) as whole:
                    written = files.write_file(
                        caller, name, query.path, whole.chunks(), whole.length, mode=mode, owner=owner
                    )
        set_answer(req, resp, written)

    def on_delete(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Delete what is at a path."""
        query, caller, name = read_query(req, DeleteQuery), req.context.caller, named(req, runtime_id)
        with self._services.streams.lane.place():
            set_answer(req, resp, self._inside.files.delete(caller, name, query.path, recursive=query.recursive))
