"""Commands on a real engine: what they get, and that they are ended, whatever the container is made of."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from docker import APIClient

from runtime_server.engine import host_processes
from runtime_server.errors import (
    CommandNotExecutable,
    CommandNotFound,
    ExecOutcomeUnknown,
    InvalidState,
    SpecRejected,
    UserUnknown,
)
from tests.engine.served import Served, eventually, serve
from tests.faults.server import DEADLINE, Site

BARE = "runtime-server-test/bare:latest"
"""Nothing but one static binary: no shell by its name, no ``kill``, no ``/etc``."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("exec"), docker_client) as found:
        yield found


@pytest.fixture(scope="module")
def runtime(served: Served) -> str:
    return served.start("sleep 1000", environment={"OWN": "1"}, working_dir="/srv").runtime_id


@pytest.fixture(scope="module")
def bare(docker_client: APIClient) -> str:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("busybox")
        content = Path("/bin/busybox").read_bytes()
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    repository, _, tag = BARE.partition(":")
    docker_client.import_image_from_data(out.getvalue(), repository=repository, tag=tag)
    return BARE


def processes(served: Served, runtime: str, word: str) -> list[str]:
    """The container's processes with that word in their command, as the engine lists them."""
    listed = served.docker.top(runtime, ps_args="-eo pid,args")["Processes"]
    return [" ".join(each) for each in listed if any(word in part for part in each)]


def test_what_a_command_gets(served: Served, runtime: str) -> None:
    client = served.client
    script = "echo $OWN$NEW; id -u; id -g; echo wrong >&2; exit 5"
    result = client.exec_in_runtime(runtime, script, environment={"NEW": "2"}, user="65534:7")
    assert (result.stdout, result.stderr, result.exit_code) == ("12\n65534\n7\n", "wrong\n", 5)
    assert client.exec_in_runtime(runtime, "busybox pwd").stdout == "/srv\n"
    assert client.exec_in_runtime(runtime, "busybox pwd", working_dir="/tmp").stdout == "/tmp\n"
    assert client.exec_in_runtime(runtime, ["cat"], stdin="x" * 200_000).stdout == "x" * 200_000
    assert client.exec_in_runtime(runtime, ["cat"]).stdout == ""
    tty = client.exec_in_runtime(runtime, "test -t 1 && echo terminal; echo two >&2", tty=True)
    assert (tty.stdout, tty.stderr) == ("terminal\r\ntwo\r\n", "")
    large = client.exec_in_runtime(runtime, "busybox head -c 3000000 /dev/zero | busybox tr '\\0' x")
    assert (len(large.stdout), large.truncated, large.exit_code) == (1_048_576, True, 0)


def test_no_command_has_more_privileges(served: Served, runtime: str) -> None:
    status = served.client.exec_in_runtime(runtime, "cat /proc/self/status", user="0").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    inits = dict(
        line.split(":\t", 1)
        for line in served.client.exec_in_runtime(runtime, "cat /proc/1/status").stdout.splitlines()
        if ":\t" in line
    )
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapBnd"], 16) == int(inits["CapBnd"], 16)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"command": ["/no/such/thing"]}, CommandNotFound),
        ({"command": ["/etc/passwd"]}, CommandNotExecutable),
        ({"command": ["true"], "user": "nobody-knows"}, UserUnknown),
        ({"command": ["true"], "working_dir": "/no/such/folder"}, SpecRejected),
    ],
)
def test_what_cannot_be_started(
    served: Served, runtime: str, fields: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        served.client.exec_in_runtime(runtime, fields)
    with pytest.raises(error), served.client.exec(runtime, [], stream=True, **fields) as stream:
        list(stream)


FAMILY = (
    "echo begun; (busybox setsid sleep 4321 & busybox setsid busybox nohup sleep 4321 >/dev/null 2>&1 &) ; "
    "trap '' TERM HUP INT; sleep 4321"
)


@pytest.mark.parametrize("user", [None, "65534"])
@pytest.mark.parametrize("way", ["host", "inside"])
def test_a_timeout_ends_all_that_was_started(
    served: Served, runtime: str, way: str, user: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "inside":
        monkeypatch.setattr(host_processes.HostProcesses, "kill", lambda *_: False)
    result = served.client.exec_in_runtime(runtime, FAMILY, timeout=1.5, user=user)
    assert (result.timed_out, result.killed, result.exit_code) == (True, True, 137)
    assert result.stdout == "begun\n"
    eventually(lambda: not processes(served, runtime, "4321"), "none of them is left")
    assert served.client.exec_in_runtime(runtime, ["true"]).exit_code == 0


def test_a_container_without_any_tool(served: Served, bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = served.start(image=bare, command=["/busybox", "sleep", "1000"], init=False)
    result = served.client.exec_in_runtime(started.runtime_id, ["/busybox", "sleep", "4321"], timeout=0.5)
    assert (result.timed_out, result.killed, result.exit_code) == (True, True, 137)
    assert processes(served, started.runtime_id, "4321") == []
    # From afar nothing can be done there, and the answer says so.
    monkeypatch.setattr(host_processes.HostProcesses, "kill", lambda *_: False)
    result = served.client.exec_in_runtime(started.runtime_id, ["/busybox", "sleep", "4321"], timeout=0.5)
    assert (result.timed_out, result.killed, result.exit_code) == (True, False, None)
    assert len(processes(served, started.runtime_id, "4321")) == 1
    served.client.remove_runtime(started.runtime_id)


def test_paused_before_and_meanwhile(served: Served) -> None:
    runtime = served.start("sleep 1000").runtime_id
    results = []
    caller = threading.Thread(
        target=lambda: results.append(served.client.exec_in_runtime(runtime, ["sleep", "4321"], timeout=3))
    )
    caller.start()
    eventually(lambda: processes(served, runtime, "4321"), "it runs")
    served.client.pause_runtime(runtime)
    with pytest.raises(InvalidState, match="paused"):
        served.client.exec_in_runtime(runtime, ["true"])
    caller.join(DEADLINE)
    assert [(each.timed_out, each.killed) for each in results] == [(True, True)]
    assert served.inspect(runtime)["State"]["Status"] == "paused"
    served.client.resume_runtime(runtime)
    eventually(lambda: not processes(served, runtime, "4321"), "it died as soon as it was thawed")


def test_a_stream_comes_as_it_is_written(served: Served, runtime: str) -> None:
    moments, found = [], []
    with served.client.exec(runtime, "for i in 1 2 3; do echo $i; sleep 1; done; exit 9", stream=True) as stream:
        for chunk in stream:
            moments.append(time.monotonic())
            found.append(chunk.data)
        assert stream.result is not None
        assert stream.result.exit_code == 9
    assert found == ["1\n", "2\n", "3\n"]
    assert moments[-1] - moments[0] > 1.5


def test_a_background_process_holds_nobody_up(served: Served, runtime: str) -> None:
    result = served.client.exec_in_runtime(runtime, "sleep 30 & echo done", timeout=25)
    assert (result.stdout, result.exit_code, result.timed_out) == ("done\n", 0, False)


def test_a_real_server_ends_what_its_caller_left(tmp_path: Path, docker_client: APIClient, test_images: None) -> None:
    """And a worker that dies leaves a command that isn't started a second time."""
    site = Site(tmp_path, docker_client)
    try:
        server = site.start(workers=1)
        with server.client() as client:
            runtime = client.start_runtime(image="runtime-server-test/busybox", command="sleep 1000", network="none")
            url = f"{server.base_url}/runtimes/{runtime.runtime_id}/exec"
            headers = {"X-API-Key": site.key}
            body = {"command": ["sleep", "4321"], "stream": True}

            def running() -> list[object]:
                listed = docker_client.top(runtime.runtime_id, ps_args="-eo pid,args")["Processes"]
                return [each for each in listed if "4321" in " ".join(each)]

            with closing(requests.post(url, json=body, headers=headers, stream=True, timeout=DEADLINE)) as response:
                assert response.status_code == 200
                eventually(running, "it runs")
            eventually(lambda: not running(), "it is ended")

            key = {**headers, "Idempotency-Key": "mine"}
            body = {"command": ["sleep", "4321"], "timeout": 600}
            lost = threading.Thread(target=_ignored, args=(url, body, key))
            lost.start()
            eventually(running, "it runs")
            server.restart()
            lost.join(DEADLINE)
            with pytest.raises(ExecOutcomeUnknown) as caught:
                client.exec_in_runtime(runtime.runtime_id, body, idempotency_key="mine")
            assert caught.value.extensions["running"] is True
            assert len(running()) == 1
    finally:
        site.close()


def _ignored(url: str, body: dict[str, object], headers: dict[str, str]) -> None:
    with pytest.raises(requests.RequestException):
        requests.post(url, json=body, headers=headers, timeout=DEADLINE)
