"""What the client's methods are made of: calls from models."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pydantic_core
from pydantic import BaseModel

from runtime_server.client.transport import Call, Transport
from runtime_server.errors import RuntimeNotFound


class Calls:
    """A part of the client: methods over one transport."""

    _transport: Transport


def fields_of(model: type[BaseModel], request: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as they were given: defaults are left to the server, which may know others."""
    if request is None:
        return dict(fields)
    if isinstance(request, model):
        return {**request.model_dump(mode="json", exclude_unset=True), **fields}
    if isinstance(request, Mapping):
        return {**request, **fields}
    if isinstance(request, str) and "runtime_id" in model.model_fields:
        return {"runtime_id": request, **fields}
    raise TypeError(f"expected {model.__name__} or a dict, not {type(request).__name__}")


def post(path: str, body: Mapping[str, Any], key: str | None, *, patience: float = 0.0) -> Call:
    return Call("POST", path, body=pydantic_core.to_json(body), key=key or new_key(), patience=patience)


def new_key() -> str:
    return uuid.uuid4().hex


def seconds(value: object) -> float:
    """A field as seconds of patience; what isn't a number the server will refuse."""
    return float(value) if isinstance(value, int | float) and 0 <= value < float("inf") else 0.0


def runtime_path(runtime_id: str) -> str:
    # As a path segment these would name another route (RFC 3986, section 5.2.4).
    if runtime_id in ("", ".", ".."):
        raise RuntimeNotFound(f"no runtime can be named {runtime_id!r}")
    return "/runtimes/" + quote(runtime_id, safe="")
