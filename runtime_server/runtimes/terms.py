"""How a runtime is treated behind the gateway: as its start asked for, else as the server's settings say. Pure."""

from __future__ import annotations

from typing import Any, Literal

from runtime_server.models import StartRequest
from runtime_server.settings import Settings
from runtime_server.store.records import Record

FIELDS = ("wake", "access", "idle_timeout", "idle_action")
"""What a start can say of it."""


class Terms:
    """The terms of all runtimes.

    Args:
        settings: the operator's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def private(self, asked: Record | StartRequest) -> bool:
        """Whether callers must present the session key to the gateway itself."""
        return self._settings.routed and self._of(asked, "access") == "private"

    def wakes(self, record: Record) -> bool:
        """Whether a request resumes it where it is paused."""
        return self._settings.routed and bool(self._of(record, "wake"))

    def idle_timeout(self, record: Record) -> float:
        """Seconds of disuse after which it is put to sleep; 0: never."""
        return float(self._of(record, "idle_timeout")) if self._settings.routed else 0.0

    def idle_action(self, record: Record) -> Literal["pause", "stop"]:
        """What is done to it then."""
        return "stop" if self._of(record, "idle_action") == "stop" else "pause"

    def _of(self, asked: Record | StartRequest, name: str) -> Any:
        own = asked.spec.get(name) if isinstance(asked, Record) else getattr(asked, name)
        return getattr(self._settings, name) if own is None else own
