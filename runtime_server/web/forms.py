"""Reading a multipart form (RFC 7578) part by part, so that a large one is never in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from falcon.media import MultipartFormHandler
from falcon.media.multipart import BodyPart, MultipartForm

from runtime_server.errors import BadRequest, BodyTooLarge, UnsupportedMediaType, ValidationFailed
from runtime_server.web.body import check_uncompressed
from runtime_server.web.context import ApiRequest

MEDIA_TYPE = "multipart/form-data"
MAX_FIELD = 65_536
"""Bytes of one field that isn't a file."""
CHUNK = 262_144
"""Bytes of a file that are in memory at once."""


def read_form(
    req: ApiRequest, *, limit: int, files: dict[str, Callable[[bytes], None]], lists: frozenset[str]
) -> dict[str, Any]:
    """The form's fields; a file's content goes to its reader as it comes, and isn't among them.

    Args:
        req: the request.
        limit: bytes of the whole form.
        files: what takes the content of the field of that name.
        lists: fields that may be there several times; of any other that is, there is a list too.

    Raises:
        BadRequest, BodyTooLarge, UnsupportedMediaType, ValidationFailed
    """
    fields: dict[str, list[str]] = {}
    seen: set[str] = set()
    for part in _parts(req, limit):
        name = _name(part)
        if name not in files:
            fields.setdefault(name, []).append(_text(part))
            continue
        if name in seen:
            _fail(name, "Field is there twice")
        seen.add(name)
        while data := part.stream.read(CHUNK):
            files[name](data)
    return {name: each if name in lists or len(each) > 1 else each[0] for name, each in fields.items()}


def _parts(req: ApiRequest, limit: int) -> MultipartForm:
    if (req.content_type or "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise UnsupportedMediaType(f"Send the body with Content-Type: {MEDIA_TYPE}.")
    check_uncompressed(req)
    length = req.content_length
    if length is None and not req.env.get("wsgi.input_terminated"):
        length = 0
    if length is not None and length > limit:
        raise _too_large(limit)
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_buffer_size = MAX_FIELD
    stream: Any = _Body(req, limit)
    return handler.deserialize(stream, req.content_type, limit + 1 if length is None else length)


class _Body:
    """The request's body, no more than ``limit`` bytes of it."""

    def __init__(self, req: ApiRequest, limit: int) -> None:
        # A chunked body has no length; the server ends it.
        self._stream = req.stream if req.content_length is None else req.bounded_stream
        self._limit = limit
        self._count = 0

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except Exception as error:
            # Servers raise errors of their own for a peer that left or that broke the chunks' framing.
            raise BadRequest("The body can't be read to its end.") from error
        self._count += len(data)
        if self._count > self._limit:
            raise _too_large(self._limit)
        return data


def _name(part: BodyPart) -> str:
    try:
        name = part.name
    except ValueError:
        name = None
    if not name:
        raise BadRequest("A part of the form has no name.")
    return name


def _text(part: BodyPart) -> str:
    try:
        return part.get_data().decode()
    except UnicodeDecodeError:
        raise BadRequest("A field of the form is not valid UTF-8.") from None


def _fail(name: str, message: str) -> None:
    raise ValidationFailed(f"{name}: {message}.", errors=[{"loc": [name], "msg": message, "type": "value_error"}])


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {limit} bytes.", limit=limit)
