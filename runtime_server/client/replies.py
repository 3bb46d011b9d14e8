"""Answers as models."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from runtime_server.client.transport import Reply
from runtime_server.errors import IncompatibleServer

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], reply: Reply) -> M:
    """The answer as a model.

    Raises:
        IncompatibleServer: it isn't one.
    """
    try:
        return model.model_validate_json(reply.body)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}"
            for each in error.errors(include_url=False, include_context=False, include_input=False)[:5]
        )
        failure = IncompatibleServer(f"HTTP {reply.status} isn't a {model.__name__} of this API: {wrong}")
        failure.request_id, failure.attempts = reply.request_id, reply.attempts
        raise failure from None
