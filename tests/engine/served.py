"""The whole service on the real engine, in this process, with clients of two owners."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import requests
from docker import APIClient

from runtime_server import RuntimeServerClient
from runtime_server.engine import labels
from runtime_server.models import StartResponse
from runtime_server.service import Service, build
from runtime_server.settings import Settings
from runtime_server.state import prepare
from runtime_server.testing import WsgiAdapter
from tests.engine.images import BUSYBOX

T = TypeVar("T")
DEADLINE = 60.0


@dataclass
class Served:
    """A running service."""

    service: Service
    docker: APIClient
    volumes: Path
    client: RuntimeServerClient
    stranger: RuntimeServerClient
    session: requests.Session

    def start(self, script: str = "sleep 1000", **fields: Any) -> StartResponse:
        """A runtime that runs a shell script."""
        return self.client.start_runtime(
            {"image": BUSYBOX, "command": ["/bin/sh", "-c", script], "network": "none", **fields}
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a call of whatever client, which must go well."""
        answer = self.session.request(
            method, f"http://testserver{path}", json=body, headers={"X-API-Key": "key-of-me"}
        )
        assert answer.ok, answer.text
        return answer.json()

    def execute(self, runtime_id: str, command: list[str]) -> None:
        """Run a command in a runtime, past the service."""
        made = self.docker.exec_create(runtime_id, command)
        self.docker.exec_start(made["Id"])
        assert self.docker.exec_inspect(made["Id"])["ExitCode"] == 0

    def containers(self) -> list[dict[str, Any]]:
        """This instance's containers, as the engine lists them."""
        wanted = {"label": f"{labels.INSTANCE}={self.service.state.instance}"}
        found: list[dict[str, Any]] = self.docker.containers(all=True, filters=wanted)
        return found

    def inspect(self, runtime_id: str) -> dict[str, Any]:
        """What the engine says of a runtime's container, past the service."""
        found: dict[str, Any] = self.docker.inspect_container(runtime_id)
        return found

    def output(self, runtime_id: str) -> str:
        """All that a runtime has written."""
        return bytes(self.docker.logs(runtime_id)).decode()

    def lines(self, runtime_id: str, count: int) -> list[str]:
        """The first lines of a runtime, once there are that many."""
        return eventually(
            lambda: found if len(found := self.output(runtime_id).splitlines()) >= count else None, "its output"
        )


def eventually(look: Callable[[], T | None], what: str) -> T:
    """What ``look`` finds as soon as that is something."""
    end = monotonic() + DEADLINE
    while monotonic() < end:
        found = look()
        if found:
            return found
        sleep(0.05)
    raise AssertionError(f"not within {DEADLINE} s: {what}")


@contextlib.contextmanager
def serve(folder: Path, docker: APIClient, **settings: Any) -> Iterator[Served]:
    """The service with a state directory and a volume root of its own; its containers are removed at the end."""
    volumes = folder / "volumes"
    volumes.mkdir()
    values: dict[str, Any] = {
        "state_dir": folder / "state",
        "volume_roots": (str(volumes),),
        "api_keys": "me:key-of-me,stranger:key-of-stranger",
        "allowed_networks": ("bridge", "none"),
        "log_level": "error",
        **settings,
    }
    chosen = Settings(**values)
    prepare(chosen)
    service = build(chosen)
    service.start_background()
    with contextlib.ExitStack() as stack:
        clients = []
        for key in ("key-of-me", "key-of-stranger"):
            session = stack.enter_context(requests.Session())
            session.mount("http://", WsgiAdapter(service.app))
            clients.append(RuntimeServerClient("http://testserver", api_key=key, session=session))
        served = Served(service, docker, volumes, clients[0], clients[1], session)
        try:
            yield served
        finally:
            for each in served.containers():
                with contextlib.suppress(Exception):
                    docker.remove_container(each["Id"], force=True, v=True)
            service.close()
