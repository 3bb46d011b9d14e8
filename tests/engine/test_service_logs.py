"""Output on a real engine, and the real server's streams: followed, broken off, left, and bounded."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from docker import APIClient

from runtime_server.client import RetryPolicy
from runtime_server.errors import TooManyStreams
from tests.engine.images import BUSYBOX
from tests.engine.served import Served, serve
from tests.faults.server import DEADLINE, Server, Site, eventually

COUNT = "i=0; while [ $i -lt {n} ]; do echo out $i; echo err $i >&2; i=$((i+1)); {pause}; done; {then}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("logs"), docker_client) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Server]:
    """gunicorn with one worker and two places for streams, whose heart beats each second."""
    site = Site(tmp_path_factory.mktemp("streams"), docker_client)
    try:
        yield site.start(workers=1, env={"RUNTIME_SERVER_STREAMS": "2", "RUNTIME_SERVER_HEARTBEAT": "1"})
    finally:
        site.close()


def script(text: str) -> dict[str, object]:
    return {"image": BUSYBOX, "command": ["/bin/sh", "-c", text], "network": "none"}


def test_everything_that_was_written_comes_in_order(served: Served) -> None:
    runtime = served.start(COUNT.format(n=300, pause=":", then="sleep 1000")).runtime_id
    wanted = [f"out {n}\n" for n in range(300)]
    eventually(lambda: f"err {299}" in served.output(runtime), "all its output")
    found = list(served.client.logs(runtime))
    assert [each.line for each in found if each.stream == "stdout"] == wanted
    assert [each.line for each in found if each.stream == "stderr"] == [f"err {n}\n" for n in range(300)]
    assert [each.line for each in served.client.logs(runtime, tail=10)] == [each.line for each in found[-10:]]
    middle = next(each for each in found if each.line == "out 150\n")
    later = [each.line for each in served.client.logs(runtime, since=middle.time, stderr=False)]
    assert later == wanted[150:]
    served.client.remove_runtime(runtime)
    assert [each.line for each in served.client.logs(runtime)][-1] in (wanted[-1], "err 299\n")


def test_a_line_longer_than_the_engines_buffer_comes_in_pieces(served: Served) -> None:
    long = "busybox head -c 40000 /dev/zero | busybox tr '\\0' x; echo; echo end; sleep 1000"
    runtime = served.start(long).runtime_id
    found = ""
    with served.client.logs(runtime, follow=True) as logs:
        while not found.endswith("end\n"):
            found += next(logs).line
    assert found == "x" * 40_000 + "\nend\n"


def test_following_over_pause_and_engine_restarts_to_the_end(served: Served) -> None:
    again = {"Name": "on-failure", "MaximumRetryCount": 1}
    runtime = served.start("echo begun; sleep 2; exit 3", restart_policy=again).runtime_id
    with served.client.logs(runtime, follow=True) as logs:
        assert next(logs).line == "begun\n"
        served.client.pause_runtime(runtime)
        served.client.resume_runtime(runtime)
        assert [each.line for each in logs] == ["begun\n"]
        assert logs.status == "error"


def opened(server: Server, runtime: str, query: str) -> requests.Response:
    key = {"X-API-Key": server.site.key}
    response = requests.get(
        f"{server.base_url}/runtimes/{runtime}/logs?{query}", headers=key, stream=True, timeout=DEADLINE
    )
    assert response.status_code == 200
    return response


def test_a_real_server_streams_as_it_comes(server: Server) -> None:
    with server.client() as client:
        runtime = client.start_runtime(script(COUNT.format(n=5, pause="sleep 1", then="exit 0"))).runtime_id
        with closing(opened(server, runtime, "follow=true&format=ndjson")) as response:
            assert response.headers["Transfer-Encoding"] == "chunked"
            moments, found = [], []
            for line in response.iter_lines(chunk_size=1):
                found.append(json.loads(line))
                moments.append(time.monotonic())
        assert found.pop() == {"end": "stopped"}
        shown = [each["line"] for each in found if "line" in each and each["stream"] == "stdout"]
        assert shown == [f"out {n}\n" for n in range(5)]
        assert "heartbeat" in found[0]
        assert moments[-1] - moments[0] > 2
        assert opened(server, runtime, "stderr=false").text == "".join(shown)


@pytest.mark.parametrize("form", ["text", "ndjson"])
def test_who_leaves_frees_a_thread(server: Server, form: str) -> None:
    with server.client(retry=RetryPolicy(max_attempts=1)) as client:
        runtime = client.start_runtime(script("sleep 1000")).runtime_id
        for _ in range(3):
            readers = [opened(server, runtime, f"follow=true&format={form}") for _ in range(2)]
            with pytest.raises(TooManyStreams):
                next(client.logs(runtime))
            assert client.health().status == "ok"
            for reader in readers:
                reader.close()
            began = time.monotonic()
            eventually(lambda: _free(server, runtime), "the places are free again")
            # Soon: a look a second, however long the silence between two heartbeats is.
            assert time.monotonic() - began < 30
        client.remove_runtime(runtime)


def _free(server: Server, runtime: str) -> bool:
    with server.client(retry=RetryPolicy(max_attempts=1)) as client:
        try:
            return list(client.logs(runtime)) == []
        except TooManyStreams:
            return False


def test_short_calls_pass_streams(server: Server) -> None:
    """Streams have threads of their own: with all of them taken, as many short calls are served as before."""
    with server.client() as client:
        runtime = client.start_runtime(script("sleep 1000")).runtime_id
        readers = [opened(server, runtime, "follow=true") for _ in range(2)]
        waiting = [
            threading.Thread(target=client.get_runtime, args=(runtime,), kwargs={"wait_for": "stopped", "timeout": 3})
            for _ in range(12)
        ]
        for each in waiting:
            each.start()
        for _ in range(5):
            assert client.pause_runtime(runtime).status == "paused"
            assert client.resume_runtime(runtime).status == "running"
        for each in waiting:
            each.join(DEADLINE)
        for reader in readers:
            reader.close()
        client.remove_runtime(runtime)


def test_sigterm_ends_streams_and_the_client_goes_on(tmp_path: Path, docker_client: APIClient) -> None:
    site = Site(tmp_path, docker_client)
    try:
        server = site.start(workers=1)
        with server.client(retry=RetryPolicy(max_attempts=100)) as client:
            runtime = client.start_runtime(script(COUNT.format(n=200, pause="sleep 0.05", then="exit 0"))).runtime_id
            logs = client.logs(runtime, follow=True, stderr=False)
            found = [next(logs).line for _ in range(20)]
            began = time.monotonic()

            def restart() -> None:
                server.stop()
                server.start()

            restarter = threading.Thread(target=restart)
            restarter.start()
            found += [each.line for each in logs]
            restarter.join(DEADLINE)
            # Not after the grace for requests in flight, which is a minute.
            assert time.monotonic() - began < 55
        assert found == [f"out {n}\n" for n in range(200)]
        assert logs.status == "stopped"
        assert "Traceback" not in server.log
    finally:
        site.close()


def test_a_peer_without_tcp_manners(server: Server) -> None:
    """One that resets its connection while there is nothing to send."""
    with server.client(retry=RetryPolicy(max_attempts=1)) as client:
        runtime = client.start_runtime(script("sleep 1000")).runtime_id
        for _ in range(2):
            peer = socket.create_connection(("127.0.0.1", server.port))
            head = [f"GET /runtimes/{runtime}/logs?follow=1 HTTP/1.1", "Host: x", f"X-API-Key: {server.site.key}"]
            peer.sendall("\r\n".join([*head, "", ""]).encode())
            assert peer.recv(4096).startswith(b"HTTP/1.1 200")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
        eventually(lambda: _free(server, runtime), "the places are free again")
        client.remove_runtime(runtime)
