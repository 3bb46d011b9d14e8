"""The service under gunicorn, ended and begun again as a test likes."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime_server import RuntimeServerClient
from tests.nginx.conftest import DEADLINE, eventually, free_port

ROOT = Path(__file__).parents[2]
IN_MEMORY = "tests.dashboard.app:app"
REAL = "runtime_server.wsgi:app"


@dataclass
class Server:
    """The service, its settings, and its process while it runs."""

    folder: Path
    module: str = IN_MEMORY
    port: int = field(default_factory=free_port)
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    auth: str = "key"
    runtimes: int = 0
    """How many `many-000`, … it has from the beginning."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        keys = f"ops+admin:{self.key},team:{self.key}team"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_SERVER_")}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "RUNTIME_SERVER_HOST": "127.0.0.1",
            "RUNTIME_SERVER_PORT": str(self.port),
            "RUNTIME_SERVER_STATE_DIR": str(self.folder / "state"),
            **({"RUNTIME_SERVER_AUTH": "off"} if self.auth == "off" else {"RUNTIME_SERVER_API_KEYS": keys}),
            "RUNTIME_SERVER_TEST_RUNTIMES": str(self.runtimes),
            "RUNTIME_SERVER_WORKERS": "1",
            "RUNTIME_SERVER_GRACEFUL_TIMEOUT": "1",
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "python:runtime_server.gunicorn_conf", self.module]
        with (self.folder / "gunicorn.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self._listens, "gunicorn listens")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def command(self, *arguments: str) -> str:
        """Run the service's own command line; what it prints."""
        command = [sys.executable, "-m", "runtime_server", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self) -> RuntimeServerClient:
        """Another client, of the owner `team`."""
        return RuntimeServerClient(self.url, api_key=f"{self.key}team")

    def admin(self) -> RuntimeServerClient:
        """Another client, with the key that the page has."""
        return RuntimeServerClient(self.url, api_key=self.key)


@contextlib.contextmanager
def served(folder: Path, module: str = IN_MEMORY, runtimes: int = 0) -> Iterator[Server]:
    server = Server(folder, module, runtimes=runtimes)
    try:
        server.start()
        yield server
    finally:
        server.stop()
