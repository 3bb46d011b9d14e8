"""A runtime's life through the client: started, asked, paused, resumed and stopped, each step with its time.

Usage: quickstart_demo.py [--ping]

``--ping`` only tells, by its exit code, whether a server answers and knows the key. The server is the one that
RUNTIME_SERVER_PORT, or RUNTIME_SERVER_URL, names.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import requests

from runtime_server import RuntimeServerClient
from runtime_server.client import RetryPolicy
from runtime_server.errors import RuntimeClientError
from runtime_server.settings import Settings

PAGE = 'echo "$GREETING $(cat /data/message)" > /tmp/index.html && exec httpd -f -p 8000 -h /tmp'
SILENCE = 1.0
"""Seconds after which a paused runtime's silence is believed."""

Result = TypeVar("Result")


def step(name: str, work: Callable[[], Result], say: Callable[[Result], object]) -> Result:
    """Do it, and print how long it took."""
    began = time.perf_counter()
    result = work()
    print(f"{name:8}{(time.perf_counter() - began) * 1000:7.0f} ms  {say(result)}", flush=True)
    return result


def ask(url: str) -> str:
    """The runtime's page; its web server may need a moment after the start."""
    until = time.monotonic() + 10
    while True:
        try:
            return requests.get(url, timeout=5).text.strip()
        except requests.ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def silent(url: str) -> bool:
    """Whether nothing answers."""
    try:
        requests.get(url, timeout=SILENCE)
    except requests.Timeout:
        return True
    return False


def volume() -> Path:
    """A folder that may be mounted, with a file for the runtime to show."""
    folder = Path(Settings().volume_roots[0]) / "quickstart"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "message").write_text("from a folder of the host\n")
    return folder


def demonstrate(client: RuntimeServerClient) -> None:
    """Every lifecycle action once."""
    runtime = step(
        "start",
        lambda: client.start_runtime(
            image="busybox",
            command=["sh", "-c", PAGE],
            environment={"GREETING": "Hello"},
            ports=[{"container_port": 8000}],
            volumes=[{"host_path": str(volume()), "container_path": "/data", "mode": "ro"}],
        ),
        lambda started: f"{started.runtime_id} is {started.status}",
    )
    try:
        binding = runtime.ports["8000/tcp"][0]
        url = f"http://{binding.HostIp}:{binding.HostPort}/"
        name = runtime.runtime_id
        step("ask", lambda: ask(url), lambda page: f"{url} answers: {page}")
        step("pause", lambda: client.pause_runtime(runtime_id=name), lambda answer: answer.message)
        if not step("ask", lambda: silent(url), lambda quiet: "no answer" if quiet else "it answers!"):
            raise SystemExit("a paused runtime must not answer")
        step("resume", lambda: client.resume_runtime(runtime_id=name), lambda answer: answer.message)
        step("ask", lambda: ask(url), lambda page: f"{url} answers: {page}")
    finally:
        step(
            "stop",
            lambda: client.stop_runtime(runtime_id=runtime.runtime_id, remove=True),
            lambda answer: answer.message,
        )


def main() -> None:
    """Ping, or the whole."""
    url = os.environ.get("RUNTIME_SERVER_URL") or f"http://127.0.0.1:{Settings().port}"
    if sys.argv[1:] == ["--ping"]:
        try:
            with RuntimeServerClient(url, retry=RetryPolicy(max_attempts=1)) as client:
                next(iter(client.list_runtimes()), None)
        except RuntimeClientError:
            raise SystemExit(1) from None
        return
    with RuntimeServerClient(url) as client:
        demonstrate(client)


if __name__ == "__main__":
    try:
        main()
    except RuntimeClientError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
