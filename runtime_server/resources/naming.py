"""Runtimes by the names that paths have for them."""

from __future__ import annotations

from runtime_server.errors import RuntimeNotFound
from runtime_server.web.context import ApiRequest

MAX_NAME = 128
"""No id and no alias is longer."""


def named(req: ApiRequest, runtime_id: str) -> str:
    """The id or alias, noted for the access log.

    Raises:
        RuntimeNotFound: nobody can have it.
    """
    req.context.runtime_id = runtime_id
    if not runtime_id.isascii() or not runtime_id.isprintable() or len(runtime_id) > MAX_NAME:
        raise RuntimeNotFound("No runtime of yours has this id or name.")
    return runtime_id
