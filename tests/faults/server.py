"""Real servers as processes: gunicorn with its workers, several on one state directory if need be."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests
from docker import APIClient
from docker.errors import APIError

from runtime_server.client.client import RuntimeServerClient
from runtime_server.engine import labels
from runtime_server.engine.discovery import discover
from tests.engine import images

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
DEADLINE = 90.0
"""Seconds that anything may take before a test gives up: generous, for a machine under load."""
JOB = "job"
"""The label by which tests tell their starts apart, whatever ids the server gives them."""


def eventually(look: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
    """The first true value of ``look``."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return found


def connect() -> APIClient:
    """A client of docker-py's own on the engine that servers find by default; to be closed."""
    endpoint = discover()
    return APIClient(base_url=endpoint.address, tls=endpoint.tls or False, version="auto")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def job(name: str, /, **fields: Any) -> dict[str, Any]:
    """A start of a runtime that sleeps and heeds TERM, labelled with the test's own name for it."""
    return {
        "image": images.BUSYBOX,
        "command": ["/bin/sleep", "1000"],
        "network": "none",
        # No service answers in it, which is what a session would wait for.
        "readiness": {"type": "running"},
        **fields,
        "labels": {JOB: name, **fields.get("labels", {})},
    }


class Server:
    """One gunicorn master with its workers. Made by ``Site.start``."""

    command: tuple[str, ...] = (
        *(sys.executable, "-m", "gunicorn"),
        *("-c", "python:runtime_server.gunicorn_conf", "tests.faults.app:app"),
    )

    def __init__(self, site: Site, environment: Mapping[str, str], port: int) -> None:
        self.site = site
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}"
        self.environment = dict(environment)
        self.log_path = site.folder / f"server-{port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The master's."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written so far, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def worker_pids(self) -> list[int]:
        """Those alive now."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(pid) for pid in children.split()]

    def start(self, *, wait: bool = True) -> None:
        """Start it, and return once it is ready."""
        assert self._process is None
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"the server ended:\n{self.log[-4000:]}"
            with contextlib.suppress(requests.RequestException):
                return requests.get(f"{self.base_url}/readyz", timeout=10).status_code == 200
            return False

        eventually(ready, "the server is ready")

    def stop(self) -> int:
        """End it by SIGTERM, as an operator does; its exit status."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(DEADLINE)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to master and workers at once; nothing where it doesn't run."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start it again, on the same port, after ``kill`` or ``stop``."""
        self.kill()
        self.start()

    def client(self, **options: Any) -> RuntimeServerClient:
        """A client; to be closed. ``options`` are its arguments; ``base_url`` may lead through a proxy."""
        options.setdefault("base_url", self.base_url)
        return RuntimeServerClient(api_key=self.site.key, **options)


class Site:
    """A state directory, the servers on it, and the containers of its instance.

    Args:
        folder: for the state directory (``state``) and the logs.
        docker: docker-py's own client, to look past the code under test.
        engine: the engine's address as servers get it; empty: as ``docker`` has found it.
    """

    def __init__(self, folder: Path, docker: APIClient, engine: str = "") -> None:
        self.folder = folder
        self.docker = docker
        self.engine = engine
        self.state_dir = folder / "state"
        self.key = secrets.token_urlsafe(24)
        self.servers: list[Server] = []

    @property
    def instance(self) -> str:
        """The label's value on all its containers; known after the first start."""
        return (self.state_dir / "instance").read_text().strip()

    def server(self, *, workers: int = 2, env: Mapping[str, str] | None = None) -> Server:
        """A server of this site, not started. ``env`` overrides its environment."""
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_SERVER_")}
        environment |= {
            "RUNTIME_SERVER_HOST": "127.0.0.1",
            "RUNTIME_SERVER_PORT": str(port),
            "RUNTIME_SERVER_WORKERS": str(workers),
            "RUNTIME_SERVER_STATE_DIR": str(self.state_dir),
            "RUNTIME_SERVER_API_KEYS": f"tester:{self.key}",
            "RUNTIME_SERVER_LOG_FORMAT": "json",
            "RUNTIME_SERVER_ENGINE": self.engine,
            **(env or {}),
        }
        made = Server(self, environment, port)
        self.servers.append(made)
        return made

    def start(self, *, workers: int = 2, env: Mapping[str, str] | None = None) -> Server:
        """A server of this site, ready."""
        made = self.server(workers=workers, env=env)
        made.start()
        return made

    def kill_at(self, step: str) -> None:
        """Let the next process that reaches this step of a start be killed there."""
        self._mark("kill-at", "killed", step)

    def killed(self) -> bool:
        """Whether the process that ``kill_at`` waits for is gone."""
        return (self.state_dir / "killed").exists()

    def hold_at(self, step: str) -> None:
        """Let the next start that reaches this step go no further while its process lives."""
        self._mark("hold-at", "held", step)

    def held(self) -> bool:
        """Whether the start that ``hold_at`` waits for has come."""
        return (self.state_dir / "held").exists()

    def _mark(self, name: str, done: str, step: str) -> None:
        (self.state_dir / done).unlink(missing_ok=True)
        draft = self.state_dir / f"{name}.new"
        draft.touch(mode=0o600)
        draft.write_text(step)
        draft.rename(self.state_dir / name)

    def leader(self) -> int | None:
        """The process that reconciles: whose lock is on the file, as the kernel tells it."""
        try:
            inode = (self.state_dir / "reconciler.lock").stat().st_ino
        except FileNotFoundError:
            return None
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and "->" not in fields and fields[5].endswith(f":{inode}"):
                return int(fields[4])
        return None

    def containers(self) -> list[dict[str, Any]]:
        """All of this instance's containers in any state, as ``docker ps`` lists them."""
        found: list[dict[str, Any]] = self.docker.containers(
            all=True, filters={"label": f"{labels.INSTANCE}={self.instance}"}
        )
        return found

    def volumes(self) -> list[str]:
        """The names of all of this instance's volumes, sorted."""
        found = self.docker.volumes(filters={"label": f"{labels.INSTANCE}={self.instance}"})
        return sorted(each["Name"] for each in found["Volumes"] or ())

    def states(self) -> list[tuple[str, str]]:
        """Job and state of each container, sorted: a job with two containers is there twice."""
        return sorted((each["Labels"].get(JOB, "?"), each["State"]) for each in self.containers())

    def end_servers(self) -> None:
        """Kill all servers."""
        for server in self.servers:
            server.kill()

    def close(self) -> None:
        """End all servers, then remove the containers and volumes."""
        self.end_servers()
        if not (self.state_dir / "instance").exists():
            return
        for each in self.containers():
            with contextlib.suppress(APIError):
                self.docker.remove_container(each["Id"], force=True, v=True)
        for name in self.volumes():
            with contextlib.suppress(APIError):
                self.docker.remove_volume(name)
