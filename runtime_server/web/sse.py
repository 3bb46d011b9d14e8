"""Server-sent events (HTML, section 9.2): a stream that browsers open again by themselves, where it ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

MEDIA_TYPE = "text/event-stream"
RETRY = 2000
"""Milliseconds after which a browser opens a stream again."""

SCHEMA: Final = {
    "type": "object",
    "description": "An event: its fields (HTML, section 9.2.6); the JSON of one that has a name is in `data`.",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string"},
        "retry": {"type": "integer"},
    },
}
"""Of each event, as OpenAPI's documents describe streams."""


class ServerSentEvents(Generic[T]):
    """Events with an id each; see ``Style``.

    Args:
        encode: an item's id and its data, None as data where it is nothing but a position.
        name: of the events.
    """

    media_type = MEDIA_TYPE

    def __init__(self, encode: Callable[[T], tuple[int, bytes | None]], name: str) -> None:
        self._encode = encode
        self._name = name

    def item(self, item: T) -> bytes:
        """See ``Style``."""
        found, data = self._encode(item)
        if data is None:
            return f"retry: {RETRY}\nid: {found}\n\n".encode()
        return f"id: {found}\nevent: {self._name}\ndata: ".encode() + data + b"\n\n"

    def heartbeat(self) -> bytes:
        """See ``Style``; a comment."""
        return b": heartbeat\n\n"

    def end(self, reason: str) -> bytes:
        """See ``Style``."""
        return f"event: end\ndata: {json.dumps(reason)}\n\n".encode()

    def problem(self, body: dict[str, Any]) -> bytes:
        """See ``Style``."""
        return b"event: problem\ndata: " + json.dumps(body, default=str).encode() + b"\n\n"
