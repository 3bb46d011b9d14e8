"""docker-py's client for an engine on a Unix socket: short calls are one exchange, the rest goes its usual way."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import requests
from docker import APIClient
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from requests.utils import get_encoding_from_headers

from runtime_server.exchange import Answer, Idle, exchange

_OPTIONS = frozenset({"params", "data", "json", "headers", "timeout", "stream", "allow_redirects"})
"""Options of ``Session.request`` that ``SocketClient.request`` sees to; what has others goes to requests."""


class _Connection(UnixHTTPConnection):
    """Gives the socket back where there is no engine; docker-py's leaves that to the garbage collector."""

    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self.timeout)
            connecting.connect(self.unix_socket)
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]


class _OnePoolAdapter(UnixHTTPAdapter):
    """Keeps one pool of connections for the socket: of what isn't a whole exchange, streams above all.

    docker-py's own keeps one for each URL: it connects anew for each container, and closes a pool that another thread
    may be using once there are 25.
    """

    def __init__(self, path: str, timeout: float, pool_size: int) -> None:
        super().__init__(f"http+unix://{path}", max_pool_size=pool_size)
        self._pool = _Pool("http+docker://localhost", path, timeout, maxsize=pool_size)  # type: ignore[arg-type]
        # The adapter's close() closes what is in here.
        self.pools["all"] = self._pool

    def get_connection(self, url: str | bytes, proxies: Mapping[str, str] | None = None) -> Any:  # noqa: ARG002
        return self._pool


class SocketClient(APIClient):
    """docker-py's client for a Unix socket, whose calls with a whole request and a whole answer are short.

    PERF: what ``Session.request`` does besides sending (merging settings, cookies and hooks, looking for redirects)
    costs half a millisecond, in calls that take one to ten; what its adapter, the pool and urllib3 do, as much again
    (see ``runtime_server.exchange``). A start has three of them.

    Args:
        path: of the socket.
        version: of the API.
        timeout: seconds that one call may take.
        pool_size: connections kept.
    """

    def __init__(self, path: str, version: str, timeout: float, pool_size: int) -> None:
        super().__init__(
            base_url=f"unix://{path}",
            version=version,
            timeout=timeout,  # type: ignore[arg-type]  # requests takes fractions
        )
        # Proxies and .netrc of the environment are looked up at each call, and are none of a socket's business.
        self.trust_env = False
        self.headers["Accept-Encoding"] = "identity"  # no engine compresses, and nobody here would unpack it
        self.mount("http+docker://", _OnePoolAdapter(path, timeout, pool_size))
        self._idle = Idle(lambda: _Connection("http+docker://localhost", path, timeout), pool_size)  # type: ignore[arg-type]
        self._default_headers = {"Host": "localhost", **{name: str(value) for name, value in self.headers.items()}}

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """As ``Session.request``; streams, and bodies that are read while they are sent, are left to it.

        Raises:
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: there is no answer. (Those of requests
                are ``OSError`` themselves.)
        """
        if not _is_plain(url, options):
            return super().request(method, url, **options)
        body, params, headers = options.get("data"), options.get("params") or {}, dict(options.get("headers") or {})
        if options.get("json") is not None:
            body = json.dumps(options["json"])
            headers.setdefault("Content-Type", "application/json")
        query = urlencode({name: value for name, value in params.items() if value is not None}, doseq=True)
        address = f"{url}?{query}" if query else url
        answer = self.ask(method, address, headers=headers, body=body, timeout=options.get("timeout"))
        if 300 <= answer.status < 400 and answer.status != 304:
            return super().request(method, url, **options)
        return response(address, answer)

    def ask(
        self,
        method: str,
        url: str,
        *,
        timeout: float | tuple[float | None, float | None] | None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Answer:
        """Send a request, do something else, and read the answer.

        Raises:
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: there is none.
        """
        sent = body.encode() if isinstance(body, str) else body
        given = {name.lower() for name in headers or ()}
        usual = {name: value for name, value in self._default_headers.items() if name.lower() not in given}
        length = {} if sent is None and method in ("GET", "HEAD") else {"Content-Length": str(len(sent or b""))}
        return exchange(
            self._idle,
            method,
            url.removeprefix(self.base_url),
            {**usual, **length, **(headers or {})},
            body=sent,
            timeouts=timeout if isinstance(timeout, tuple) else (timeout, timeout),
            meanwhile=meanwhile,
        )

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._idle.close()


def _is_plain(url: str, options: Mapping[str, Any]) -> bool:
    """Whether it says no more than what to send, and in no way that requests would have to translate."""
    return (
        not options.get("stream")
        and options.keys() <= _OPTIONS
        and isinstance(options.get("data"), str | bytes | None)
        and isinstance(options.get("params"), Mapping | None)
        and "?" not in url
        and all(isinstance(value, str) for value in (options.get("headers") or {}).values())
    )


def response(address: str, answer: Answer) -> requests.Response:
    """The answer as docker-py knows it."""
    made = requests.Response()
    made.status_code, made.reason, made.url = answer.status, answer.reason, address
    made.headers.update(answer.headers)
    made.encoding = get_encoding_from_headers(made.headers)
    made._content, made._content_consumed = answer.body, True  # type: ignore[attr-defined]
    return made
