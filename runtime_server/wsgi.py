"""What gunicorn, or any WSGI server, loads: ``runtime_server.wsgi:app``.

Importing this reads the environment and connects to nothing. Background work starts in each worker after the fork,
by ``runtime_server.gunicorn_conf``; under another server, call ``service.start_background()`` there.
"""

from runtime_server import logs
from runtime_server.service import build
from runtime_server.settings import load

settings = load()
logs.configure(settings.log_level, settings.log_format)
service = build(settings, shared=True)
app = service.wsgi
