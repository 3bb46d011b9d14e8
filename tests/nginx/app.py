"""The whole service on the engine in memory, as gunicorn loads it: one worker, which has the engine."""

from __future__ import annotations

from runtime_server import logs
from runtime_server.engine.memory import MemoryEngine
from runtime_server.service import build
from runtime_server.settings import load
from runtime_server.state import locate

_settings = load()
logs.configure(_settings.log_level, _settings.log_format)
service = build(_settings, engine=MemoryEngine(locate(_settings).instance))
service.start_background()  # loaded in the worker, so after the fork
app = service.app
