"""What happens to every request before and after its responder."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from typing import Any

import falcon

from runtime_server.metrics.instruments import Metrics
from runtime_server.network.source import SourceCheck
from runtime_server.runtimes.quotas import Rates
from runtime_server.settings import Settings
from runtime_server.web.access_log import AccessLog
from runtime_server.web.auth import KeyRing, presented_key
from runtime_server.web.context import ApiRequest
from runtime_server.web.observed import Observed
from runtime_server.web.peers import Peer

REQUEST_ID = "X-Request-ID"

UNREAD = 65_536
"""Bytes of a body that servers read on by themselves."""
UNREAD_SECONDS = 10.0
_CSP = "Content-Security-Policy"
_SAFE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestId:
    """Take over the caller's ``X-Request-ID``, or make one; every answer carries it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process_request(self, req: ApiRequest, _resp: falcon.Response) -> None:
        """Prepare the request's context."""
        req.context.settings = self._settings
        given = req.get_header(REQUEST_ID)
        if given and _REQUEST_ID.fullmatch(given):
            req.context.request_id = given

    def process_response(self, req: ApiRequest, resp: falcon.Response, _resource: object, _succeeded: bool) -> None:
        """Tell the id."""
        resp.set_header(REQUEST_ID, req.context.request_id)


class SafeHeaders:
    """Headers of every answer, as for an API that no browser shows, caches or frames; a page may set its own CSP."""

    def process_response(self, _req: ApiRequest, resp: falcon.Response, _resource: object, _succeeded: bool) -> None:
        """Set them."""
        if resp.get_header(_CSP) is None:
            resp.set_header(_CSP, "default-src 'none'; frame-ancestors 'none'")
        resp.set_headers(_SAFE)


class Unread:
    """Read what a caller still sends although its answer is known (RFC 9112, section 9.6).

    Closed on meanwhile, its connection would break before it, or a proxy, has read the answer: gunicorn reads a
    megabyte on, and an upload is larger. Only for known callers, and not for long.
    """

    def process_response(self, req: ApiRequest, _resp: falcon.Response, _resource: object, _succeeded: bool) -> None:
        """Read the body to its end."""
        chunked = bool(req.get_header("Transfer-Encoding") and req.env.get("wsgi.input_terminated"))
        if (not chunked and (req.content_length or 0) <= UNREAD) or not req.context.authenticated:
            return
        end = time.monotonic() + UNREAD_SECONDS
        # One read alone takes as long as a slow sender likes.
        timer = threading.Timer(UNREAD_SECONDS, Peer(req.env).hear_no_more)
        timer.daemon = True
        timer.start()
        with suppress(Exception):  # the peer left, and each server says so in its own way
            while time.monotonic() < end and req.env["wsgi.input"].read(UNREAD):
                pass
        timer.cancel()


class Authentication:
    """Know the caller by its API key.

    Args:
        keys: the keys that are accepted.
        public: URI templates of routes that are answered without one.
        ticketed: those where a ticket does, too, which the responder redeems.
    """

    def __init__(self, keys: KeyRing, public: frozenset[str], ticketed: frozenset[str] = frozenset()) -> None:
        self._keys = keys
        self._public = public
        self._ticketed = ticketed

    def process_resource(
        self, req: ApiRequest, _resp: falcon.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Find the caller before any responder runs; OPTIONS tells no more than the documentation."""
        key = presented_key(req.get_header("X-API-Key"), req.get_header("Authorization"))
        with_ticket = req.uri_template in self._ticketed and key is None and req.get_param("ticket")
        if req.uri_template in self._public or req.method == "OPTIONS" or with_ticket:
            req.context.caller = self._keys.find(key)
        else:
            req.context.caller = self._keys.caller_of(key)


class RateLimit:
    """Count each owner's requests; what is public stays free, health checks above all.

    Args:
        rates: the owners' token buckets.
        public: URI templates of routes that are answered without a key.
    """

    def __init__(self, rates: Rates, public: frozenset[str]) -> None:
        self._rates = rates
        self._public = public

    def process_resource(
        self, req: ApiRequest, _resp: falcon.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Take a token, or refuse."""
        if req.context.authenticated and req.uri_template not in self._public:
            self._rates.take(req.context.caller.owner)


def middleware(
    settings: Settings,
    metrics: Metrics,
    keys: KeyRing,
    public: frozenset[str],
    *,
    rates: Rates | None = None,
    sources: SourceCheck | None = None,
    ticketed: frozenset[str] = frozenset(),
) -> list[Any]:
    """The app's middleware; with ``log_level`` above info there is no access log, and no cost of one."""
    found: list[Any] = [RequestId(settings), SafeHeaders(), Authentication(keys, public, ticketed), Unread()]
    if sources is not None:
        found.insert(1, sources)
    if rates is not None and rates.any:
        found.append(RateLimit(rates, public))
    if settings.log_level in {"debug", "info"}:
        found.insert(0, AccessLog())
    return [Observed(metrics), *found]
