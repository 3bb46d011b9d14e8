"""The API: its middleware, and one route table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import falcon

from runtime_server.resources.builds import Build, BuildItem, BuildOutput, BuildProgress
from runtime_server.resources.dashboard import DashboardFile, DashboardPage
from runtime_server.resources.documents import Docs, OpenAPI
from runtime_server.resources.exec import Exec
from runtime_server.resources.files import FilesIn
from runtime_server.resources.gateway import LookUp, Wake
from runtime_server.resources.images import ImageExists, RegistryPrefix
from runtime_server.resources.lifecycle import Pause, Resume, Start, Stop
from runtime_server.resources.logs import Logs
from runtime_server.resources.metrics import Metrics
from runtime_server.resources.runtimes import Renewal, Restart, RuntimeItem, Runtimes
from runtime_server.resources.server import Healthz, Readyz, Version
from runtime_server.resources.sessions import HealthCheck, RunningRuntimes, RuntimeLookup, SessionBatch, SessionItem
from runtime_server.resources.stock import ImageItem, ImagePull, Images, Prune, VolumeItem, Volumes
from runtime_server.resources.terminal import Terminal, TerminalTickets
from runtime_server.resources.watching import EventsOf, HistoryOf, StatsOf
from runtime_server.resources.workspaces import WorkspaceItem, Workspaces
from runtime_server.web.afterwards import App
from runtime_server.web.auth import KeyRing
from runtime_server.web.context import ApiRequest
from runtime_server.web.middleware import middleware
from runtime_server.web.operation import Route, Services
from runtime_server.web.problems import add_error_handlers

if TYPE_CHECKING:
    from runtime_server.network.source import SourceCheck
    from runtime_server.runtimes.gateway import Gateway
    from runtime_server.runtimes.quotas import Rates
    from runtime_server.settings import Settings

ROUTES: Final = (
    Route("/start", Start),
    Route("/pause", Pause),
    Route("/resume", Resume),
    Route("/stop", Stop),
    Route("/runtimes", Runtimes),
    Route("/runtimes/{runtime_id}", RuntimeItem),
    Route("/runtimes/{runtime_id}/renew", Renewal),
    Route("/sessions/{session_id}", SessionItem),
    Route("/sessions/batch", SessionBatch),
    Route("/runtime/{runtime_id}", RuntimeLookup),
    Route("/list", RunningRuntimes),
    Route("/health", HealthCheck),
    Route("/workspaces", Workspaces),
    Route("/workspaces/{workspace}", WorkspaceItem),
    Route("/build", Build),
    Route("/build_status", BuildProgress),
    Route("/builds/{build_id}", BuildItem),
    Route("/builds/{build_id}/log", BuildOutput),
    Route("/registry_prefix", RegistryPrefix),
    Route("/image_exists", ImageExists),
    Route("/runtimes/{runtime_id}/logs", Logs),
    Route("/runtimes/{runtime_id}/exec", Exec),
    Route("/runtimes/{runtime_id}/files", FilesIn),
    Route("/runtimes/{runtime_id}/restart", Restart),
    Route("/runtimes/{runtime_id}/stats", StatsOf),
    Route("/runtimes/{runtime_id}/history", HistoryOf),
    Route("/events", EventsOf),
    Route("/images", Images),
    Route("/images/pull", ImagePull),
    Route("/images/{reference:path}", ImageItem),
    Route("/volumes", Volumes),
    Route("/volumes/{volume}", VolumeItem),
    Route("/maintenance/prune", Prune),
    Route("/runtimes/{runtime_id}/terminal", Terminal),
    Route("/runtimes/{runtime_id}/terminal/ticket", TerminalTickets),
    Route("/healthz", Healthz),
    Route("/readyz", Readyz),
    Route("/version", Version),
    Route("/metrics", Metrics),
    Route("/openapi.json", OpenAPI),
    Route("/docs", Docs),
)
"""The API."""

PAGES: Final = (
    Route("/", DashboardPage),
    Route("/dashboard/{file:path}", DashboardFile),
)
"""What people see of it in a browser, where the settings let them; no part of the API."""


def create_api(
    services: Services, keys: KeyRing, *, rates: Rates | None = None, sources: SourceCheck | None = None
) -> falcon.App[ApiRequest, falcon.Response]:
    """The WSGI app. It does no I/O, and starts nothing.

    Args:
        services: what the resources are made of.
        keys: who may call.
        rates: how often; None: as often as they like.
        sources: from where; None: from anywhere.
    """
    services = dataclasses.replace(services, routes=ROUTES)
    served = ROUTES + PAGES if services.settings.shows_dashboard else ROUTES
    public = frozenset(route.path for route in served if route.public)
    ticketed = frozenset(route.path for route in ROUTES if route.ticketed)
    counted = services.metrics.metrics
    around = middleware(services.settings, counted, keys, public, rates=rates, sources=sources, ticketed=ticketed)
    app = App(request_type=ApiRequest, middleware=around)
    app.req_options.strip_url_path_trailing_slash = True
    add_error_handlers(app)
    for route in served:
        app.add_route(route.path, route.resource(services))
    return app


def create_gateway(settings: Settings, gateway: Gateway) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI app that nginx asks. It authenticates nobody: what reaches its socket is nginx.

    Args:
        settings: say how cookies are called.
        gateway: knows the answers.
    """
    secure = settings.gateway_secure
    # By path all runtimes are one host, and a cookie of one would be everybody's.
    cookie = settings.gateway_cookie if settings.routing == "subdomain" else None
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
    app.add_route("/look-up", LookUp(gateway, cookie=cookie, secure=secure))
    app.add_route("/wake", Wake(gateway, cookie=cookie, secure=secure))
    return app
