"""Reading a request's body and query into models."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runtime_server.errors import BadRequest, BodyTooLarge, MalformedJson, UnsupportedMediaType, ValidationFailed
from runtime_server.web.context import ApiRequest

M = TypeVar("M", bound=BaseModel)

MAX_ERRORS = 50
"""How many errors of one request are told."""
MAX_LOC = 128
"""How many characters of a field's name are told: the caller chooses them."""
MAX_QUERY_FIELDS = 200
MAX_DEPTH = 64
"""How deep a body may be nested."""
UNKNOWN = "extra_forbidden"

_MESSAGES = {
    UNKNOWN: "Unknown field",
    "model_type": "Input should be a JSON object",
    "dict_type": "Input should be a JSON object",
    "list_type": "Input should be a JSON array",
}
"""Where Pydantic's own words are Python's."""

_FREE_TEXT = frozenset({"value_error", "assertion_error", "union_tag_invalid"})
"""Error types whose message can hold the input."""


def read_body(req: ApiRequest, model: type[M]) -> M:
    """The request's body as ``model``.

    With ``RUNTIME_SERVER_UNKNOWN_FIELDS=ignore`` unknown fields are left out, at any depth, and named in
    ``req.context.warnings``.

    Raises:
        BodyTooLarge, MalformedJson, UnsupportedMediaType, ValidationFailed
    """
    document = parse_json(_read_bytes(req), req.content_type)
    req.context.document = document
    return read_document(req, model, document)


def read_document(req: ApiRequest, model: type[M], document: Any) -> M:
    """The body's values as ``model``, unknown fields treated as ``read_body`` does.

    Raises:
        ValidationFailed
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        if req.context.settings.unknown_fields == "ignore":
            return _without_unknown(req, model, document, error)
        fail(error)


def read_query(req: ApiRequest, model: type[M]) -> M:
    """The query parameters as ``model``; a parameter that it doesn't have is an error.

    Raises:
        BadRequest: more than ``MAX_QUERY_FIELDS`` of them.
        ValidationFailed
    """
    try:
        pairs = parse_qsl(req.query_string or "", keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise BadRequest("The query has too many fields.") from error
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    repeatable: frozenset[str] = getattr(model, "repeatable", frozenset())
    plain = {key: each if key in repeatable or len(each) > 1 else each[0] for key, each in values.items()}
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        fail(error)


def parse_json(raw: bytes, content_type: str | None) -> Any:
    """JSON values, read strictly: UTF-8 (RFC 8259, section 8.1), names once in an object, no NaN, no lone surrogates.

    Raises:
        MalformedJson, UnsupportedMediaType
    """
    if not raw:
        raise MalformedJson("The body is empty; a JSON object is needed.")
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaType("Send the body with Content-Type: application/json.")
    try:
        text = raw.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()
        if text.count("[") + text.count("{") > MAX_DEPTH:
            _check_depth(document)
    except UnicodeDecodeError:
        raise MalformedJson("The body is not valid UTF-8.") from None
    except UnicodeEncodeError:
        raise MalformedJson("The body has half of a surrogate pair.") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise MalformedJson("The body is nested too deeply.") from None
    except ValueError as error:
        # int() refuses more than 4300 digits, and says so without the digits.
        raise MalformedJson(str(error) if isinstance(error, _Refused) else "A number is too long.") from None
    return document


def fail(error: ValidationError) -> NoReturn:
    """Raise ``ValidationFailed`` with where and what, and never with a value."""
    found = [_told(each) for each in error.errors(include_url=False)]
    named = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    raise ValidationFailed(f"{named}{more}.", errors=found[:MAX_ERRORS]) from None


class _Refused(ValueError):
    """JSON that Python would read and this server won't."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("A name is twice in one object.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON.")


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _children(each)]
        if not level:
            return
    raise RecursionError


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def check_uncompressed(req: ApiRequest) -> None:
    """See that the body is sent as it is.

    Raises:
        UnsupportedMediaType: it has a content coding (RFC 9110, section 8.4).
    """
    encoding = req.get_header("Content-Encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")


def _read_bytes(req: ApiRequest) -> bytes:
    limit = req.context.settings.max_body_bytes
    length = req.content_length
    if length is not None and length > limit:
        raise BodyTooLarge(f"The body may have at most {limit} bytes.", limit=limit)
    check_uncompressed(req)
    if length is None and not req.env.get("wsgi.input_terminated"):
        return b""
    try:
        # A chunked body has no length, and a server whose input ends by itself says so.
        raw: bytes = req.stream.read(limit + 1) if length is None else req.bounded_stream.read(length)
    except Exception as error:
        # Servers raise errors of their own for a peer that left or that broke the chunks' framing.
        raise BadRequest("The body can't be read to its end.") from error
    if length is not None and len(raw) < length:
        raise BadRequest("The body ended early.")
    if len(raw) > limit:
        raise BodyTooLarge(f"The body may have at most {limit} bytes.", limit=limit)
    return raw


def _without_unknown(req: ApiRequest, model: type[M], document: Any, error: ValidationError) -> M:
    unknown = [each["loc"] for each in error.errors(include_url=False) if each["type"] == UNKNOWN]
    kept = copy.deepcopy(document)
    for loc in unknown:
        _drop(kept, loc)
    try:
        found = model.model_validate(kept)
    except ValidationError as remaining:
        fail(remaining)
    named = [".".join(str(part)[:MAX_LOC] for part in loc) for loc in unknown[:MAX_ERRORS]]
    req.context.warnings = [f"the unknown field {name} was ignored" for name in named]
    return found


def _drop(document: Any, loc: Sequence[Any]) -> None:
    for part in loc[:-1]:
        # A union's error names the member that was tried too; that isn't a step in the document.
        if (isinstance(document, dict) and part in document) or (
            isinstance(document, list) and isinstance(part, int) and part < len(document)
        ):
            document = document[part]
    if isinstance(document, dict):
        document.pop(loc[-1], None)


def _echoes(message: str, given: Any) -> bool:
    """Whether the message holds the input, or a member of it; shorter ones are in any sentence."""
    members = [given, *_children(given)]
    return any(isinstance(each, str) and len(each) > 3 and each in message for each in members)


def _told(error: ErrorDetails) -> dict[str, Any]:
    loc = list(error["loc"])
    if loc and loc[-1] == "[key]":
        # The key is the value at fault here.
        del loc[-2:-1]
    kind, given = error["type"], error.get("input")
    message = _MESSAGES.get(kind, error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in _FREE_TEXT and _echoes(message, given):
        message = "Input is not valid"
    told = [part[:MAX_LOC] if isinstance(part, str) else part for part in loc]
    return {"loc": told, "msg": message, "type": kind}
