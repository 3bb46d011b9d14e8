"""docker-py's low-level client: made lazily in each process, and kept lean."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

import docker.errors
import requests
import requests.adapters
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION
from docker.utils import compare_version

from runtime_server.engine import answers
from runtime_server.engine.answers import mapped
from runtime_server.engine.discovery import discover
from runtime_server.engine.socket_client import SocketClient, response
from runtime_server.errors import EngineUnreachable

PING_TIMEOUT = 5.0
"""Seconds: an engine that takes longer to say who it is isn't ready."""


class LazyClient:
    """The client of whichever process asks, made at its first call once an engine answers. Thread-safe.

    Args:
        address: of the engine, as in ``DOCKER_HOST``; empty: discovered.
        timeout: seconds that one call may take.
        pool_size: connections kept, and on a socket as many again for streams.
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
                return SocketClient(endpoint.socket, version, timeout, self._pool_size)
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
        meanwhile: called while the engine works; before it is asked where it is behind TCP, TLS or ssh.

    Raises:
        docker.errors.APIError: it is an error.
        OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: there is no answer.
    """
    address = url(client, path)
    if isinstance(client, SocketClient):
        answer = client.ask("POST", address, timeout=client.timeout, meanwhile=meanwhile)
        if answer.status >= 400:  # PERF: else nobody needs a response
            check(response(address, answer))
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
