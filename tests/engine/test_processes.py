"""The server as an operator runs it: processes, signals, log lines, and an engine that comes later."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import pytest
import requests

from runtime_server.client.client import RuntimeServerClient
from runtime_server.engine.discovery import socket_path
from runtime_server.models import ActionResponse, RuntimeStatus
from tests.engine.images import BUSYBOX
from tests.faults.server import DEADLINE, Server, Site, eventually, job

OWN = (sys.executable, "-m", "runtime_server")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn"),
    *("-c", "python:runtime_server.gunicorn_conf", "runtime_server.wsgi:app"),
)
AWAY = "the container engine can't be reached; trying again until it can"


def lines(server: Server) -> list[dict[str, Any]]:
    """The log's records: each line must be one."""
    return [json.loads(line) for line in server.log.splitlines()]


def request_lines(server: Server, path: str) -> list[dict[str, Any]]:
    return [each for each in lines(server) if each["event"] == "request" and each["path"] == path]


def one_life(client: RuntimeServerClient) -> None:
    """Start, pause, resume and stop one runtime."""
    runtime_id = client.start_runtime(job("one")).runtime_id
    assert client.pause_runtime(runtime_id).status is RuntimeStatus.PAUSED
    assert client.resume_runtime(runtime_id).status is RuntimeStatus.RUNNING
    assert client.stop_runtime(runtime_id, timeout=0, remove=True).status is RuntimeStatus.REMOVED


@pytest.mark.parametrize("command", [OWN, GUNICORN], ids=["runtime-server", "gunicorn"])
def test_it_serves_logs_and_ends(site: Site, command: tuple[str, ...]) -> None:
    server = site.server()
    server.command = command
    server.start()
    with server.client() as client:
        assert client.ready().ready
        one_life(client)
    given = {"X-API-Key": site.key, "X-Request-ID": "given-by-the-test"}
    answer = requests.get(f"{server.base_url}/runtimes/runtime-000000000000", headers=given, timeout=60)
    assert answer.headers["X-Request-ID"] == "given-by-the-test"

    assert server.stop() == 0

    (start,) = request_lines(server, "/start")
    assert (start["method"], start["status"], start["owner"]) == ("POST", 201, "tester")
    assert start["ms"] > 0
    assert start["request_id"]
    (pause,) = request_lines(server, "/pause")
    assert pause["runtime_id"].startswith("runtime-")
    (missing,) = request_lines(server, "/runtimes/runtime-000000000000")
    assert (missing["status"], missing["request_id"]) == (404, "given-by-the-test")
    assert site.key not in server.log


def test_sigterm_lets_a_stop_finish(site: Site) -> None:
    server = site.server(workers=1)
    server.command = OWN
    server.start()
    script = "trap 'echo asked; sleep 2; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    with server.client() as client:
        runtime_id = client.start_runtime(image=BUSYBOX, command=["/bin/sh", "-c", script], network="none").runtime_id
        eventually(lambda: b"ready" in site.docker.logs(runtime_id), "the trap is set")
        answers: list[ActionResponse] = []
        caller = threading.Thread(target=lambda: answers.append(client.stop_runtime(runtime_id, timeout=60)))
        caller.start()
        eventually(lambda: b"asked" in site.docker.logs(runtime_id), "the stop has reached the process")

        assert server.stop() == 0
        caller.join(DEADLINE)

    assert [(each.status, each.changed) for each in answers] == [(RuntimeStatus.STOPPED, True)]
    assert site.docker.inspect_container(runtime_id)["State"]["ExitCode"] == 7


def test_it_starts_without_an_engine_and_recovers_when_one_appears(site: Site) -> None:
    path = site.folder / "engine.sock"
    server = site.server(workers=1, env={"RUNTIME_SERVER_ENGINE": f"unix://{path}"})
    server.command = OWN
    server.start(wait=False)

    def readyz(**headers: str) -> tuple[int, dict[str, Any]] | None:
        try:
            answer = requests.get(f"{server.base_url}/readyz", headers=headers, timeout=30)
        except requests.ConnectionError:
            return None
        return answer.status_code, answer.json()

    status, told = eventually(readyz, "the server listens")
    assert (status, told["ready"], told["reason"]) == (503, False, None)
    eventually(lambda: AWAY in server.log, "it says that there is no engine")
    status, told = eventually(lambda: readyz(**{"X-API-Key": site.key}), "it still listens")
    assert status == 503
    assert "engine" in told["reason"]

    there = socket_path()
    assert there is not None, "this test needs an engine on a Unix socket"
    path.symlink_to(there)
    server.wait_ready()
    eventually(lambda: "the container engine answers" in server.log, "it says that there is one")
    with server.client() as client:
        one_life(client)
    assert server.stop() == 0
    assert [each["event"] for each in lines(server)].count(AWAY) == 1


def test_a_killed_worker_is_replaced(site: Site) -> None:
    server = site.server(workers=2)
    server.command = OWN
    server.start()
    before = eventually(lambda: found if len(found := server.worker_pids()) == 2 else None, "two workers")
    with server.client() as client:
        runtime_id = client.start_runtime(job("kept")).runtime_id
        os.kill(before[0], signal.SIGKILL)
        now = eventually(
            lambda: found if len(found := server.worker_pids()) == 2 and before[0] not in found else None,
            "a new worker",
        )
        assert before[1] in now
        assert client.get_runtime(runtime_id).status is RuntimeStatus.RUNNING
        assert client.stop_runtime(runtime_id, timeout=0).changed
    assert server.stop() == 0
