"""The named moments of a start, at which tests can end the process."""

from __future__ import annotations

from collections.abc import Callable

STEPS = ("recorded", "pulled", "created", "started", "inspected", "answered")
"""In order. The network is attached within the engine's create and start."""

hooks: list[Callable[[str, str], None]] = []
"""Called with the step and the runtime's id; empty in service."""


def reached(step: str, runtime_id: str) -> None:
    """Say that a start has come so far."""
    for hook in hooks:
        hook(step, runtime_id)
