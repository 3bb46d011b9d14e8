"""Every error as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import json
import math
from typing import Any

import falcon
import structlog

from runtime_server.errors import (
    BadRequest,
    BodyTooLarge,
    InternalError,
    MethodNotAllowed,
    Problem,
    RouteNotFound,
    UnsupportedMediaType,
)
from runtime_server.web.answers import NO_STORE
from runtime_server.web.context import ApiRequest

MEDIA_TYPE = "application/problem+json"
DEFAULT_RETRY_AFTER = {429: 1.0, 503: 1.0}
"""Seconds told where a retryable problem of this status names none."""

_FROM_FALCON: dict[int, type[Problem]] = {
    404: RouteNotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}
"""Falcon's own errors; every other 4xx is a ``BadRequest``."""

_log = structlog.get_logger("runtime_server.web")


def problem_headers(problem: Problem) -> dict[str, str]:
    """The headers that belong to this problem."""
    headers = dict(NO_STORE)
    after = problem.retry_after
    if after is None and problem.retryable:
        after = DEFAULT_RETRY_AFTER.get(problem.status)
    if after is not None:
        headers["Retry-After"] = str(max(0, math.ceil(after)))
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(problem, MethodNotAllowed):
        headers["Allow"] = ", ".join(problem.extensions.get("allowed", ()))
    return headers


def problem_bytes(problem: Problem, request_id: str) -> bytes:
    """The problem's body."""
    return json.dumps(problem.to_body(request_id), default=str).encode()


def set_problem(req: ApiRequest, resp: falcon.Response, problem: Problem) -> None:
    """Answer with the problem."""
    resp.status = problem.status
    resp.content_type = MEDIA_TYPE
    resp.data = problem_bytes(problem, req.context.request_id)
    resp.set_headers(problem_headers(problem))


def unforeseen(req: ApiRequest, error: Exception) -> InternalError:
    """Log an error that nobody foresaw; what the caller learns of it is the request id."""
    _log.error("unforeseen error", request_id=req.context.request_id, method=req.method, exc_info=error)
    return InternalError("Something unforeseen happened; the server's log has it under the request_id.")


def add_error_handlers(app: falcon.App[ApiRequest, falcon.Response]) -> None:
    """Make every error of the app a problem, Falcon's own and the unforeseen included."""
    app.add_error_handler(Exception, _on_exception)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(Problem, _on_problem)


def _on_problem(req: ApiRequest, resp: falcon.Response, error: Problem, _params: dict[str, Any]) -> None:
    set_problem(req, resp, error)


def _on_exception(req: ApiRequest, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    set_problem(req, resp, unforeseen(req, error))


def _on_http_error(req: ApiRequest, resp: falcon.Response, error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    set_problem(req, resp, _translated(req, error))


def _translated(req: ApiRequest, error: falcon.HTTPError) -> Problem:
    if error.status_code >= 500:
        return unforeseen(req, error)
    found = _FROM_FALCON.get(error.status_code, BadRequest)
    if found is RouteNotFound:
        return RouteNotFound("No route has this path; GET /openapi.json lists them.")
    if found is MethodNotAllowed:
        allow = dict(error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"This route allows {allow}.", allowed=allow.split(", "))
    return found(error.description or error.title or "")
