"""Streams of JSON lines, and what goes on where one broke off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

from runtime_server.client.transport import Call, OpenReply, Transport
from runtime_server.errors import (
    IncompatibleServer,
    Problem,
    RuntimeClientError,
    ServerUnreachable,
)

NDJSON = "application/x-ndjson"
CONTROL = frozenset({"heartbeat", "end", "error", "position"})
"""Lines of the stream's own have one member, with one of these names."""
STEADY = 30.0
"""Seconds after which a stream that is still there counts as one that could be opened, silent as it may be."""


def objects(reply: OpenReply) -> Iterator[dict[str, Any]]:
    """The lines of an answer, those of the stream's own included, up to its end.

    Raises:
        ServerUnreachable, ServerTimeout: it broke off before its end.
        Problem: the server says why it ends early.
        IncompatibleServer: a line isn't a JSON object.
    """
    for line in reply.lines():
        if not line:
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _incompatible(reply)
        if set(found) == {"error"} and isinstance(found["error"], dict):
            raise told(found["error"])
        yield found
        if set(found) == {"end"}:
            return
    failure = ServerUnreachable("the stream broke off")
    failure.request_id = reply.request_id
    raise failure


def told(body: dict[str, Any]) -> Problem:
    """The problem that a stream tells of in its midst, where there is no status line any more."""
    status = body.get("status")
    return Problem.from_body(body, status=status if isinstance(status, int) else 500)


def _incompatible(reply: OpenReply) -> IncompatibleServer:
    failure = IncompatibleServer("a line of the stream isn't a JSON object")
    failure.request_id = reply.request_id
    return failure


def is_control(found: dict[str, Any]) -> bool:
    """Whether the line is one of the stream's own."""
    return len(found) == 1 and not CONTROL.isdisjoint(found)


class Resuming:
    """The lines of a stream that is opened again where it breaks off.

    Args:
        transport: opens it.
        call: what to send for a stream that goes on where this one is; it says so anew each time.

    Attributes:
        ended: what the end said, once there was one.
    """

    def __init__(self, transport: Transport, call: Callable[[], Call]) -> None:
        self._transport = transport
        self._call = call
        self._reply: OpenReply | None = None
        self.ended: str | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The lines.

        Raises:
            RuntimeClientError: it can't be opened, or broke off too often without anything new.
        """
        policy, failures = self._transport.policy, 0
        while self.ended is None:
            opened = policy.clock()
            with closing(self._transport.open(self._call())) as self._reply:
                try:
                    for found in objects(self._reply):
                        if not is_control(found) or policy.clock() - opened >= STEADY:
                            failures = 0
                        if set(found) == {"end"}:
                            self.ended = str(found["end"])
                            return
                        yield found
                except RuntimeClientError as error:
                    failures += 1
                    if not error.retryable or failures >= policy.max_attempts:
                        error.attempts = failures
                        raise
                    wait = policy.backoff(failures, error.retry_after if isinstance(error, Problem) else None)
            policy.sleep(wait)

    def close(self) -> None:
        """Close the connection; from another thread, its reader may see an error of the transport."""
        self.ended = self.ended or "closed"
        if self._reply is not None:
            with suppress(OSError):
                self._reply.close()
