"""Sessions as OpenHands' clients start them, on a real engine."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from docker import APIClient

from runtime_server.models import Runtime, RuntimeStatus, StartResponse
from tests.engine.images import BUSYBOX
from tests.engine.served import DEADLINE, Served, eventually, serve

WEB = "mkdir /tmp/w; echo fine > /tmp/w/health; {before} exec httpd -f -p 60000 -h /tmp/w"
ENTRYPOINT = "runtime-server-test/entrypoint:latest"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("sessions"), docker_client, default_cpus=0.5) as found:
        yield found


def start(served: Served, session: str, script: str = WEB.format(before=""), **fields: Any) -> StartResponse:
    return served.client.start_runtime({"image": BUSYBOX, "command": script, "session_id": session, **fields})


def session(served: Served, name: str) -> Runtime:
    return Runtime.model_validate(served.ask("GET", f"/sessions/{name}"))


def fetch(url: str | None) -> str:
    assert url is not None
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        return bytes(answer.read()).decode()


def test_a_session_is_running_once_its_service_answers(served: Served) -> None:
    made = start(served, "ready", WEB.format(before="while [ ! -e /tmp/go ]; do sleep 0.1; done;"), wait=1)
    assert made.status is RuntimeStatus.STARTING
    assert made.url is not None
    eventually(lambda: session(served, "ready").pod_status == "Running", "a container that runs")
    served.execute(made.runtime_id, ["/bin/sh", "-c", "echo > /tmp/go"])
    found = served.client.wait_until(made.runtime_id, "running", timeout=DEADLINE)
    assert (found.pod_status, found.url) == ("Ready", made.url)
    assert fetch(found.url) == "fine\n"
    assert sorted(found.work_hosts.values()) == [12000, 12001]
    assert sorted(found.ports) == ["12000/tcp", "12001/tcp", "60000/tcp", "60001/tcp"]

    served.client.pause_runtime(made.runtime_id)
    paused = session(served, "ready")
    assert (paused.status, paused.pod_status) == (RuntimeStatus.PAUSED, "Not Found")
    assert (paused.url, paused.session_api_key) == (found.url, made.session_api_key)
    again = start(served, "ready")
    assert (again.created, again.status, again.url, again.session_api_key) == (
        False,
        RuntimeStatus.RUNNING,
        found.url,
        made.session_api_key,
    )
    assert fetch(again.url) == "fine\n"
    served.client.pause_runtime(made.runtime_id)
    began = monotonic()
    assert served.client.stop_runtime(made.runtime_id).status is RuntimeStatus.STOPPED
    # The oldest clients give up after ten seconds; five are the grace.
    assert monotonic() - began < DEADLINE
    fresh = start(served, "ready")
    assert fresh.runtime_id != made.runtime_id
    served.client.remove_runtime(fresh.runtime_id)


def test_the_key_is_in_the_container_under_both_names(served: Served) -> None:
    made = start(served, "key")
    lines = served.inspect(made.runtime_id)["Config"]["Env"]
    assert {f"OH_SESSION_API_KEYS_0={made.session_api_key}", f"SESSION_API_KEY={made.session_api_key}"} <= set(lines)
    served.client.remove_runtime(made.runtime_id)


def test_the_command_replaces_the_entrypoint(served: Served, docker_client: APIClient) -> None:
    if not docker_client.images(ENTRYPOINT):
        made = docker_client.create_container(BUSYBOX, ["/bin/true"])
        repository, _, tag = ENTRYPOINT.partition(":")
        docker_client.commit(made["Id"], repository, tag, changes='ENTRYPOINT ["/bin/echo", "the image\'s own"]')
        docker_client.remove_container(made["Id"])
    started = start(served, "entry", image=ENTRYPOINT)
    assert started.status is RuntimeStatus.RUNNING, started
    words = start(served, "words", "sleep 1000", image=ENTRYPOINT, readiness={"type": "running"})
    config = served.inspect(words.runtime_id)["Config"]
    assert (config["Entrypoint"] or None, config["Cmd"]) == (None, ["sleep", "1000"])
    for each in (started, words):
        served.client.remove_runtime(each.runtime_id)


def test_users_and_groups_are_those_that_were_asked_for(served: Served) -> None:
    script = "id -u; id -g; id -G; sleep 1000"
    made = start(
        served, "user", script, run_as_user=10001, run_as_group=10002, fs_group=10003, readiness={"type": "running"}
    )
    user, group, groups = served.lines(made.runtime_id, 3)
    assert (user, group) == ("10001", "10002")
    assert set(groups.split()) == {"10002", "10003"}
    served.client.remove_runtime(made.runtime_id)


@pytest.mark.parametrize("asked", ["sysbox-runc", "sysbox"])
def test_a_runtime_class_that_the_engine_lacks_falls_back_and_says_so(served: Served, asked: str) -> None:
    made = start(served, f"class-{asked}", runtime_class=asked)
    assert made.status is RuntimeStatus.RUNNING
    note = f"runtime_class {asked} is runc on this server"
    assert (made.status_detail, made.warnings) == (note, [note])
    assert served.inspect(made.runtime_id)["HostConfig"]["Runtime"] == "runc"
    served.client.remove_runtime(made.runtime_id)


def test_a_command_that_is_not_there(served: Served) -> None:
    made = start(served, "nothing", "/nowhere/at-all --port 60000", init=False)
    assert (made.status, made.pod_status) == (RuntimeStatus.ERROR, "Failed")
    assert (made.status_detail or "").startswith("CreateContainerError: ")
    with_init = start(served, "nothing-with-init", "/nowhere/at-all --port 60000")
    found = served.client.get_runtime(with_init.runtime_id, wait_for="error", timeout=DEADLINE)
    assert (found.status, found.pod_status) == (RuntimeStatus.ERROR, "Failed")
    assert found.exit is not None
    assert found.exit.exit_code == 127
    assert found.pod_logs


def test_an_image_that_nobody_has(served: Served) -> None:
    made = start(served, "image", image="127.0.0.1:1/nothing:1", wait=30)
    assert (made.status, made.pod_status) == (RuntimeStatus.ERROR, "Failed")
    assert (made.status_detail or "").startswith("ImagePullBackOff: ")
    assert [each.reason for each in made.events] == ["Scheduled", "ErrImagePull", "ImagePullBackOff"]


def test_a_crash_loop_is_told(served: Served) -> None:
    made = start(served, "loop", "echo broken; exit 3", restart_policy={"Name": "always"}, wait=1)
    assert made.status is RuntimeStatus.STARTING

    def looping() -> Runtime | None:
        found = session(served, "loop")
        return found if found.pod_status == "CrashLoopBackOff" and found.restart_count > 1 else None

    found = eventually(looping, "a crash loop")
    assert found.status is RuntimeStatus.STARTING
    assert "broken" in found.pod_logs
    assert "Error: exit code 3" in found.restart_reasons
    assert found.container_statuses[0].reason == "CrashLoopBackOff"
    assert "CrashLoopBackOff" in {each.reason for each in found.events}
    served.client.remove_runtime(made.runtime_id)


def test_running_out_of_memory_is_told(served: Served) -> None:
    hog = "x=a; while :; do x=$x$x; done"
    made = start(served, "oom", hog, memory="16m", init=False, wait=0)
    found = served.client.get_runtime(made.runtime_id, wait_for="error", timeout=DEADLINE)
    assert found.status is RuntimeStatus.ERROR
    assert found.exit is not None
    assert found.exit.oom_killed
    assert (found.pod_status, found.container_statuses[0].reason) == ("CrashLoopBackOff", "OOMKilled")


def test_a_command_and_a_line_of_output_decide(served: Served) -> None:
    waits = "while [ ! -e /tmp/go ]; do sleep 0.1; done; echo listening now; sleep 1000"
    by_command = served.start(waits, readiness={"type": "command", "command": ["test", "-e", "/tmp/go"]}, wait=0.5)
    by_line = served.start(waits, readiness={"type": "log", "text": "listening"}, wait=0.5)
    for each in (by_command, by_line):
        assert each.status is RuntimeStatus.STARTING
        eventually(lambda each=each: served.client.get_runtime(each.runtime_id).started_at, "it runs")  # type: ignore[misc]
        served.execute(each.runtime_id, ["/bin/sh", "-c", "echo > /tmp/go"])
        assert served.client.wait_until(each.runtime_id, "running", timeout=DEADLINE).status == "running"
        served.client.remove_runtime(each.runtime_id)


def test_the_other_routes_of_those_clients(served: Served) -> None:
    one, two = start(served, "one"), start(served, "two")
    batch = served.ask("GET", "/sessions/batch?ids=one&ids=two&ids=none")
    assert [each["session_id"] for each in batch] == ["one", "two"]
    assert served.ask("GET", "/sessions/batch?ids=two,one") == batch[::-1]
    assert served.ask("GET", f"/runtime/{one.runtime_id}")["runtime_id"] == one.runtime_id
    assert served.ask("GET", "/runtime/two")["runtime_id"] == two.runtime_id
    served.client.pause_runtime(two.runtime_id)
    listed = served.ask("GET", "/list")
    sessions = [each["session_id"] for each in listed["runtimes"]]
    assert "one" in sessions
    assert "two" not in sessions
    assert listed["total"] == len(sessions)
    resumed = served.ask("POST", "/resume", {"runtime_id": two.runtime_id})
    assert {name: resumed[name] for name in ("url", "session_api_key", "session_id", "status")} == {
        "url": two.url,
        "session_api_key": two.session_api_key,
        "session_id": "two",
        "status": "running",
    }
    assert served.ask("GET", "/health") == {"status": "ok"}
    for each in (one, two):
        served.client.remove_runtime(each.runtime_id)


def test_a_published_address_answers_nobody_while_it_is_held_for_a_pull(served: Served) -> None:
    """The address of a start whose image is still being pulled is the runtime's later."""
    made = start(served, "pulling", image="192.0.2.1:9/nothing:1", wait=0.5)
    assert made.status is RuntimeStatus.STARTING
    assert made.url is not None
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"{made.url}/health", timeout=0.5)
    assert served.client.stop_runtime(made.runtime_id, timeout=0).status is RuntimeStatus.STOPPED
