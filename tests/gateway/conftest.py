"""A gateway for each way of routing: nginx and gunicorn, and a client that speaks to runtimes through them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from docker import APIClient

from runtime_server import RuntimeServerClient
from runtime_server.models import StartResponse
from tests.engine.conftest import docker_client
from tests.gateway import frames, image
from tests.nginx.conftest import MAIN, free_port, nginx

__all__ = ["docker_client", "nginx"]

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
DEADLINE = 90.0
"""Seconds that anything may take before a test gives up: generous, for a machine under load."""
DOMAIN = "box.example"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engine)


def eventually(look: Callable[[], T | None], what: str) -> T:
    """The first true value of ``look``."""
    ends = time.monotonic() + DEADLINE
    while not (found := look()):
        assert time.monotonic() < ends, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """nginx and gunicorn of one routing, in a folder of their own."""

    prefix: Sequence[str] = ()
    """What the service's own commands are begun with."""

    def __init__(self, nginx: str, folder: Path, docker: APIClient, routing: str, **settings: str) -> None:
        self.nginx = nginx
        self.folder = folder
        self.docker = docker
        self.routing = routing
        self.port = free_port()
        self.key = secrets.token_urlsafe(24)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_SERVER_")}
        own = {
            "BIND": f"unix:{folder}/run/api.sock",
            "STATE_DIR": f"{folder}/state",
            "API_KEYS": f"tester:{self.key}",
            "LOG_FORMAT": "json",
            "ROUTING": routing,
            "DOMAIN": DOMAIN,
            "GATEWAY_DIR": f"{folder}/run",
            "GATEWAY_PORT": str(self.port),
            "DEFAULT_CPUS": "0",
            **settings,
        }
        self.environment = {**inherited, **{f"RUNTIME_SERVER_{name}": value for name, value in own.items()}}
        # And no working directory before it, where there may be another copy.
        self.environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client = RuntimeServerClient(f"http://127.0.0.1:{self.port}", api_key=self.key)
        (folder / "run").mkdir()

    def run(self, name: str, command: list[str], handed: Sequence[int] = ()) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command,
                pass_fds=handed,
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> None:
        """Both, in whatever order they come up."""
        self.serve()
        self.render()
        self.run("nginx", [self.nginx, "-c", f"{self.folder}/nginx.conf"])
        eventually(self.ready, f"the gateway is ready; see {self.folder}")

    def serve(self) -> None:
        """The service, by gunicorn's own command."""
        command = ["gunicorn", "-c", "python:runtime_server.gunicorn_conf", "runtime_server.wsgi:app"]
        self.run("gunicorn", [sys.executable, "-m", *command])

    def render(self) -> None:
        """Write nginx's configuration, checked as an administrator would check it."""
        command = [
            *self.prefix,
            sys.executable,
            "-m",
            "runtime_server",
            "nginx-config",
            "--listen",
            f"127.0.0.1:{self.port}",
        ]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True, timeout=60)
        (self.folder / "site.conf").write_text(done.stdout)
        # Root's nginx would hand its work to nobody, who can't enter the tests' folders.
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(MAIN.format(folder=self.folder, user=user))
        check = [self.nginx, "-t", "-c", f"{self.folder}/nginx.conf"]
        checked = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
        assert checked.returncode == 0, checked.stderr

    def ready(self) -> bool:
        for name, process in self.processes.items():
            output = (self.folder / f"{name}.out").read_text(errors="replace")
            assert process.poll() is None, f"{name} ended:\n{output[-4000:]}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/readyz", {"Host": DOMAIN}).status == 200
        return False

    def log(self) -> str:
        """nginx's own."""
        return (self.folder / "nginx.log").read_text(errors="replace")

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = DEADLINE,
    ) -> Answer:
        """A request as it stands, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, target, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def runtime(self, **fields: Any) -> StartResponse:
        """A runtime that serves; what is asked of it goes through ``call``."""
        source = Path(frames.__file__).read_text() + Path(__file__).with_name("inside.py").read_text()
        made = self.client.start_runtime(
            {
                "image": image.IMAGE,
                "command": [image.PYTHON, "-c", source.replace("from __future__ import annotations\n", "")],
                "ports": [{"container_port": 8000}],
                "readiness": {"type": "http", "path": "/health"},
                "wait": DEADLINE,
                **fields,
            }
        )
        assert made.status == "running", made
        return made

    def address(self, runtime: StartResponse, service: str = "") -> tuple[str, str]:
        """What to send as ``Host``, and what paths begin with."""
        if self.routing == "path":
            return f"{DOMAIN}:{self.port}", f"/{runtime.runtime_id}{f'/{service}' if service else ''}"
        return f"{f'{service}-' if service else ''}{runtime.runtime_id}.{DOMAIN}:{self.port}", ""

    def call(
        self,
        runtime: StartResponse,
        target: str = "/health",
        *,
        method: str = "GET",
        service: str = "",
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = DEADLINE,
    ) -> Answer:
        """A request to a runtime."""
        host, prefix = self.address(runtime, service)
        return self.request(method, prefix + target, {"Host": host, **(headers or {})}, body, timeout)

    def websocket(self, runtime: StartResponse, target: str = "/ws", **headers: str) -> WebSocket:
        """An open WebSocket to a runtime."""
        host, prefix = self.address(runtime)
        return WebSocket(self.port, host, prefix + target, headers)

    def engine_events(self, runtime: StartResponse, since: float) -> list[str]:
        """What the engine says has happened to a runtime's container."""
        found = self.docker.events(
            since=int(since), until=int(time.time()) + 1, filters={"container": runtime.runtime_id}, decode=True
        )
        return [str(each["Action"]) for each in found if each["timeNano"] >= since * 1e9]

    def status(self, runtime: StartResponse) -> str:
        return str(self.client.get_runtime(runtime.runtime_id).status)

    def close(self) -> None:
        """End both, and remove the containers."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(DEADLINE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
        self.client.close()
        command = [*self.prefix, sys.executable, "-m", "runtime_server", "purge", "--yes"]
        subprocess.run(command, env=self.environment, check=False, stdout=subprocess.DEVNULL, timeout=DEADLINE)


class WebSocket:
    """A client's end."""

    def __init__(self, port: int, host: str, target: str, headers: Mapping[str, str]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        lines = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        lines |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
        self.stream = self.socket.makefile("rb")
        self.status = int(self.stream.readline().split()[1])
        self.headers = http.client.parse_headers(self.stream)

    def send(self, text: str) -> None:
        self.socket.sendall(frames.frame(text.encode(), mask=secrets.token_bytes(4)))

    def receive(self) -> str:
        head = self.stream.read(2)
        _, more, _ = frames.lengths(head)
        size = int.from_bytes(self.stream.read(more), "big") if more else head[1] & 0x7F
        return self.stream.read(size).decode()

    def echo(self, text: str) -> str:
        self.send(text)
        return self.receive()

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


@pytest.fixture(scope="session")
def python_image(docker_client: APIClient) -> str:
    return image.make(docker_client)


Open = Callable[..., Gateway]


@pytest.fixture(scope="session")
def open_gateway(
    nginx: str, python_image: str, docker_client: APIClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """Makes gateways with settings of their own."""
    opened: list[Gateway] = []

    def make(routing: str = "subdomain", **settings: str) -> Gateway:
        made = Gateway(nginx, tmp_path_factory.mktemp("gateway"), docker_client, routing, **settings)
        opened.append(made)
        made.start()
        return made

    yield make
    with ThreadPoolExecutor() as pool:
        list(pool.map(Gateway.close, opened))


@pytest.fixture(scope="session")
def subdomain(open_gateway: Open) -> Gateway:
    return open_gateway("subdomain")


@pytest.fixture(scope="session")
def by_path(open_gateway: Open) -> Gateway:
    return open_gateway("path")


@pytest.fixture(scope="session", params=["subdomain", "path"])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Each of the two."""
    found: Gateway = request.getfixturevalue("subdomain" if request.param == "subdomain" else "by_path")
    return found


@pytest.fixture(scope="session")
def runtimes() -> dict[int, StartResponse]:
    return {}


@pytest.fixture
def runtime(gateway: Gateway, runtimes: dict[int, StartResponse]) -> StartResponse:
    """A session's runtime that runs, the same for all tests of one gateway."""
    found = runtimes.get(id(gateway))
    if found is None:
        found = runtimes[id(gateway)] = gateway.runtime(session_id="shared", ports=[])
    return found
