"""The API's part of nginx's configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runtime_server.errors import (
    BadRequest,
    BodyTooLarge,
    PolicyRefused,
    Problem,
    RateLimited,
    ServerUnavailable,
    Unauthorized,
)
from runtime_server.models import parse_size
from runtime_server.nginx.template import UnfitForNginx, block, quoted, render
from runtime_server.settings import Settings

LONGEST_GRACE: Final = 600
"""Seconds of ``timeout`` that a stop may ask for (``models.StopRequest``)."""
CONNECTIONS: Final = 256
"""Connections of one address."""
BAD_REQUEST: Final = "/.runtime-server-bad-request"
"""An internal location."""
FIELDS: Final = 1_048_576
"""Bytes that a form may have beside its file."""
FILES: Final = "~ ^/runtimes/[^/]+/files$"
"""The locations of a runtime's files."""
LIMIT: Final = "$runtime_server_body_limit"
"""nginx's variable."""
MARGIN: Final = 30
"""Seconds that the service may take over what its settings say."""

_SAFE: Final = {
    "X-Request-ID": "$request_id",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of what nginx answers itself, as the service's answers have them."""


def api_config(
    settings: Settings,
    *,
    listen: Sequence[str] = (),
    runtimes: Mapping[str, Iterable[str]] | None = None,
    connections: int = CONNECTIONS,
    locations: str = "",
) -> str:
    """The configuration for these settings.

    Args:
        settings: the operator's.
        listen: addresses and ports as ``listen`` of nginx has them; none: 443 of all addresses with a certificate,
            else 80 of loopback's.
        runtimes: subnets of the runtimes, each with the host's own addresses in it.
        connections: what one address may have open at once.
        locations: of runtimes that are reached by path.

    Raises:
        UnfitForNginx: a setting can't be written into it, or is missing.
    """
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise UnfitForNginx("RUNTIME_SERVER_TLS_CERTIFICATE and RUNTIME_SERVER_TLS_KEY go together")
    values = {
        "locations": locations,
        "upstream": _upstream(settings),
        "connections": str(connections),
        "listen": listening(settings, listen),
        "server_name": quoted(settings.domain or "_"),
        "tls": tls(settings),
        "runtimes": denied(runtimes or {}),
        "body_limit": str(settings.max_body_bytes),
        "read_timeout": f"{max(settings.max_wait, LONGEST_GRACE) + settings.engine_timeout + MARGIN:.0f}",
        "bad_request": BAD_REQUEST,
        "uploads": block(line for location, each in uploads(settings).items() for line in _upload(location, each)),
        "upload_limits": block(f"{_in_map(location)} {each.limit};" for location, each in uploads(settings).items()),
        "problems": block(line for place, problem in _problems().items() for line in _location(place, problem)),
    }
    return render("api.conf", values)


def _upstream(settings: Settings) -> str:
    if settings.bind:
        return quoted(settings.bind)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - looked up, not bound
    return quoted(f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}")


def listening(settings: Settings, given: Sequence[str]) -> str:
    """Where a server listens: all of them at the same places.

    Args:
        settings: say whether there is a certificate.
        given: addresses and ports; none: the usual ones.

    Raises:
        UnfitForNginx: one of them is none.
    """
    secure = settings.tls_certificate is not None
    more = (" ssl http2" if secure else "") + ("" if settings.domain else " default_server")
    # Unquoted, since the words are parameters of their own: nothing but addresses and ports goes in.
    for each in given:
        if not each or set(each) - set("0123456789abcdefABCDEF.:[]*"):
            raise UnfitForNginx(f"{each!r} is no address and port")
    usual = ("443", "[::]:443") if secure else ("127.0.0.1:80", "[::1]:80")
    return block(f"listen {each}{more};" for each in given or usual)


def tls(settings: Settings) -> str:
    """How a server proves who it is."""
    if settings.tls_certificate is None:
        return "# Plain HTTP: keys can be read on the way. Keep it on loopback."
    return block(
        [
            f"ssl_certificate {quoted(settings.tls_certificate)};",
            f"ssl_certificate_key {quoted(settings.tls_key)};",
            "ssl_protocols TLSv1.2 TLSv1.3;",
            "ssl_session_cache shared:runtime_server_tls:5m;",
            "ssl_session_tickets off;",
        ]
    )


def denied(runtimes: Mapping[str, Iterable[str]]) -> str:
    """Refuse requests that come from runtimes."""
    return block(_denied(runtimes))


def _denied(runtimes: Mapping[str, Iterable[str]]) -> Iterable[str]:
    if not runtimes:
        yield "# None has been started yet: render this again once there is a network of theirs."
    for subnet, hosts in sorted(runtimes.items()):
        for host in sorted(hosts):
            yield f"allow {host};"
        yield f"deny {subnet};"


@dataclass(frozen=True, slots=True)
class Upload:
    """A location whose bodies may be larger than those of other calls.

    Attributes:
        limit: bytes by which they end.
        buffered: whether nginx takes a body whole, into a file, before the service sees any of it.
    """

    limit: int
    buffered: bool


def uploads(settings: Settings) -> dict[str, Upload]:
    """The locations, as nginx names them."""
    return {
        # Base64 makes four bytes of three, and the form's other fields have a limit of their own.
        "= /build": Upload(parse_size(settings.max_build_context) * 7 // 5 + FIELDS, buffered=True),
        # The service puts them aside itself until they are whole, and looks whether they come fast enough.
        FILES: Upload(parse_size(settings.max_upload), buffered=False),
    }


def _upload(location: str, upload: Upload) -> Iterable[str]:
    yield f"location {location} {{"
    yield "    proxy_pass http://runtime_server_api;"
    yield "    auth_request /.runtime-server-upload-key;"
    yield f"    client_max_body_size {upload.limit};"
    if not upload.buffered:
        yield "    proxy_request_buffering off;"
    yield "}"


def _in_map(location: str) -> str:
    """A location's path as nginx's ``map`` has it."""
    return location.removeprefix("= ").replace("~ ", "~", 1)


def _problems() -> dict[str, Problem]:
    """What nginx answers itself, by the name of the location that does it."""
    return {
        "bad_request": BadRequest("The request's head can't be read, or is too large."),
        "unauthorized": Unauthorized("Send a valid API key as X-API-Key or Authorization: Bearer."),
        "refused": PolicyRefused("Runtimes may not call this API.", setting="RUNTIME_SERVER_NETWORK"),
        "too_large": BodyTooLarge(f"The body may have at most {LIMIT} bytes.", limit=LIMIT),
        "rate_limited": RateLimited("This address has too many connections open.", retry_after=1),
        "unavailable": ServerUnavailable("The server behind nginx doesn't answer.", retry_after=1),
    }


def _location(place: str, problem: Problem) -> Iterable[str]:
    """A location that nginx's own error becomes a problem in."""
    # The one number that nginx knows, among texts.
    text = json.dumps(problem.to_body("$request_id")).replace(f'"{LIMIT}"', LIMIT)
    body = text.replace("\\", "\\\\").replace("'", "\\'")
    headers = _SAFE if problem.retry_after is None else {**_SAFE, "Retry-After": f"{problem.retry_after:.0f}"}
    if problem.status == 400:
        # What can't be read has no URI, without which nginx finds no named location.
        yield f"location = {BAD_REQUEST} {{"
        yield "    internal;"
    else:
        yield f"location @runtime_server_{place} {{"
    yield "    default_type application/problem+json;"
    for name, value in headers.items():
        yield f'    add_header {name} "{value}" always;'
    yield f"    return {problem.status} '{body}';"
    yield "}"
