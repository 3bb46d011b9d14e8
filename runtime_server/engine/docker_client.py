"""docker-py's low-level client: made lazily in each process, and kept lean."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import docker.errors
import requests
import requests.adapters
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import compare_version

from runtime_server.engine import answers
from runtime_server.engine.answers import mapped
from runtime_server.engine.discovery import discover
from runtime_server.errors import EngineUnreachable
from runtime_server.exchange import Answer, Idle, exchange

PING_TIMEOUT = 5.0
"""Seconds: an engine that takes longer to say who it is isn't ready."""
_WHOLE = frozenset({"params", "data", "json", "headers", "timeout", "stream", "allow_redirects"})
"""Options of requests that say no more than what to send. Engines redirect nobody who asks for a clean path."""


class LazyClient:
    """The client of whichever process asks, made at its first call once an engine answers. Thread-safe.

    Args:
        address: of the engine, as in ``DOCKER_HOST``; empty: discovered.
        timeout: seconds that one call may take.
        pool_size: connections kept.
    """

    def __init__(self, address: str, timeout: float, pool_size: int) -> None:
        self._address = address
        self._timeout = timeout
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._connected: tuple[int, APIClient] | None = None

    def get(self) -> APIClient:
        """This process's client, which speaks a version that both sides know."""
        connected = self._connected
        if connected is not None and connected[0] == os.getpid():
            return connected[1]
        # Not under the lock: with an engine that hangs, callers would wait for one another in turn.
        made = self._connect()
        with self._lock:
            if self._connected is None or self._connected[0] != os.getpid():
                self._connected = (os.getpid(), made)
            else:
                made.close()
            return self._connected[1]

    def _connect(self) -> APIClient:
        probe = self._make_client(MINIMUM_DOCKER_API_VERSION, min(self._timeout, PING_TIMEOUT))
        with contextlib.closing(probe), mapped("version"):
            version = str(probe.version(api_version=False)["ApiVersion"])
        # compare_version(a, b) is 1 where b is the newer.
        if compare_version(DEFAULT_DOCKER_API_VERSION, version) > 0:
            version = DEFAULT_DOCKER_API_VERSION
        return self._make_client(version, self._timeout)

    def _make_client(self, version: str, timeout: float) -> APIClient:
        endpoint = discover(self._address)
        try:
            if endpoint.socket is not None:
                return _SocketClient(endpoint.socket, version, timeout, self._pool_size)
            client = APIClient(
                base_url=endpoint.address,
                version=version,
                timeout=timeout,  # type: ignore[arg-type]  # requests takes fractions
                tls=endpoint.tls or False,
                max_pool_size=self._pool_size,
            )
        except docker.errors.DockerException as error:
            raise EngineUnreachable("The engine's address can't be used.", retry_after=answers.RETRY_AFTER) from error
        if not endpoint.address.startswith("ssh://"):
            for scheme in ("http://", "https://"):
                client.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=self._pool_size))
        return client

    def forget(self) -> None:
        """Agree on a version again at the next call."""
        self._connected = None

    def close(self) -> None:
        """Give back connections; the next call makes a new client."""
        with self._lock:
            connected, self._connected = self._connected, None
        # A forked process's copies of the connections belong to its parent.
        if connected is not None and connected[0] == os.getpid():
            connected[1].close()


def url(client: APIClient, path: str) -> str:
    """The versioned URL of a path."""
    return f"{client.base_url}/v{client.api_version}{path}"


def post_empty(client: APIClient, path: str, meanwhile: Callable[[], object] | None = None) -> None:
    """POST without a body to an answer without one.

    Args:
        client: the process's.
        path: without the version.
        meanwhile: called while the engine works, or before it is asked where only whole requests can be sent.

    Raises:
        docker.errors.APIError: it is an error.
        OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: there is no answer.
    """
    address = url(client, path)
    if isinstance(client, _SocketClient):
        answer = client.exchange("POST", address, timeout=client.timeout, meanwhile=meanwhile)
        if answer.status >= 400:
            check(_response(address, answer))
        return
    if meanwhile is not None:
        meanwhile()
    check(client.post(address, timeout=client.timeout))


def check(response: requests.Response) -> requests.Response:
    """The response.

    Raises:
        docker.errors.APIError: it is an error.
    """
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        with contextlib.closing(response):
            docker.errors.create_api_error_from_http_exception(error)
    return response


def _response(address: str, answer: Answer) -> requests.Response:
    """The answer as docker-py knows it."""
    made = requests.Response()
    made.status_code, made.reason, made.url = answer.status, answer.reason, address
    made.headers.update(answer.headers)
    made._content = answer.body
    return made


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
    """Keeps one pool of connections for the socket.

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


class _SocketClient(APIClient):
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
        self._usual = {"Host": "localhost", **{name: str(value) for name, value in self.headers.items()}}

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        """As ``Session.request``; streams, and bodies that are read while they are sent, are left to it.

        Raises:
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: there is no answer. (Those of requests
                are ``OSError`` themselves.)
        """
        body, params = options.get("data"), options.get("params") or {}
        plain = isinstance(body, str | bytes | None) and isinstance(params, Mapping)
        if options.get("stream") or not plain or not options.keys() <= _WHOLE:
            return super().request(method, url, **options)
        headers = dict(options.get("headers") or {})
        if options.get("json") is not None:
            body = json.dumps(options["json"])
            headers.setdefault("Content-Type", "application/json")
        query = urlencode({name: value for name, value in params.items() if value is not None}, doseq=True)
        address = f"{url}?{query}" if query else url
        answer = self.exchange(method, address, headers=headers, body=body, timeout=options.get("timeout"))
        return _response(address, answer)

    def exchange(
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
        length = {} if sent is None and method in ("GET", "HEAD") else {"Content-Length": str(len(sent or b""))}
        return exchange(
            self._idle,
            method,
            url.removeprefix(self.base_url),
            {**self._usual, **length, **(headers or {})},
            body=sent,
            timeouts=timeout if isinstance(timeout, tuple) else (timeout, timeout),
            meanwhile=meanwhile,
        )

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._idle.close()
