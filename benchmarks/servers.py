"""The two servers, as processes of their own with the settings that they have by default."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

READY_WITHIN = 60.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; ``key`` is its API key, if it wants one."""

    url: str
    pid: int
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key} if self.key else {}


@contextmanager
def service(folder: Path) -> Iterator[Server]:
    """This service under gunicorn: 2 workers, 16 threads, log level info, its log in ``folder``."""
    key, port = secrets.token_hex(16), _free_port()
    settings = {
        "RUNTIME_SERVER_HOST": "127.0.0.1",
        "RUNTIME_SERVER_PORT": str(port),
        "RUNTIME_SERVER_STATE_DIR": str(folder / "state"),
        "RUNTIME_SERVER_API_KEYS": f"benchmarks:{key}",
    }
    command = [sys.executable, "-m", "runtime_server"]
    try:
        with _process(command, settings, folder / "service.log") as process:
            server = Server(f"http://127.0.0.1:{port}", process.pid, key)
            _until_answers(process, server.url + "/readyz")
            yield server
    finally:
        # Its network and firewall rules too: left over, they would slow down each later start.
        subprocess.run(
            [*command, "purge", "--yes"], env={**_inherited(), **settings}, check=False, stdout=subprocess.DEVNULL
        )


@contextmanager
def naive(folder: Path, options: Mapping[str, Any]) -> Iterator[Server]:
    """The FastAPI server; its containers get ``options``."""
    port = _free_port()
    settings = {"NAIVE_PORT": str(port), "NAIVE_RUN_OPTIONS": json.dumps(options)}
    command = [sys.executable, "-m", "benchmarks.naive_server"]
    with _process(command, settings, folder / "naive.log") as process:
        server = Server(f"http://127.0.0.1:{port}", process.pid)
        _until_answers(process, server.url + "/healthz")
        yield server


def worker_memory(server: Server) -> float:
    """The resident memory of the server's largest worker (``VmRSS``), in MB of 10^6 bytes."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return max(_resident(pid) for pid in children or [str(server.pid)])


def _resident(pid: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _inherited() -> dict[str, str]:
    """The environment without the settings of whoever runs this: they would make figures that nobody else gets."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RUNTIME_SERVER_")}


@contextmanager
def _process(command: list[str], settings: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**_inherited(), **settings}, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_answers(process: subprocess.Popen[bytes], url: str) -> None:
    ends = time.monotonic() + READY_WITHIN
    while True:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except (requests.ConnectionError, requests.Timeout):
            pass
        if process.poll() is not None or time.monotonic() > ends:
            raise SystemExit(f"{url} does not answer")
        time.sleep(0.05)
