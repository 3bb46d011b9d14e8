"""gunicorn on a socket, and in front of it Debian's nginx with the configuration that the command renders."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runtime_server import RuntimeServerClient

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
"""Seconds that anything may take to be ready."""

MAIN = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log info;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def nginx() -> str:
    """nginx's path; its package is installed where it is missing."""
    installed = subprocess.run([ROOT / "scripts/nginx"], check=False, capture_output=True, text=True, timeout=600)
    assert installed.returncode == 0, installed.stderr
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found
    return found


@dataclass
class Site:
    """The service, its settings, and what runs of it."""

    nginx: str
    folder: Path
    port: int = field(default_factory=free_port)
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        return self.folder / "api.sock"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_SERVER_")}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "RUNTIME_SERVER_BIND": f"unix:{self.socket}",
            "RUNTIME_SERVER_STATE_DIR": str(self.folder / "state"),
            "RUNTIME_SERVER_API_KEYS": f"default:{self.key}",
            "RUNTIME_SERVER_WORKERS": "1",
            "RUNTIME_SERVER_MAX_WAIT": "30",
            **{f"RUNTIME_SERVER_{key}": value for key, value in self.settings.items()},
        }

    def render(self, *arguments: str, **settings: str) -> str:
        """What the command prints."""
        command = [sys.executable, "-m", "runtime_server", "nginx-config", *arguments]
        environment = {**self.environment, **{f"RUNTIME_SERVER_{key}": value for key, value in settings.items()}}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def check(self, text: str) -> None:
        """Have nginx check the configuration."""
        self.write(text)
        command = [self.nginx, "-t", "-c", str(self.folder / "nginx.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def write(self, text: str) -> None:
        (self.folder / "site.conf").write_text(text)
        # Root's nginx would hand its work to nobody, who can't enter the tests' folders.
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(MAIN.format(folder=self.folder, user=user))

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """gunicorn runs, with one worker and 16 threads."""
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "python:runtime_server.gunicorn_conf",
            "tests.nginx.app:app",
        ]
        with self._process(command, "gunicorn.log"):
            eventually(lambda: listens(socket.AF_UNIX, str(self.socket)), "gunicorn listens")
            yield

    @contextlib.contextmanager
    def proxied(self, text: str | None = None) -> Iterator[None]:
        """nginx runs with that configuration, by default what is rendered now."""
        self.write(self.render("--listen", f"127.0.0.1:{self.port}") if text is None else text)
        with self._process([self.nginx, "-c", str(self.folder / "nginx.conf")], "nginx.out"):
            eventually(lambda: listens(socket.AF_INET, ("127.0.0.1", self.port)), "nginx listens")
            yield

    @contextlib.contextmanager
    def _process(self, command: list[str], log: str) -> Iterator[None]:
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                command, env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def client(self, **more: object) -> RuntimeServerClient:
        return RuntimeServerClient(self.url, api_key=self.key, **more)  # type: ignore[arg-type]


def listens(family: socket.AddressFamily, address: object) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(5)
        return probe.connect_ex(address) == 0  # type: ignore[arg-type]


@pytest.fixture
def site(nginx: str, tmp_path: Path) -> Site:
    """Nothing runs of it yet."""
    return Site(nginx, tmp_path)


@pytest.fixture(scope="module")
def running(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both run."""
    site = Site(nginx, tmp_path_factory.mktemp("nginx"))
    with site.served(), site.proxied():
        yield site
