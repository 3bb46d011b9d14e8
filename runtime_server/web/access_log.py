"""One structured line a request, written once its answer has been sent: no caller waits for a log."""

from __future__ import annotations

import re
import time

import falcon
import structlog

from runtime_server.web.afterwards import afterwards
from runtime_server.web.context import ApiRequest

_ATTEMPT = re.compile(r"[0-9]{1,4}", re.ASCII)
_log = structlog.get_logger("runtime_server.access")


class AccessLog:
    """Middleware: gathers what the line says. It goes first, so that its time is the whole request's."""

    def process_response(self, req: ApiRequest, resp: falcon.Response, _resource: object, _succeeded: bool) -> None:
        """Note what was asked and how it went; never a query, a body or a key."""
        context = req.context
        attempt = req.get_header("X-Attempt")
        entry = {
            "method": _printable(req.method),
            "path": _printable(req.path),
            "status": falcon.http_status_to_code(resp.status),
            "owner": context.caller.owner if context.authenticated else None,
            "runtime_id": None if context.runtime_id is None else _printable(context.runtime_id[:128]),
            "ms": round((time.perf_counter() - context.started) * 1000, 2),
            "request_id": context.request_id,
            "attempt": int(attempt) if attempt and _ATTEMPT.fullmatch(attempt) else None,
        }
        afterwards(req, lambda: _log.info("request", **entry))


def _printable(text: str) -> str:
    """A line of the log stays one line, whatever a caller puts into the path."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
