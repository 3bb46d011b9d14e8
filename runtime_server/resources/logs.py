"""A runtime's output."""

from __future__ import annotations

import json
from typing import Any

import falcon

from runtime_server import errors, models
from runtime_server.engine.inside import LogEntry
from runtime_server.models.logs import rfc3339
from runtime_server.resources import described
from runtime_server.resources.naming import named
from runtime_server.runtimes.outputs import KeptLine
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.log_queries import LogsQuery
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.streaming import NDJSON, Ndjson, Style, stream

TEXT = "text/plain; charset=utf-8"


class Logs(Resource):
    """``/runtimes/{runtime_id}/logs``."""

    operations = {
        "GET": Operation(
            id="readLogs",
            summary="Read a runtime's output, or follow it until the runtime ends.",
            query=LogsQuery,
            answers={
                200: Answered(
                    "The output as plain text; or a `LogLine` a line, then `end` with the runtime's status.",
                    media_type="text/plain",
                    lines={NDJSON: models.LogLine},
                )
            },
            raises=(*described.ONE, *described.ENGINE, errors.TooManyStreams),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Read or follow a runtime's output."""
        query, caller, name = read_query(req, LogsQuery), req.context.caller, named(req, runtime_id)
        style = _style(req, query)
        steady = query.follow and style.media_type == NDJSON
        stream(
            req,
            resp,
            self._services.streams,
            lambda: self._inside.outputs.open(caller, name, query.wanted),
            style,
            steady=steady,
        )


def _style(req: ApiRequest, query: LogsQuery) -> Style[LogEntry | KeptLine]:
    form = query.format
    if form is None:
        form = "ndjson" if req.client_prefers(("text/plain", NDJSON)) == NDJSON else "text"
    return Ndjson(_json) if form == "ndjson" else _Text(query.timestamps)


def _json(entry: LogEntry | KeptLine) -> bytes:
    found: dict[str, Any] = {"stream": None, "time": None, "line": entry.data.decode("utf-8", "replace")}
    if isinstance(entry, LogEntry):
        found |= {"stream": entry.stream, "time": rfc3339(entry.at)}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


class _Text:
    """The bytes as they were written, and nothing else: silence, an end and a failure can't be told in them."""

    media_type = TEXT

    def __init__(self, timestamps: bool) -> None:
        self._timestamps = timestamps

    def item(self, entry: LogEntry | KeptLine) -> bytes:
        """See ``Style``."""
        stamped = self._timestamps and isinstance(entry, LogEntry)
        return f"{rfc3339(entry.at)} ".encode() + entry.data if stamped else entry.data  # type: ignore[union-attr]

    def heartbeat(self) -> bytes:
        """See ``Style``."""
        return b""

    def end(self, _reason: str) -> bytes:
        """See ``Style``."""
        return b""

    def problem(self, _body: dict[str, Any]) -> bytes:
        """See ``Style``."""
        return b""
