"""requests' adapter for a client's own session, all of whose requests go to one server by the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

POOL_SIZE = 64
"""Connections kept open per host."""


class OneServerAdapter(HTTPAdapter):
    """Finds the pool of connections once.

    PERF: for each request requests looks for the proxy and the pool, parses the URL four times, sees whether the
    certificates' file is there, and gathers cookies. With caches as cold as they are after a pause of a few
    hundredths of a second that takes longer than the server needs for its answer.
    """

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=POOL_SIZE, max_retries=0)
        self._pool: Any = None

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Any,
        proxies: Mapping[str, str] | None = None,
        cert: Any = None,
    ) -> Any:
        """The pool; threads that come first at once find the same one, since requests keeps it too."""
        pool = self._pool
        if pool is None:
            pool = super().get_connection_with_tls_context(request, verify, dict(proxies or {}), cert)
            super().cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
            self._pool = pool
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Done where the pool was found."""

    def request_url(self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """The request's target: path and query, or for a proxy that speaks HTTP all of it."""
        if proxies:
            return super().request_url(request, dict(proxies))
        url = str(request.url)
        return url[url.index("/", url.index("//") + 2) :]

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """The response as requests makes it, but for its own jar of cookies."""
        response = requests.Response()
        response.status_code = resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw = resp
        response.reason = resp.reason
        response.url = str(req.url)
        response.request = req
        return response

    def fetch(
        self, session: requests.Session, request: requests.PreparedRequest, **settings: Any
    ) -> requests.Response:
        """Send a request of ``session`` and read the answer to its end, unless it is to be a ``stream``.

        It is what ``session.send(request, allow_redirects=False)`` does where there are neither hooks nor redirects;
        cookies, by which a balancer before the server finds the same one again, are kept.
        """
        response = self.send(request, **settings)
        if "Set-Cookie" in response.headers:
            extract_cookies_to_jar(session.cookies, request, response.raw)  # type: ignore[no-untyped-call]
        if not settings.get("stream"):
            _ = response.content
        return response

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._pool = None
        super().close()
