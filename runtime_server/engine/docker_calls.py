"""What all calls of the Docker adapter share: the client, and the meaning of its errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from docker import APIClient

from runtime_server.engine import answers
from runtime_server.engine.answers import mapped
from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.docker_client import LazyClient
from runtime_server.engine.measured import Observe, measured
from runtime_server.errors import EngineUnreachable

_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)


class DockerCalls:
    """Calls on an engine that speaks Docker's HTTP API.

    The engine is looked for at the first call, and again as long as none answers; every process makes its own
    connections, so that an instance may be made before a fork. Thread-safe.

    Args:
        instance: value of the instance's label; containers without it are neither seen nor touched.
        address: of the engine, as in ``DOCKER_HOST``; empty: discovered.
        timeout: seconds that one call may take, besides a stop's grace.
        pool_size: connections kept; the number of threads that call.

    Attributes:
        observe: is told of each call.
    """

    observe: Observe | None = None

    def __init__(self, instance: str, *, address: str = "", timeout: float = 60.0, pool_size: int = 16) -> None:
        self.instance = instance
        self._timeout = timeout
        self._lazy = LazyClient(address, timeout, pool_size)

    @contextlib.contextmanager
    def _call(self, operation: str, container: str | None = None, **carried: Any) -> Iterator[APIClient]:
        """The client, for one call; what it raises is mapped."""
        # A name that isn't one would change the request's path.
        if container is not None and not _CONTAINER.fullmatch(container):
            raise ContainerMissing(container)
        with measured(operation, self.observe):
            client = self._lazy.get()
            try:
                with mapped(operation, **carried):
                    yield client
            except answers.VersionMismatch as error:
                self._lazy.forget()
                raise EngineUnreachable("The engine has been replaced.", retry_after=answers.RETRY_AFTER) from error
