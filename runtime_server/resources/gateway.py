"""What nginx asks before it sends a request to a runtime (its ``auth_request``), on a socket of its own.

``auth_request`` passes on no status but 401 and 403: any other of 400 and above becomes a 500. So every refusal is
a 403 whose ``X-Gateway-Status`` says what the caller gets.
"""

from __future__ import annotations

import math
from typing import Literal

import falcon

from runtime_server.runtimes.access import Presented
from runtime_server.runtimes.gateway import Asked, Asleep, Gateway, Refused, Routed
from runtime_server.runtimes.nginx_cache import VALID

_ORIGINS: dict[str | None, Literal["same", "other"]] = {"same": "same", "other": "other"}


class LookUp:
    """``GET /look-up``: where a request goes. A runtime that has to be woken first is ``wake``."""

    def __init__(self, gateway: Gateway, *, cookie: str | None, secure: bool) -> None:
        self._gateway = gateway
        self._cookie = cookie
        self._secure = secure

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Say where the request goes."""
        try:
            self._set_route(resp, self._answer(_asked(req)))
        except Asleep:
            _set_refusal(resp, "wake")
        except Refused as refused:
            _set_refusal(resp, str(refused.status), refused.retry_after)

    def _answer(self, asked: Asked) -> Routed:
        return self._gateway.look_up(asked)

    def _set_route(self, resp: falcon.Response, routed: Routed) -> None:
        resp.set_header("X-Gateway-Upstream", routed.upstream)
        resp.set_header("X-Accel-Expires", str(VALID if routed.keep else 0))
        if routed.cookie is not None and self._cookie is not None:
            # Without a Domain it is this host's alone (RFC 6265, section 5.3).
            secure = "; Secure" if self._secure else ""
            value = f"{self._cookie}={routed.cookie}; Path=/; HttpOnly; SameSite=Lax{secure}"
            resp.set_header("X-Gateway-Cookie", value)


class Wake(LookUp):
    """``GET /wake``: as ``LookUp``, held until the runtime is awake."""

    def _answer(self, asked: Asked) -> Routed:
        return self._gateway.wake(asked)


def _asked(req: falcon.Request) -> Asked:
    def header(name: str) -> str:
        return req.get_header(name) or ""

    presented = Presented(
        header=header("X-Gateway-Header-Key"),
        cookie=header("X-Gateway-Cookie-Key"),
        query=header("X-Gateway-Query-Key"),
        origin=_ORIGINS.get(req.get_header("X-Gateway-Origin"), "none"),
        preflight=header("X-Gateway-Preflight") == "1",
    )
    return Asked(header("X-Gateway-Runtime"), header("X-Gateway-Service"), header("X-Gateway-Key"), presented)


def _set_refusal(resp: falcon.Response, status: str, retry_after: float | None = None) -> None:
    resp.status = 403
    resp.set_header("X-Gateway-Status", status)
    resp.set_header("X-Accel-Expires", "0")
    if retry_after is not None:
        resp.set_header("Retry-After", str(max(1, math.ceil(retry_after))))
