"""The service in a container, between a socket proxy and nginx in two others, as deploy/container has them."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.gateway.conftest import DEADLINE, ROOT, Gateway, eventually
from tests.gateway.image import PYTHON, make_server

COMPOSE = ROOT / "deploy/container/compose.yaml"
ASK = """
import http.client, socket, sys
for line in sys.argv[1:]:
    method, _, target = line.partition(" ")
    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/engine/docker.sock")
    connection.request(method, target)
    print(connection.getresponse().status)
"""


class Composed(Gateway):
    """All three in containers."""

    def __init__(self, nginx: str, folder: Path, docker: APIClient) -> None:
        super().__init__(nginx, folder, docker, "subdomain")
        image = make_server(docker, nginx)
        volumes = folder / "volumes"
        volumes.mkdir()
        self.project = f"runtime-server-test-{secrets.token_hex(4)}"
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        words = ["docker", "compose"] if plugin else ["docker-compose"]
        self.command = [*words, "--project-name", self.project, "--file", str(COMPOSE)]
        self.variables = {
            "RUNTIME_SERVER_API_KEYS": f"tester:{self.key}",
            "RUNTIME_SERVER_DOMAIN": self.environment["RUNTIME_SERVER_DOMAIN"],
            "RUNTIME_SERVER_GATEWAY_PORT": str(self.port),
            "RUNTIME_SERVER_IMAGE": image,
            "RUNTIME_SERVER_VOLUME_ROOTS": str(volumes),
            "NGINX_IMAGE": image,
            "LISTEN": f"127.0.0.1:{self.port}",
            "DOCKER_GROUP": str(os.stat("/var/run/docker.sock").st_gid),
        }

    def compose(self, *words: str) -> str:
        done = subprocess.run(
            [*self.command, *words],
            env={**os.environ, **self.variables},
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self) -> None:
        try:
            self.compose("up", "--detach", "--no-build")
            eventually(self.ready, "the gateway is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--no-color', '--tail=15')}") from None

    def inside(self, *command: str) -> list[str]:
        """Lines that a command in the service's container prints."""
        return self.compose("exec", "-T", "service", *command).split()

    def close(self) -> None:
        self.client.close()
        self.compose("down", "--volumes", "--timeout", "20")


@pytest.fixture(scope="module")
def composed(
    nginx: str, python_image: str, docker_client: APIClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    installed = subprocess.run([ROOT / "scripts/compose"], check=False, capture_output=True, text=True, timeout=600)
    assert installed.returncode == 0, installed.stderr
    made = Composed(nginx, tmp_path_factory.mktemp("composed"), docker_client)
    try:
        made.start()
        yield made
        made.inside("/opt/runtime-server/bin/runtime-server", "purge", "--yes")
    finally:
        made.close()


def test_the_service_in_a_container(composed: Composed) -> None:
    runtime = composed.runtime()
    assert composed.call(runtime).status == 200
    websocket = composed.websocket(runtime)
    composed.client.pause_runtime(runtime.runtime_id)
    # Seen through the host's /proc.
    assert websocket.echo("awake") == "awake"
    websocket.close()
    eventually(lambda: composed.status(runtime) == "running", "it is known to run")
    command = [PYTHON, "-c", "import time; print('begun', flush=True); time.sleep(1000)"]
    ended = composed.client.exec_in_runtime(runtime.runtime_id, command, timeout=2)
    assert (ended.timed_out, ended.stdout) == (True, "begun\n")
    log = composed.compose("logs", "--no-color", "service")
    assert "firewall rules set" in log, log
    assert "warning" not in log, log


def test_the_proxy_lets_nothing_else_through(composed: Composed) -> None:
    container = "/v1.41/containers/some"
    asked = {
        "GET /_ping": "200",
        "GET /v1.41/containers/json?all=1": "200",
        f"GET {container}/json": "404",
        "GET /v1.41/images/some/where:1/json": "404",
        "GET /v1.41/info": "403",
        "GET /v1.41/plugins": "403",
        "POST /v1.41/build": "403",
        "POST /session": "403",
        f"POST {container}/attach": "403",
        f"POST {container}/json": "403",
        f"PUT {container}/json": "403",
        f"GET {container}/json/../export": "403",
        f"GET {container}%2Fexport?/json": "403",
        "GET /v1.41/images/..%2Fplugins/json": "403",
        "GET /v1.41/images/../plugins?/json": "403",
        "GET /v1.41//info": "403",
        "GET /v1.41/info?/_ping": "403",
    }
    assert composed.inside(PYTHON, "-c", ASK, *asked) == list(asked.values())
