"""The Engine's archive routes: what is at a path of a container, out of it and into it as a tar. Engine API 1.41."""

from __future__ import annotations

from collections.abc import Iterable

import requests
from docker import APIClient

from runtime_server.engine.docker_client import check, url


def head(client: APIClient, container: str, path: str) -> requests.Response:
    """The answer to what is at the path, unchecked: ``archives.STAT`` in its headers says it."""
    response: requests.Response = client.head(_url(client, container), params={"path": path}, timeout=client.timeout)
    return response


def get(client: APIClient, container: str, path: str) -> requests.Response:
    """The answer with what is at the path as a tar, unchecked and unread; to be closed."""
    response: requests.Response = client.get(
        _url(client, container),
        params={"path": path},
        headers={"Accept-Encoding": "identity"},
        stream=True,
        timeout=client.timeout,
    )
    return response


def put(client: APIClient, container: str, path: str, tar: bytes | Iterable[bytes]) -> None:
    """Have the engine unpack a tar in the folder at the path; nothing replaces a folder by something else.

    Raises:
        docker.errors.APIError: it doesn't.
    """
    params = {"path": path, "noOverwriteDirNonDir": "1"}
    check(client.put(_url(client, container), params=params, data=tar, timeout=client.timeout))


def _url(client: APIClient, container: str) -> str:
    return url(client, f"/containers/{container}/archive")
