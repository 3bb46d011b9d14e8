"""What a start asks for is what the container gets, and each action does what it says, on a real engine."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic

import pytest
from docker import APIClient

from runtime_server.models import RuntimeStatus
from tests.engine.images import EXPOSING
from tests.engine.served import Served, eventually, serve


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("lifecycle"), docker_client, default_cpus=0.5) as found:
        yield found


def test_the_answer_of_a_start(served: Served) -> None:
    started = served.start(name="answer", image=EXPOSING, network="bridge", labels={"team": "agents"})

    assert started.created
    assert started.status is RuntimeStatus.RUNNING
    assert started.created_at.utcoffset() == timedelta(0)
    assert started.started_at is not None
    assert started.ports == {"8000/tcp": []}
    assert started.labels == {"team": "agents"}
    container = served.inspect(started.runtime_id)
    assert container["Id"] == started.container_id
    assert container["Name"] == f"/{started.runtime_id}"
    assert container["Config"]["Labels"]["team"] == "agents"
    assert served.client.get_runtime("answer").runtime_id == started.runtime_id
    assert [each.runtime_id for each in served.client.list_runtimes(labels={"team": "agents"})] == [
        started.runtime_id
    ]
    served.client.remove_runtime("answer")


def test_the_process_gets_what_was_asked_for(served: Served) -> None:
    script = "id -u; id -G; echo $GREETING; cat /etc/hostname; ls -d $PWD; cat /etc/hosts; echo done; sleep 1000"
    started = served.start(
        script,
        environment={"GREETING": "a b=c"},
        user="65534",
        group_add=["7"],
        hostname="named",
        working_dir="/tmp",
        extra_hosts={"elsewhere.example": "192.0.2.7"},
    )
    lines = eventually(
        lambda: found if "done" in (found := served.output(started.runtime_id).splitlines()) else None, "its output"
    )

    assert lines[0] == "65534"
    assert "7" in lines[1].split()
    assert lines[2:5] == ["a b=c", "named", "/tmp"]
    assert any("192.0.2.7" in line and "elsewhere.example" in line for line in lines[5:])
    served.client.remove_runtime(started.runtime_id)


def test_limits_and_defaults(served: Served) -> None:
    plain = served.inspect(served.start().runtime_id)["HostConfig"]
    asked = served.inspect(
        served.start(
            cpus=0.25,
            memory="64m",
            pids_limit=20,
            shm_size="16m",
            read_only=True,
            tmpfs={"/scratch": "size=1m"},
            init=False,
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        ).runtime_id
    )["HostConfig"]

    assert (plain["NanoCpus"], plain["Memory"], plain["PidsLimit"]) == (500_000_000, 2 * 2**30, 512)
    assert plain["Init"] is True
    assert plain["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in plain["SecurityOpt"][0]
    assert (asked["NanoCpus"], asked["Memory"], asked["PidsLimit"]) == (250_000_000, 64 * 2**20, 20)
    assert (asked["ShmSize"], asked["ReadonlyRootfs"], asked["Tmpfs"]) == (16 * 2**20, True, {"/scratch": "size=1m"})
    assert asked["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert not asked["Init"]
    for each in served.client.list_runtimes():
        served.client.remove_runtime(each.runtime_id)


def test_privileges_inside(served: Served) -> None:
    started = served.start("cat /proc/self/status; echo done; sleep 1000")
    status = eventually(
        lambda: text if "done" in (text := served.output(started.runtime_id)) else None, "the process's status"
    )
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert fields["NoNewPrivs"] == "1"
    sys_admin, net_raw = 1 << 21, 1 << 13
    assert int(fields["CapBnd"], 16) & (sys_admin | net_raw) == 0
    served.client.remove_runtime(started.runtime_id)


def test_volumes(served: Served) -> None:
    folder = served.volumes / "shared"
    folder.mkdir()
    (folder / "given").write_text("from the host\n")
    volumes = [
        {"host_path": str(folder), "container_path": "/rw"},
        {"host_path": str(folder), "container_path": "/ro", "mode": "ro"},
        {"host_path": "runtime-server-test-volume", "container_path": "/named"},
    ]
    script = (
        "cat /ro/given; echo back > /rw/made; echo no > /ro/not || echo refused; echo kept > /named/file; echo done"
    )
    first = served.start(script, volumes=volumes)
    eventually(lambda: "done" in served.output(first.runtime_id), "the script's end")
    second = served.start("cat /named/file; echo done", volumes=volumes[2:])
    eventually(lambda: "done" in served.output(second.runtime_id), "the script's end")

    assert "from the host" in served.output(first.runtime_id)
    assert "refused" in served.output(first.runtime_id)
    assert (folder / "made").read_text() == "back\n"
    assert not (folder / "not").exists()
    assert served.output(second.runtime_id).startswith("kept")
    (named,) = {each["Name"] for each in served.inspect(second.runtime_id)["Mounts"]}
    for each in (first, second):
        served.client.remove_runtime(each.runtime_id)
    served.docker.remove_volume(named)


def test_a_published_port_answers_while_it_runs(served: Served) -> None:
    script = "echo hello > /tmp/index.html; httpd -f -p 8000 -h /tmp"
    started = served.start(script, network="bridge", ports=[{"container_port": 8000}])
    (port,) = started.ports["8000/tcp"]
    url = f"http://127.0.0.1:{port.HostPort}/"

    def answer() -> str | None:
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                return str(response.read().decode())
        except OSError:
            return None

    assert port.HostIp == "127.0.0.1"
    assert eventually(answer, "an answer") == "hello\n"
    served.client.pause_runtime(started.runtime_id)
    with pytest.raises((urllib.error.URLError, TimeoutError)):
        urllib.request.urlopen(url, timeout=1)
    served.client.resume_runtime(started.runtime_id)
    assert eventually(answer, "an answer") == "hello\n"
    served.client.remove_runtime(started.runtime_id)
    assert answer() is None


def test_repeats_change_nothing(served: Served) -> None:
    runtime_id = served.start().runtime_id
    client = served.client
    seen = [
        (answer.changed, str(answer.status), served.inspect(runtime_id)["State"]["Status"])
        for call in (client.pause_runtime, client.resume_runtime)
        for answer in (call(runtime_id), call(runtime_id))
    ]
    for _ in range(2):
        answer = client.stop_runtime(runtime_id, timeout=1)
        seen.append((answer.changed, str(answer.status), served.inspect(runtime_id)["State"]["Status"]))

    assert seen == [
        (True, "paused", "paused"),
        (False, "paused", "paused"),
        (True, "running", "running"),
        (False, "running", "running"),
        (True, "stopped", "exited"),
        (False, "stopped", "exited"),
    ]
    assert client.stop_runtime(runtime_id, remove=True).status is RuntimeStatus.REMOVED
    assert not client.remove_runtime(runtime_id).changed
    assert client.get_runtime(runtime_id).status is RuntimeStatus.REMOVED
    assert served.containers() == []


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_the_grace_reaches_the_process(served: Served, paused: bool) -> None:
    started = served.start("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done", init=False)
    served.lines(started.runtime_id, 1)
    if paused:
        served.client.pause_runtime(started.runtime_id)
    served.client.stop_runtime(started.runtime_id, timeout=30)
    stopped = served.client.get_runtime(started.runtime_id)

    assert stopped.status is RuntimeStatus.STOPPED
    assert stopped.exit is not None
    assert stopped.exit.exit_code == 7
    assert "bye" in served.output(started.runtime_id)
    served.client.remove_runtime(started.runtime_id)
    assert "bye" in (served.client.get_runtime(started.runtime_id).logs or "")


def test_no_grace_kills(served: Served) -> None:
    started = served.start("trap '' TERM; echo ready; while :; do sleep 0.1; done", init=False)
    served.lines(started.runtime_id, 1)
    began = monotonic()
    served.client.stop_runtime(started.runtime_id, timeout=0)
    took = monotonic() - began
    stopped = served.client.get_runtime(started.runtime_id)

    assert took < 60  # not the 1000 s that it would take otherwise
    assert stopped.exit is not None
    assert (stopped.exit.exit_code, stopped.exit.signal) == (137, "SIGKILL")
    served.client.remove_runtime(started.runtime_id)


def test_auto_remove_and_ttl(served: Served) -> None:
    ended = served.start("exit 3", auto_remove=True).runtime_id
    expired = served.start(ttl=1).runtime_id
    for runtime_id in (ended, expired):
        eventually(lambda: served.client.get_runtime(runtime_id).status == "removed", "its removal")  # noqa: B023

    exit_record = served.client.get_runtime(ended).exit
    assert exit_record is not None
    assert exit_record.exit_code == 3
    assert served.containers() == []


def test_commands_as_text(served: Served) -> None:
    text = served.client.start_runtime(image=EXPOSING, network="none", command="/bin/echo 'one word' two")
    entry = served.client.start_runtime(
        image=EXPOSING, network="none", entrypoint=["/bin/echo", "entry"], command=["point"]
    )

    assert served.lines(text.runtime_id, 1) == ["one word two"]
    assert served.lines(entry.runtime_id, 1) == ["entry point"]
    for each in (text, entry):
        served.client.remove_runtime(each.runtime_id)
