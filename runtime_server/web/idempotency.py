"""``Idempotency-Key`` on mutating routes (IETF draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import falcon
from pydantic import BaseModel

from runtime_server.errors import BadRequest, Problem
from runtime_server.runtimes.calls import Calls, StoredAnswer
from runtime_server.web.answers import JSON, NO_STORE, answer_bytes, note_runtime, set_answer
from runtime_server.web.context import ApiRequest
from runtime_server.web.problems import MEDIA_TYPE, problem_bytes, problem_headers, unforeseen

KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MAX_KEY = 255

_CREDENTIALS = "registry_auth"
"""Not fingerprinted: credentials may be renewed between two attempts, and are stored in no form."""


def idempotency_key(req: ApiRequest) -> str | None:
    """The request's key, None where it has none.

    Raises:
        BadRequest: it isn't 1 to 255 printable ASCII characters.
    """
    key = req.get_header(KEY)
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise BadRequest(f"{KEY} must be 1 to {MAX_KEY} printable ASCII characters.")
    return key


def fingerprint(method: str, path: str, document: Any, *, admin: bool = False) -> str:
    """SHA-256 over what makes two requests the same: method, path with query, body and whether an admin asks."""
    if isinstance(document, dict) and _CREDENTIALS in document:
        document = {**document, _CREDENTIALS: None}
    parts = [method, path, document, *(["admin"] if admin else [])]
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def answer_once(
    req: ApiRequest,
    resp: falcon.Response,
    calls: Calls,
    work: Callable[[], BaseModel],
    *,
    status: int = 200,
    unrecorded: bool = False,
) -> None:
    """Answer with what ``work`` returns; with an ``Idempotency-Key`` it runs once, and its answer is replayed.

    Args:
        req: the request, its body read.
        resp: gets the answer.
        calls: knows what ran before.
        work: does it. Its problems are answers too.
        status: the answer's status where it goes well.
        unrecorded: run it even if the call can't be recorded, since it frees what is short.
    """
    key = idempotency_key(req)
    if key is None:
        set_answer(req, resp, work(), status)
        return
    path = f"{req.path}?{req.query_string}" if req.query_string else req.path
    same = fingerprint(req.method, path, req.context.document, admin=req.context.caller.admin)
    stored, replayed = calls.once(
        req.context.caller, key, same, lambda: _stored(req, work, status), unrecorded=unrecorded
    )
    resp.status = stored.status
    resp.content_type = stored.content_type
    resp.set_headers(dict(stored.headers))
    resp.data = stored.body
    if replayed:
        resp.set_header(REPLAYED, "true")
        body = json.loads(stored.body)
        req.context.runtime_id = body.get("runtime_id") or req.context.runtime_id
        if stored.content_type == MEDIA_TYPE:
            resp.data = json.dumps({**body, "request_id": req.context.request_id}).encode()


def _stored(req: ApiRequest, work: Callable[[], BaseModel], status: int) -> StoredAnswer:
    try:
        model = work()
        note_runtime(req, model)
        return StoredAnswer(status, answer_bytes(req, model), JSON, NO_STORE, final=True)
    except Problem as error:
        problem = error
    except Exception as error:
        problem = unforeseen(req, error)
    return StoredAnswer(
        problem.status,
        problem_bytes(problem, req.context.request_id),
        MEDIA_TYPE,
        problem_headers(problem),
        # A quota's 429 isn't retried by itself, but passes: the same call may be sent again later.
        final=not problem.retryable and problem.status < 500 and problem.status != 429,
    )
