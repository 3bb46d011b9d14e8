"""The service as it is, with a hook that ends or halts a process at a step of a start.

Loaded by gunicorn in the place of ``runtime_server.wsgi:app``. While the file ``kill-at`` of the state directory
holds a step's name, the first process to reach that step ends itself by SIGKILL; with ``hold-at``, the first start
to come there goes no further while its process lives.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from runtime_server.runtimes import steps
from runtime_server.wsgi import app, service

__all__ = ["app"]

KILL_AT, KILLED = "kill-at", "killed"
"""The mark, and what it is renamed to, which only one process can do."""
HOLD_AT, HELD = "hold-at", "held"


def _taken(mark: str, done: str, step: str) -> bool:
    path = service.state.directory / mark
    try:
        if path.read_text() != step:
            return False
        path.rename(Path(service.state.directory, done))
    except FileNotFoundError:
        return False
    return True


def _end_or_halt(step: str, _runtime_id: str) -> None:
    if _taken(KILL_AT, KILLED, step):
        os.kill(os.getpid(), signal.SIGKILL)
    if _taken(HOLD_AT, HELD, step):
        threading.Event().wait()


steps.hooks.append(_end_or_halt)
