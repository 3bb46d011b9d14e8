"""gunicorn's settings, from the service's.

For those who run it themselves: ``gunicorn -c python:runtime_server.gunicorn_conf runtime_server.wsgi:app``.

gunicorn takes each module-level name that is one of its settings, and ignores the others.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.config import Config
from gunicorn.glogging import Logger

from runtime_server import logs
from runtime_server.settings import load
from runtime_server.worker import Worker

if TYPE_CHECKING:
    from runtime_server.service import Service

_settings = load()


class StructuredLogger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's log through ours; no access log, since the middleware writes one line a request."""

    def setup(self, cfg: Config) -> None:
        """Replace gunicorn's own handlers."""
        super().setup(cfg)
        logs.configure(_settings.log_level, _settings.log_format)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True
        self.error_log.setLevel(_settings.log_level.upper())


def address(host: str, port: int) -> str:
    """``host:port`` as gunicorn reads it, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


bind = [_settings.bind or address(_settings.host, _settings.port)]
# A socket's folder rules who may connect.
umask = 0o111
# Believed of these alone, and of a socket's peers: that the caller used TLS. Nobody sets WSGI's own variables.
forwarded_allow_ips = ",".join(_settings.trusted_proxies)
forwarder_headers = ""
if _settings.routed:
    bind.append(f"unix:{_settings.gateway_socket}")
workers = _settings.workers
worker_class = Worker
threads = _settings.request_threads
proc_name = "runtime-server"
loglevel = _settings.log_level
logger_class = StructuredLogger
accesslog = None

# A hundred session ids in one query are more than gunicorn's 4094 bytes; nginx takes 8 KiB by default.
limit_request_line = 8190
# A heartbeat of the worker's main thread, not a limit on requests.
timeout = 60
graceful_timeout = _settings.graceful_timeout
# More than the time that nginx keeps an idle connection to its upstream (60 s), or it would meet closed ones.
keepalive = 75
worker_connections = max(1000, threads * 8)
if os.access("/dev/shm", os.W_OK):  # noqa: S108 - memory, so that a busy disk can't delay the heartbeat
    worker_tmp_dir = "/dev/shm"  # noqa: S108

# Since gunicorn 25; unused here, and one fixed path would be shared by all servers of a user.
if "control_socket_disable" in Config().settings:
    control_socket_disable = True


def on_starting(_server: Any) -> None:
    """Prepare the state once, before there are workers."""
    from runtime_server.cli.serve import prepare_state

    prepare_state(_settings)


def _service() -> Service | None:
    """The service of this worker, if it got as far as loading it."""
    module = sys.modules.get("runtime_server.wsgi")
    return getattr(module, "service", None)


def post_worker_init(worker: Any) -> None:
    """Start background work in the worker: threads and connections don't survive a fork."""
    if (service := _service()) is not None:
        # At SIGTERM gunicorn waits for requests in flight, which streams are until they end.
        service.ending = lambda: not worker.alive
        service.start_background()
    # What is loaded by now stays: left out of collections, each full one of which would hold all threads up
    # for several hundredths of a second.
    gc.collect()
    gc.freeze()


def worker_exit(_server: Any, _worker: Any) -> None:
    """Give back connections and locks."""
    if (service := _service()) is not None:
        service.close()
