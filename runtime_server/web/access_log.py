"""One structured line a request, written once its answer has been sent: no caller waits for a log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import falcon
import structlog

from runtime_server.web.context import ApiRequest

_ENTRY = "runtime_server.access"
TAKEN_OVER = "runtime_server.taken_over"
"""The environment's name for what goes on with the connection instead of a body."""
_ATTEMPT = re.compile(r"[0-9]{1,4}", re.ASCII)
_log = structlog.get_logger("runtime_server.access")


class AccessLog:
    """Middleware: gathers what the line says. It goes first, so that its time is the whole request's."""

    def process_response(self, req: ApiRequest, resp: falcon.Response, _resource: object, _succeeded: bool) -> None:
        """Note what was asked and how it went; never a query, a body or a key."""
        context = req.context
        attempt = req.get_header("X-Attempt")
        req.env[_ENTRY] = {
            "method": _printable(req.method),
            "path": _printable(req.path),
            "status": falcon.http_status_to_code(resp.status),
            "owner": context.caller.owner if context.authenticated else None,
            "runtime_id": None if context.runtime_id is None else _printable(context.runtime_id[:128]),
            "ms": round((time.perf_counter() - context.started) * 1000, 2),
            "request_id": context.request_id,
            "attempt": int(attempt) if attempt and _ATTEMPT.fullmatch(attempt) else None,
        }


class LoggedApp(falcon.App[ApiRequest, falcon.Response]):
    """A Falcon app whose answers write their line when they are closed (PEP 3333: after the last byte)."""

    def __call__(self, env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI."""
        body = super().__call__(env, start_response)
        # Falcon drops the body of a 101, as it must.
        body = env.pop(TAKEN_OVER, body)
        return _Closing(body, env[_ENTRY]) if _ENTRY in env else body


class _Closing:
    """A body that logs when the server closes it."""

    def __init__(self, body: Iterable[bytes], entry: dict[str, Any]) -> None:
        self._body = body
        self._entry = entry

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Close the body, and write the line."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            _log.info("request", **self._entry)


def _printable(text: str) -> str:
    """A line of the log stays one line, whatever a caller puts into the path."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
