"""A server with the images of ``agents``, in memory or on Docker."""

from __future__ import annotations

import time
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from runtime_server.engine.base import ContainerState
from runtime_server.engine.memory_images import NOT_FOUND, Program
from runtime_server.testing import TEST_URL, InMemoryServer, WsgiAdapter
from tests.engine.served import Served
from tests.golden import agents
from tests.golden.sdk import ApiRemoteWorkspace, ApiRemoteWorkspace16
from tests.golden.v0 import RemoteRuntime, RemoteRuntime009, RemoteRuntime012, RemoteRuntime014, RemoteRuntime020
from tests.golden.v1 import (
    RemoteSandboxService,
    RemoteSandboxService10,
    RemoteSandboxService13,
    RemoteSandboxService16,
)
from tests.golden.wire import LIMIT, Wire


class Client(Protocol):
    """What every client of sessions does."""

    wire: Wire
    session_id: str
    runtime_id: str | None
    url: str | None
    key: str | None

    def connect(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Kind(Protocol):
    """A client's class."""

    version: str

    def __call__(self, wire: Wire, session_id: str, image: str, resource_factor: int = 1) -> Client: ...


SDK: tuple[Kind, ...] = (ApiRemoteWorkspace, ApiRemoteWorkspace16)
V0: tuple[Kind, ...] = (RemoteRuntime, RemoteRuntime020, RemoteRuntime014, RemoteRuntime012)
V1: tuple[type[RemoteSandboxService], ...] = (
    RemoteSandboxService,
    RemoteSandboxService16,
    RemoteSandboxService13,
    RemoteSandboxService10,
)
SESSIONS: tuple[Kind, ...] = (*SDK, *V0, *V1)
ALL: tuple[Kind, ...] = (*SESSIONS, RemoteRuntime009)


class World(Protocol):
    """A server, on which an owner ``me`` and another, ``stranger``, have a key."""

    def wire(self, owner: str = "me") -> Wire:
        """An owner's way to it."""

    def wake(self, runtime_id: str) -> None:
        """Let a ``SLEEPER`` answer."""


class InMemory:
    """See ``World``."""

    def __init__(self, server: InMemoryServer) -> None:
        self._engine = server.engine
        self._session = session_of(server.app)
        self._engine.add_image(agents.AGENT, exposed=("8000/tcp",))
        self._engine.add_image(agents.SLEEPER, exposed=("8000/tcp",), http=None)
        ends = Program(exit_code=3, output=f"{agents.LAST_WORDS}\n")
        self._engine.add_image(agents.BROKEN, exposed=("8000/tcp",), other=ends)
        self._engine.add_image(agents.BARE, other=NOT_FOUND)

    def wire(self, owner: str = "me") -> Wire:
        return Wire(self._session, TEST_URL, f"key-of-{owner}", self._reach, lambda: time.sleep(0.01))

    def _reach(self, url: str) -> int:
        where = urlsplit(url)
        for each in self._engine.list():
            found = self._engine.inspect(each.container_id)
            bound = found.ports.get("60000/tcp", [])
            if not any(int(binding.HostPort) == where.port for binding in bound):
                continue
            if found.state is ContainerState.PAUSED:
                raise requests.ReadTimeout("it is frozen")
            status = self._engine.http_status(found, 60000, where.path, 1.0)
            if status is not None:
                return status
        raise requests.ConnectionError("nothing listens")

    def wake(self, runtime_id: str) -> None:
        self._engine.serve(runtime_id, 200)


class OnDocker:
    """See ``World``."""

    def __init__(self, served: Served) -> None:
        self.docker = served.docker
        self._session = session_of(served.service.app)

    def wire(self, owner: str = "me") -> Wire:
        return Wire(self._session, TEST_URL, f"key-of-{owner}", self._reach, lambda: time.sleep(0.1))

    def _reach(self, url: str) -> int:
        return requests.get(url, timeout=5).status_code

    def wake(self, runtime_id: str) -> None:
        made = self.docker.exec_create(runtime_id, ["/bin/sh", "-c", ": >/tmp/awake"])
        self.docker.exec_start(made["Id"])

    def page(self, url: str | None, name: str) -> str:
        """What an agent tells of its start: ``environment``, ``id``, ``folder`` or ``command``."""
        answer = requests.get(f"{url}/{name}", timeout=LIMIT)
        answer.raise_for_status()
        return answer.text.strip()


def session_of(app: Any) -> requests.Session:
    """A session whose requests to ``TEST_URL`` come to an app in this process."""
    session = requests.Session()
    session.trust_env = False
    session.mount(TEST_URL, WsgiAdapter(app))
    return session
