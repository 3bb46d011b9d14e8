"""The whole service on the engine in memory, as gunicorn loads it: one worker, which has the engine."""

from __future__ import annotations

import os

from runtime_server import logs
from runtime_server.engine.memory import MemoryEngine
from runtime_server.models import StartRequest
from runtime_server.runtimes.caller import Caller
from runtime_server.service import build
from runtime_server.settings import load
from runtime_server.state import locate

_settings = load()
logs.configure(_settings.log_level, _settings.log_format)
engine = MemoryEngine(locate(_settings).instance)
engine.add_pullable("registry.example.com/team/agent:1.4")
service = build(_settings, engine=engine)
service.start_background()  # loaded in the worker, so after the fork
for number in range(int(os.environ.get("RUNTIME_SERVER_TEST_RUNTIMES", "0"))):
    service.manager.start(Caller("team"), StartRequest(image="busybox", name=f"many-{number:03}"))
app = service.app
