"""The whole service on an engine in memory, as gunicorn loads it: one worker, which has the engine."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable

from runtime_server import logs
from runtime_server.engine.base import RegistryLogin
from runtime_server.engine.inside import Sample
from runtime_server.engine.memory import MemoryEngine
from runtime_server.engine.stock import PullLayer, PullState
from runtime_server.models import StartRequest
from runtime_server.runtimes.caller import Caller
from runtime_server.service import build
from runtime_server.settings import load
from runtime_server.state import locate

SLOW = "registry.example.com/team/slow:1"
"""Takes a second to pull, so that there is something to be seen of it."""
STEPS = 10
FULL = {"4f4fb700ef54": 40 * 2**20, "9c0abc9c5bd3": 8 * 2**20}
"""Its layers and their sizes."""


class VisibleEngine(MemoryEngine):
    """An engine of which something is to be seen: pulls by layer, and traffic."""

    def pull(
        self,
        image: str,
        *,
        platform: str | None = None,
        login: RegistryLogin | None = None,
        progress: Callable[[PullState], None] | None = None,
    ) -> None:
        """Pull the image; the slow one tells how far its layers are."""
        for step in range(STEPS if image == SLOW else 0):
            layers = (PullLayer(name, "Downloading", size * step // STEPS, size) for name, size in FULL.items())
            if progress is not None:
                progress(PullState("Downloading", tuple(layers)))
            time.sleep(0.15)
        super().pull(image, platform=platform, login=login, progress=progress)

    def sample(self, container: str) -> Sample:
        """What it uses, and 30 KiB a second received and 10 sent."""
        found = super().sample(container)
        kib = found.cpu * 2 // 10**9
        return dataclasses.replace(found, received=30 * 1024 * kib, sent=10 * 1024 * kib)


_settings = load()
logs.configure(_settings.log_level, _settings.log_format)
engine = VisibleEngine(locate(_settings).instance)
for _name in ("registry.example.com/team/agent:1.4", SLOW):
    engine.add_pullable(_name)
service = build(_settings, engine=engine)
service.start_background()  # loaded in the worker, so after the fork
for _number in range(int(os.environ.get("RUNTIME_SERVER_TEST_RUNTIMES", "0"))):
    service.manager.start(Caller("team"), StartRequest(image="busybox", name=f"many-{_number:03}"))
app = service.app
