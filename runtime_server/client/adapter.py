"""requests' adapter for a client's own session, all of whose requests go to one server by the same settings."""

from __future__ import annotations

import http.client
import io
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from functools import partial
from types import SimpleNamespace
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, select_proxy
from urllib3.connection import HTTPConnection
from urllib3.util import parse_url

from runtime_server.exchange import Answer, Idle, exchange

POOL_SIZE = 64
"""Connections kept open per host."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer. PERF: by the names of ``requests.Response``, to make one of which takes 0.1 ms."""

    status_code: int
    headers: CaseInsensitiveDict[str]
    content: bytes


Received = requests.Response | Fetched
"""An answer as it comes from the one or the other way."""


class OneServerAdapter(HTTPAdapter):
    """Finds the pool of connections once.

    PERF: for each request requests looks for the proxy and the pool, parses the URL four times, sees whether the
    certificates' file is there, and gathers cookies. With caches as cold as they are after a pause of a few
    hundredths of a second that takes longer than the server needs for its answer.
    """

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=POOL_SIZE, max_retries=0)
        self._pool: Any = None
        self._idle: Idle | None = None

    def open_directly(self, url: str, proxies: Mapping[str, str]) -> None:
        """Send short calls over connections of this adapter's own, where nothing is between here and the server.

        Args:
            url: the server's; others than plain HTTP are left to urllib3, which knows certificates.
            proxies: by scheme; with one for this server, too.
        """
        server = parse_url(url)
        if server.scheme == "http" and server.host and not select_proxy(url, dict(proxies)):
            host = server.host.strip("[]")
            # An address's zone is this machine's own business (RFC 6874, section 1).
            name = host.partition("%")[0]
            self._host = (f"[{name}]" if ":" in name else name) + (f":{server.port}" if server.port else "")
            self._idle = Idle(partial(HTTPConnection, host, server.port or 80), POOL_SIZE)

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

    def fetch(self, session: requests.Session, request: requests.PreparedRequest, **settings: Any) -> Received:
        """Send a request of ``session`` and read the answer to its end, unless it is to be a ``stream``.

        As ``session.send(request, allow_redirects=False)`` does where there are neither hooks nor redirects; cookies,
        by which a balancer before the server finds the same one again, are kept. A whole answer over plain HTTP comes
        as ``Fetched``.
        """
        stream = settings.get("stream")
        if self._idle is not None and not stream and isinstance(request.body, bytes | None):
            return self._exchange(self._idle, session, request, settings["timeout"])
        response = self.send(request, **settings)
        if "Set-Cookie" in response.headers:
            extract_cookies_to_jar(session.cookies, request, response.raw)  # type: ignore[no-untyped-call]
        if not stream:
            _ = response.content
        return response

    def _exchange(
        self,
        idle: Idle,
        session: requests.Session,
        request: requests.PreparedRequest,
        timeouts: tuple[float | None, float | None],
    ) -> Fetched:
        headers = {"Host": self._host, **request.headers}
        target, body = self.request_url(request, None), request.body
        assert body is None or isinstance(body, bytes)
        try:
            answer = exchange(idle, str(request.method), target, headers, body=body, timeouts=timeouts)
            content = _decoded(answer.body, answer.header("content-encoding"))
        except requests.RequestException:
            raise
        except TimeoutError as error:
            raise requests.ReadTimeout(error, request=request) from error
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
            raise requests.ConnectionError(error, request=request) from error
        if answer.header("set-cookie") is not None:
            extract_cookies_to_jar(session.cookies, request, _for_cookies(answer))  # type: ignore[no-untyped-call]
        return Fetched(answer.status, CaseInsensitiveDict(answer.headers), content)

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._pool = None
        if self._idle is not None:
            self._idle.close()
        super().close()


def _decoded(content: bytes, coding: str | None) -> bytes:
    """The body as it was before a proxy has compressed it."""
    if not coding or not content:
        return content
    return urllib3.HTTPResponse(io.BytesIO(content), {"Content-Encoding": coding}).data


def _for_cookies(answer: Answer) -> SimpleNamespace:
    """The answer's headers, where requests looks for cookies."""
    message = Message()
    for name, value in answer.headers:
        message[name] = value
    return SimpleNamespace(_original_response=SimpleNamespace(msg=message))
