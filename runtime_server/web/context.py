"""What one request carries from the middleware to its responder."""

from __future__ import annotations

import time
import uuid
from typing import Any, ClassVar

import falcon

from runtime_server.metrics.timings import Timings
from runtime_server.runtimes.caller import Caller
from runtime_server.settings import Settings


class Context:
    """The state of one request; made with it, and gone with it."""

    __slots__ = ("_caller", "document", "request_id", "runtime_id", "settings", "started", "timings", "warnings")

    settings: Settings
    """The server's; set before any responder runs."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.timings = Timings()
        self.request_id = uuid.uuid4().hex
        self._caller: Caller | None = None
        self.document: Any = None
        """The body as JSON values, as it was sent; None where there is none."""
        self.warnings: list[str] = []
        """What of the body was ignored, in sentences."""
        self.runtime_id: str | None = None
        """The runtime that this is about, for the access log."""

    @property
    def caller(self) -> Caller:
        """The authenticated caller. Only public routes may be asked without one."""
        if self._caller is None:
            raise LookupError("a public route has no caller")
        return self._caller

    @caller.setter
    def caller(self, caller: Caller | None) -> None:
        self._caller = caller

    @property
    def authenticated(self) -> bool:
        """Whether the caller is known."""
        return self._caller is not None


class ApiRequest(falcon.Request):
    """Falcon's request with a typed context."""

    context_type: ClassVar[type] = Context
    context: Context  # type: ignore[assignment]
