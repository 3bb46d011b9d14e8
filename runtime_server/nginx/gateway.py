"""The gateway's part of nginx's configuration: the addresses of runtimes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from runtime_server.errors import (
    PolicyRefused,
    Problem,
    RuntimeNotFound,
    RuntimeUnanswered,
    RuntimeUnavailable,
    Unauthorized,
)
from runtime_server.nginx import api
from runtime_server.nginx.template import UnfitForNginx, block, quoted, render
from runtime_server.settings import Settings

ID: Final = "runtime-[0-9a-f]{12}"
SERVICE: Final = "vscode|work-1|work-2|p[1-9][0-9]{0,4}"
"""What a runtime's id and a service look like in an address."""
KEY: Final = (
    "|$runtime_server_id|$runtime_server_service|$http_x_session_api_key|$runtime_server_cookie"
    "|$runtime_server_origin|$runtime_server_preflight|"
)
"""Of an answer that nginx keeps: all that it depends on. The service hashes it as nginx does."""
WAKE: Final = 30
"""Seconds that a wake may take over the engine's own timeout."""

_REFUSALS: Final[Sequence[Problem]] = (
    Unauthorized("Send the runtime's session key as X-Session-API-Key."),
    PolicyRefused("Runtimes may not call one another.", setting="RUNTIME_SERVER_NETWORK"),
    RuntimeNotFound("No runtime has that address."),
    RuntimeUnanswered("The runtime's service doesn't answer."),
    RuntimeUnavailable("The runtime is paused, or can't be woken now."),
)


def gateway_config(
    settings: Settings, *, listen: Sequence[str] = (), runtimes: Mapping[str, Iterable[str]] | None = None
) -> str:
    """The configuration for these settings: by host name with a server of its own, by path without.

    Args:
        settings: the operator's; ``routing`` isn't ``published``.
        listen: addresses and ports as ``listen`` of nginx has them; none: those of the API.
        runtimes: subnets of the runtimes, each with the host's own addresses in it.

    Raises:
        UnfitForNginx: a setting can't be written into it, or is missing.
    """
    by_path = settings.routing == "path"
    domain = re.escape(settings.domain)
    if by_path:
        server = "# The locations are in the API's server, which has the same name."
    else:
        server = _server(settings, listen, runtimes or {})
    values = {
        "socket": quoted(f"unix:{settings.gateway_socket}"),
        "lookups": quoted(settings.gateway_lookups),
        "source": "$request_uri" if by_path else "$host",
        "id": _regex(
            f"^/(?<runtime_server_id_>{ID})(?:[/?]|$)"
            if by_path
            else rf"^(?:(?:{SERVICE})-)?(?<runtime_server_id_>{ID})\.{domain}$"
        ),
        "service": _regex(
            f"^/{ID}/(?<runtime_server_service_>{SERVICE})(?:[/?]|$)"
            if by_path
            else f"^(?<runtime_server_service_>{SERVICE})-{ID}"
        ),
        "uri": block(_uri(by_path)),
        "prefix": block(_prefix(by_path)),
        "cookie": settings.gateway_cookie,
        "server": server,
    }
    return render("gateway.conf", values)


def gateway_locations(settings: Settings) -> str:
    """The locations of the API's server for runtimes that are reached by path; empty where they aren't.

    Raises:
        UnfitForNginx: a setting can't be written into it.
    """
    return _locations(settings) if settings.routing == "path" else ""


def _regex(text: str) -> str:
    # A regular expression with braces must be quoted, and a backslash in quotes stays one before anything but itself.
    return f'"~{text}"'


def _uri(by_path: bool) -> Iterable[str]:
    """As the caller wrote it: nothing is decoded and encoded again on the way."""
    if not by_path:
        yield "default $request_uri;"
        return
    # Possessive: a service's name is never given back to be a path of the main one.
    before = f"^/{ID}(?:/(?:{SERVICE})(?=[/?]|$))?+"
    yield 'default "/";'
    yield f"{_regex(f'{before}(?<runtime_server_uri_>/.*)$')} $runtime_server_uri_;"
    yield f"{_regex(f'{before}(?<runtime_server_query_>[?].*)$')} /$runtime_server_query_;"


def _prefix(by_path: bool) -> Iterable[str]:
    """What the service's own paths don't have."""
    if not by_path:
        yield 'default "";'
        return
    yield "default /$runtime_server_id/$runtime_server_service;"
    yield '"" /$runtime_server_id;'


def _server(settings: Settings, listen: Sequence[str], runtimes: Mapping[str, Iterable[str]]) -> str:
    if not settings.domain:
        raise UnfitForNginx("RUNTIME_SERVER_DOMAIN is missing")
    values = {
        "listen": api.listening(settings, listen),
        "server_name": quoted(f"*.{settings.domain}"),
        "tls": api.tls(settings),
        "runtimes": api.denied(runtimes),
        "locations": _locations(settings),
    }
    return render("gateway_server.conf", values).rstrip()


def _locations(settings: Settings) -> str:
    by_path = settings.routing == "path"
    values = {
        "location": f'~ "^/{ID}(/|$)"' if by_path else "/",
        "to_runtime": block(_to_runtime(by_path)),
        "asking": block(_asking()),
        "key": KEY,
        "wake_timeout": f"{settings.engine_timeout + WAKE:.0f}",
        "refusals": block(line for problem in _REFUSALS for line in _refusal(problem)),
    }
    return render("gateway_locations.conf", values).rstrip()


def _to_runtime(by_path: bool) -> Iterable[str]:
    """How a request is handed to its runtime: as it comes, both ways, for as long as it takes."""
    yield from (
        "error_page 403 = $runtime_server_refusal;",
        "error_page 500 = @runtime_server_refused_503;",
        "error_page 502 504 = @runtime_server_refused_502;",
        "recursive_error_pages on;",
        "client_max_body_size 0;",
        "client_body_timeout 300s;",
        "send_timeout 300s;",
        "gzip off;",
        "add_header Set-Cookie $runtime_server_set_cookie always;",
        "proxy_pass http://$runtime_server_upstream$runtime_server_uri;",
        "proxy_http_version 1.1;",
        "proxy_request_buffering off;",
        "proxy_buffering off;",
        "proxy_buffer_size 32k;",
        "proxy_buffers 4 32k;",
        "proxy_connect_timeout 5s;",
        "proxy_read_timeout 1h;",
        "proxy_send_timeout 1h;",
        "proxy_next_upstream off;",
        # A runtime's answer must not lead nginx anywhere.
        "proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;",
        "proxy_set_header Host $runtime_server_host;",
        "proxy_set_header Upgrade $runtime_server_upgrade;",
        "proxy_set_header Connection $runtime_server_runtime_connection;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header X-Forwarded-Host $runtime_server_host;",
        "proxy_set_header X-Forwarded-Port $server_port;",
        "proxy_set_header X-Forwarded-Prefix $runtime_server_prefix;",
        "proxy_set_header X-Real-IP $remote_addr;",
        'proxy_set_header Forwarded "";',
        'proxy_set_header Proxy "";',
    )
    if by_path:
        # What a service says of itself begins at its own root, unless it knows its prefix.
        own = f"(?!/|{ID}(?:/|$))"
        yield "absolute_redirect off;"
        yield f'proxy_redirect "~^/{own}(.*)$" $runtime_server_prefix/$1;'
        yield f'proxy_cookie_path "~^/{own}(.*)$" $runtime_server_prefix/$1;'
    else:
        yield "proxy_redirect off;"


def _asking() -> Iterable[str]:
    """What the service is told of a request, and nothing else."""
    yield from (
        "proxy_cache runtime_server_lookups;",
        # A key in the query is for once, and kept nowhere.
        "proxy_cache_bypass $runtime_server_query_key;",
        "proxy_no_cache $runtime_server_query_key;",
        # Of the request's body nothing is read here, but its length is looked at.
        "client_max_body_size 0;",
        "proxy_connect_timeout 5s;",
        "proxy_pass_request_headers off;",
        "proxy_pass_request_body off;",
        'proxy_set_header Content-Length "";',
        "proxy_set_header X-Gateway-Runtime $runtime_server_id;",
        "proxy_set_header X-Gateway-Service $runtime_server_service;",
        "proxy_set_header X-Gateway-Header-Key $http_x_session_api_key;",
        "proxy_set_header X-Gateway-Cookie-Key $runtime_server_cookie;",
        "proxy_set_header X-Gateway-Query-Key $runtime_server_query_key;",
        "proxy_set_header X-Gateway-Origin $runtime_server_origin;",
        "proxy_set_header X-Gateway-Preflight $runtime_server_preflight;",
    )


def _refusal(problem: Problem) -> Iterable[str]:
    body = json.dumps(problem.to_body("$request_id")).replace("\\", "\\\\").replace("'", "\\'")
    yield f"location @runtime_server_refused_{problem.status} {{"
    yield "    default_type application/problem+json;"
    yield "    add_header Retry-After $runtime_server_retry_after always;"
    yield "    add_header X-Request-ID $request_id always;"
    yield "    add_header Cache-Control no-store always;"
    if problem.status == 401:
        yield '    add_header WWW-Authenticate "X-Session-API-Key" always;'
    yield f"    return {problem.status} '{body}';"
    yield "}"
