"""Models as responses."""

from __future__ import annotations

import falcon
from pydantic import BaseModel

from runtime_server.web.context import ApiRequest

JSON = "application/json"
NO_STORE = {"Cache-Control": "no-store"}
"""Answers hold states that change, and session keys."""


def answer_bytes(req: ApiRequest, model: BaseModel) -> bytes:
    """The model's JSON, with the request's own warnings ahead of its others."""
    if req.context.warnings:
        warnings = [*req.context.warnings, *getattr(model, "warnings", ())]
        model = model.model_copy(update={"warnings": warnings})
    return model.__pydantic_serializer__.to_json(model)


def set_answer(req: ApiRequest, resp: falcon.Response, model: BaseModel, status: int = 200) -> None:
    """Answer with the model."""
    note_runtime(req, model)
    resp.status = status
    resp.content_type = JSON
    resp.set_headers(NO_STORE)
    resp.data = answer_bytes(req, model)


def note_runtime(req: ApiRequest, model: BaseModel) -> None:
    """Remember for the access log which runtime an answer is about."""
    req.context.runtime_id = getattr(model, "runtime_id", req.context.runtime_id)
