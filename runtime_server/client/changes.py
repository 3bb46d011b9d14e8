"""Restarts and changes of runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic_core

from runtime_server.client.calls import Calls, fields_of, new_key, post, runtime_path, seconds
from runtime_server.client.replies import parse
from runtime_server.client.transport import Call
from runtime_server.models import RestartResponse, UpdateRequest, UpdateResponse

RESTART_GRACE = 5.0
RESTART_WAIT = 8.0
"""Seconds, the server's defaults."""


class ChangeCalls(Calls):
    """Methods of ``RuntimeServerClient``."""

    def restart_runtime(
        self,
        runtime_id: str,
        *,
        timeout: float | None = None,
        wait: float | None = None,
        idempotency_key: str | None = None,
    ) -> RestartResponse:
        """End a runtime's process, if it has one, and start it again in the same container.

        ``POST /runtimes/{id}/restart``; the files in it stay, published ports may move.

        Args:
            runtime_id: id or alias.
            timeout: seconds of grace between TERM and KILL; none: 5.
            wait: seconds after which the answer comes with ``starting``; none: 8.
            idempotency_key: as for ``start_runtime``.
        """
        given = {"timeout": timeout, "wait": wait}
        body = {name: value for name, value in given.items() if value is not None}
        patience = seconds(body.get("timeout", RESTART_GRACE)) + seconds(body.get("wait", RESTART_WAIT))
        call = post(runtime_path(runtime_id) + "/restart", body, idempotency_key, patience=patience)
        return parse(RestartResponse, self._transport.send(call))

    def update_runtime(
        self,
        runtime_id: str,
        request: UpdateRequest | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> UpdateResponse:
        """Change a runtime's limits, times or labels (``PATCH /runtimes/{id}``); what isn't named stays.

        Args:
            runtime_id: id or alias.
            request: an ``UpdateRequest`` or its fields as a dict.
            idempotency_key: as for ``start_runtime``.
            fields: fields of ``UpdateRequest``: ``cpus``, ``memory``, ``pids_limit``, ``ttl`` and ``retention`` in
                seconds, ``labels``, of which ``None`` as a value takes one away. ``None`` gives any other its default
                back.

        Raises:
            LimitOutOfRange: the engine can't give a limit, or can't take one away.
            QuotaExceeded: the owner may not have so much.
        """
        body = pydantic_core.to_json(fields_of(UpdateRequest, request, fields))
        call = Call("PATCH", runtime_path(runtime_id), body=body, key=idempotency_key or new_key())
        return parse(UpdateResponse, self._transport.send(call))
