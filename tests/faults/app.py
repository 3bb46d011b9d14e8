"""The service as it is, with a hook that ends the process at a step of a start.

Loaded by gunicorn in the place of ``runtime_server.wsgi:app``. While the file ``kill-at`` of the state directory
holds a step's name, the first process to reach that step ends itself by SIGKILL.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from runtime_server.runtimes import steps
from runtime_server.wsgi import app, service

__all__ = ["app"]

KILL_AT = "kill-at"
KILLED = "killed"
"""Where the mark goes: ``kill-at`` is renamed, which only one process can do."""


def _end_at(step: str, _runtime_id: str) -> None:
    mark = Path(service.state.directory, KILL_AT)
    try:
        if mark.read_text() != step:
            return
        mark.rename(mark.with_name(KILLED))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


steps.hooks.append(_end_at)
