"""The API: its middleware, and one route table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import falcon

from runtime_server import errors, models
from runtime_server.resources.documents import Docs, OpenAPI
from runtime_server.resources.lifecycle import Pause, Resume, Start, Stop
from runtime_server.resources.runtimes import Renewal, RuntimeItem, Runtimes
from runtime_server.resources.server import Healthz, Readyz, Version
from runtime_server.settings import Settings
from runtime_server.web.access_log import LoggedApp
from runtime_server.web.auth import KeyRing
from runtime_server.web.context import ApiRequest
from runtime_server.web.middleware import middleware
from runtime_server.web.operation import Answered, Operation, Route, Services
from runtime_server.web.problems import add_error_handlers
from runtime_server.web.queries import NoQuery, RuntimeQuery, RuntimesQuery

if TYPE_CHECKING:
    from runtime_server.network.source import SourceCheck
    from runtime_server.runtimes.calls import Calls
    from runtime_server.runtimes.manager import RuntimeManager
    from runtime_server.runtimes.quotas import Rates

_ENGINE: Final = (errors.EngineUnreachable, errors.EngineTimeout, errors.EngineFailed)
_ONE: Final = (errors.RuntimeNotFound,)
_ACTION: Final = (*_ONE, errors.InvalidState, errors.RuntimeBusy, *_ENGINE)
_START: Final = (
    *_ENGINE,
    errors.PolicyRefused,
    errors.QuotaExceeded,
    errors.NameConflict,
    errors.InvalidState,
    errors.RuntimeBusy,
    errors.PortInUse,
    errors.ImageNotFound,
    errors.ImagePullFailed,
    errors.ImageReferenceInvalid,
    errors.CommandNotFound,
    errors.CommandNotExecutable,
    errors.NetworkNotFound,
    errors.RuntimeClassUnknown,
    errors.LimitOutOfRange,
    errors.MountSourceMissing,
    errors.UserUnknown,
    errors.SpecRejected,
    errors.RegistryCredentialsLost,
    errors.TooManyWaiting,
    errors.ServerDraining,
)

_ID: Final = "runtime-0123456789ab"
_CONTAINER: Final = "9b0c1f3c5a7e4d2f8a6b0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f60718293a4b5"
_RUNTIME: Final[dict[str, Any]] = {
    "runtime_id": _ID,
    "container_id": _CONTAINER,
    "name": "agent-7",
    "session_id": None,
    "owner": "default",
    "image": "busybox",
    "status": "running",
    "status_detail": None,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:00.350000Z",
    "stopped_at": None,
    "expires_at": None,
    "ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]},
    "labels": {"team": "agents"},
    "environment": {"GREETING": None},
    "session_api_key": None,
    "exit": None,
    "error": None,
    "restart_count": 0,
    "logs": None,
}


def _acted(status: str, message: str) -> dict[str, Any]:
    return {
        "runtime_id": _ID,
        "container_id": _CONTAINER,
        "status": status,
        "message": message,
        "changed": True,
        "warnings": [],
    }


ROUTES: Final = (
    Route(
        "/start",
        Start,
        {
            "POST": Operation(
                id="startRuntime",
                summary="Start a runtime, or return the session's live one.",
                request=models.StartRequest,
                answers={
                    201: Answered(
                        "The runtime; `starting` where it takes longer than `wait` seconds.",
                        models.StartResponse,
                        {**_RUNTIME, "created": True, "warnings": []},
                    )
                },
                raises=_START,
                mutating=True,
                example={
                    "image": "busybox",
                    "name": "agent-7",
                    "command": ["httpd", "-f", "-p", "8000"],
                    "environment": {"GREETING": "hello"},
                    "ports": [{"container_port": 8000}],
                    "labels": {"team": "agents"},
                    "memory": "512m",
                },
            )
        },
    ),
    Route(
        "/pause",
        Pause,
        {
            "POST": Operation(
                id="pauseRuntime",
                summary="Freeze a runtime's processes.",
                request=models.PauseRequest,
                answers={200: Answered("It is paused.", models.ActionResponse, _acted("paused", "Paused."))},
                raises=_ACTION,
                mutating=True,
                example={"runtime_id": _ID},
            )
        },
    ),
    Route(
        "/resume",
        Resume,
        {
            "POST": Operation(
                id="resumeRuntime",
                summary="Let a paused runtime go on.",
                request=models.ResumeRequest,
                answers={200: Answered("It runs.", models.ActionResponse, _acted("running", "Resumed."))},
                raises=(*_ACTION, errors.QuotaExceeded),
                mutating=True,
                example={"runtime_id": _ID},
            )
        },
    ),
    Route(
        "/stop",
        Stop,
        {
            "POST": Operation(
                id="stopRuntime",
                summary="End a runtime's process: TERM, and KILL after the grace.",
                request=models.StopRequest,
                answers={200: Answered("It has stopped.", models.ActionResponse, _acted("stopped", "Stopped."))},
                raises=_ACTION,
                mutating=True,
                example={"runtime_id": _ID, "timeout": 5, "remove": False},
            )
        },
    ),
    Route(
        "/runtimes",
        Runtimes,
        {
            "GET": Operation(
                id="listRuntimes",
                summary="List the caller's runtimes; an admin's are everybody's.",
                query=RuntimesQuery,
                answers={200: Answered("A page.", models.RuntimePage, {"runtimes": [_RUNTIME], "next_cursor": None})},
            )
        },
    ),
    Route(
        "/runtimes/{runtime_id}",
        RuntimeItem,
        {
            "GET": Operation(
                id="getRuntime",
                summary="Read a runtime, or wait until it is in a state.",
                query=RuntimeQuery,
                answers={200: Answered("The runtime.", models.Runtime, _RUNTIME)},
                raises=(*_ONE, *_ENGINE, errors.TooManyWaiting),
            ),
            "DELETE": Operation(
                id="removeRuntime",
                summary="Stop and remove a runtime.",
                answers={200: Answered("It is gone.", models.ActionResponse, _acted("removed", "Removed."))},
                raises=_ACTION,
                mutating=True,
            ),
        },
    ),
    Route(
        "/runtimes/{runtime_id}/renew",
        Renewal,
        {
            "POST": Operation(
                id="renewRuntime",
                summary="Set anew when a runtime ends.",
                request=models.RenewRequest,
                answers={
                    200: Answered(
                        "The runtime, with its new end.",
                        models.Runtime,
                        {**_RUNTIME, "expires_at": "2026-01-31T13:00:00Z"},
                    )
                },
                raises=_ACTION,
                mutating=True,
                example={"ttl": 3600},
            )
        },
    ),
    Route(
        "/healthz",
        Healthz,
        {
            "GET": Operation(
                id="healthz",
                summary="Say that the process lives.",
                query=NoQuery,
                answers={200: Answered("It does.", models.Health, {"status": "ok"})},
                public=True,
            )
        },
    ),
    Route(
        "/readyz",
        Readyz,
        {
            "GET": Operation(
                id="readyz",
                summary="Say whether the engine answers.",
                query=NoQuery,
                answers={
                    200: Answered("It does.", models.Readiness, {"ready": True, "reason": None}),
                    503: Answered(
                        "It doesn't; the reason is for callers with a key.",
                        models.Readiness,
                        {"ready": False, "reason": None},
                    ),
                },
                public=True,
            )
        },
    ),
    Route(
        "/version",
        Version,
        {
            "GET": Operation(
                id="version",
                summary="Tell the versions of server, API and engine.",
                query=NoQuery,
                answers={
                    200: Answered(
                        "The versions.",
                        models.Version,
                        {
                            "server": "0.1.0",
                            "api": "1",
                            "engine": {"name": "Docker Engine", "version": "26.1.5", "api_version": "1.45"},
                        },
                    )
                },
                public=True,
            )
        },
    ),
    Route(
        "/openapi.json",
        OpenAPI,
        {
            "GET": Operation(
                id="openapi",
                summary="This API as an OpenAPI 3.1 document.",
                query=NoQuery,
                answers={200: Answered("The document.")},
                public=True,
            )
        },
    ),
    Route(
        "/docs",
        Docs,
        {
            "GET": Operation(
                id="docs",
                summary="This API as a page.",
                query=NoQuery,
                answers={200: Answered("The page.", media_type="text/html")},
                public=True,
            )
        },
    ),
)
"""The API."""


def create_api(
    settings: Settings,
    manager: RuntimeManager,
    calls: Calls,
    keys: KeyRing,
    *,
    rates: Rates | None = None,
    sources: SourceCheck | None = None,
) -> falcon.App[ApiRequest, falcon.Response]:
    """The WSGI app. It does no I/O, and starts nothing."""
    services = Services(settings, manager, calls, ROUTES)
    public = frozenset(route.path for route in ROUTES if route.public)
    app = LoggedApp(request_type=ApiRequest, middleware=middleware(settings, keys, public, rates, sources))
    app.req_options.strip_url_path_trailing_slash = True
    add_error_handlers(app)
    for route in ROUTES:
        app.add_route(route.path, route.resource(services))
    return app
