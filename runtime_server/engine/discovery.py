"""Where the engine is: found as Docker's own tools find it, then where Podman listens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker.errors
from docker.context import ContextAPI
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from runtime_server.errors import EngineUnreachable

DEFAULT_SOCKET = "/var/run/docker.sock"
_BUILT_IN_CONTEXT = f"unix://{DEFAULT_SOCKET}"
ROOT_PODMAN_SOCKET = "/run/podman/podman.sock"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An engine's address, in the Docker CLI's notation (``unix://``, ``tcp://``), and its TLS material."""

    address: str
    tls: TLSConfig | None = None

    @property
    def socket(self) -> str | None:
        """The path of a Unix socket; None for an engine over TCP."""
        return _socket_of(self.address)


def _socket_of(address: str) -> str | None:
    scheme, _, rest = address.partition("://")
    if scheme.removeprefix("http+") == "unix":
        return rest or DEFAULT_SOCKET
    return address if address.startswith("/") else None


def _sockets(environment: Mapping[str, str]) -> list[str]:
    """The usual sockets, the likeliest first: Docker's, rootless Docker's, Podman's for the user and for root."""
    runtime_dir = environment.get("XDG_RUNTIME_DIR", "")
    candidates = [DEFAULT_SOCKET]
    if runtime_dir:
        candidates += [f"{runtime_dir}/docker.sock", f"{runtime_dir}/podman/podman.sock"]
    return [*candidates, ROOT_PODMAN_SOCKET]


def _usual_socket(environment: Mapping[str, str]) -> str:
    """The first socket that exists and may be used, else the first that exists, else Docker's."""
    there = [path for path in _sockets(environment) if Path(path).is_socket()]
    usable = [path for path in there if os.access(path, os.R_OK | os.W_OK)]
    return next(iter(usable + there), DEFAULT_SOCKET)


def discover(address: str = "", environment: Mapping[str, str] | None = None) -> Endpoint:
    """The engine to use.

    In this order: ``address`` (setting ``RUNTIME_SERVER_ENGINE``), ``DOCKER_HOST``, the Docker CLI's current context
    (``DOCKER_CONTEXT`` or its configuration), the usual sockets. ``DOCKER_TLS_VERIFY`` and ``DOCKER_CERT_PATH`` go
    with the first two, where these are TCP addresses. Nothing is connected to.

    Raises:
        EngineUnreachable: the context or the TLS files can't be used.
    """
    environment = os.environ if environment is None else environment
    try:
        given = address or environment.get("DOCKER_HOST", "")
        if given:
            found = given if "://" in given or not given.startswith("/") else f"unix://{given}"
            local = _socket_of(found) is not None
            # An empty mapping would make docker-py read this process's environment instead.
            tls = None if local else kwargs_from_env({"DOCKER_HOST": found, **environment}).get("tls")
            return Endpoint(found, tls if isinstance(tls, TLSConfig) else None)
        context = ContextAPI.kwargs_from_context(environment=environment)
    except (docker.errors.DockerException, OSError, ValueError, KeyError) as error:
        raise EngineUnreachable("Docker's context or TLS configuration can't be used", retry_after=5.0) from error
    host = context.get("base_url", "")
    # The built-in context names Docker's own socket, also where there is only a rootless one or Podman's.
    if host and host != _BUILT_IN_CONTEXT:
        return Endpoint(host, context.get("tls"))
    return Endpoint(f"unix://{_usual_socket(environment)}")


def socket_path(address: str = "", environment: Mapping[str, str] | None = None) -> str | None:
    """The Unix socket of the engine that ``discover`` finds: never to be mounted. None for one over TCP."""
    try:
        return discover(address, environment).socket
    except EngineUnreachable:
        return None
