from __future__ import annotations

from typing import Any

import pytest

from runtime_server.models import HttpReady, RunningReady, StartRequest
from runtime_server.runtimes import sessions
from runtime_server.runtimes.sessions import completed, main_port, ready_check


def request(**fields: Any) -> StartRequest:
    return StartRequest.model_validate({"image": "agent", **fields})


def ports(found: StartRequest) -> list[int]:
    return [each.container_port for each in found.ports]


def test_a_start_without_a_session_stays_as_it_is() -> None:
    asked = request(command="sleep 1", ports=[{"container_port": 80}], name="mine")
    assert completed(asked) is asked
    assert ready_check(asked) is None


@pytest.mark.parametrize("who", [{"session_id": "s"}, {"name": "oh-remote-runtime-abc"}])
def test_a_session_publishes_what_clients_know(who: dict[str, Any]) -> None:
    assert ports(completed(request(**who))) == [60000, 60001, 12000, 12001]
    own = completed(request(**who, main_port=8000, ports=[{"container_port": 12000, "host_port": 9000}]))
    assert ports(own) == [12000, 8000, 60001, 12001]
    assert own.ports[0].host_port == 9000
    assert ready_check(request(**who)) == HttpReady(type="http")
    assert HttpReady(type="http").path == ["/health", "/alive"]


def test_an_older_name_of_the_session() -> None:
    found = sessions.named(request(runtime_id="s"))
    assert (found.session_id, found.runtime_id) == ("s", None)
    assert sessions.named(request(runtime_id="s", session_id="t")).session_id == "t"
    asked = request(session_id="t")
    assert sessions.named(asked) is asked


def test_what_is_declared_wins() -> None:
    asked = request(session_id="s", readiness={"type": "running"})
    assert ready_check(asked) == RunningReady(type="running")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("/usr/local/bin/openhands-agent-server --port 60000", "/usr/local/bin/openhands-agent-server --port 60000"),
        (["a", "b"], ["a", "b"]),
        ("cd /x && ./run", ["/bin/sh", "-c", "cd /x && ./run"]),
        ("PORT=1 ./run", ["/bin/sh", "-c", "PORT=1 ./run"]),
        ('echo "$HOME"', ["/bin/sh", "-c", 'echo "$HOME"']),
        ("run 'a b'", "run 'a b'"),
    ],
)
def test_a_command_is_the_whole_command_line(command: str | list[str], line: str | list[str]) -> None:
    found = completed(request(session_id="s", command=command))
    assert (found.entrypoint, found.command) == ([], line)


def test_an_entrypoint_that_is_named_stays() -> None:
    found = completed(request(session_id="s", command="b", entrypoint="a"))
    assert (found.entrypoint, found.command) == ("a", "b")
    assert completed(request(session_id="s")).entrypoint is None


def test_synonyms_become_this_apis_own_words() -> None:
    found = completed(
        request(run_as_user=10001, run_as_group="staff", fs_group=10001, enable_gpu=True, use_host_network=True)
    )
    assert (found.user, found.group_add, found.gpus, found.network) == ("10001:staff", ["10001"], "all", "host")
    assert completed(request(run_as_user="me")).user == "me"
    assert completed(request(enable_gpu=False, use_host_network=False)).network is None
    mounted = completed(request(workspace_mount_path="/srv/x"))
    assert [(each.host_path, each.container_path) for each in mounted.volumes] == [("/srv/x", "/workspace")]
    there = completed(request(workspace_mount_path="/srv/x", workspace_mount_path_in_sandbox="/w"))
    assert there.volumes[0].container_path == "/w"


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "me", "run_as_user": 1},
        {"run_as_group": 1},
        {"workspace_mount_path_in_sandbox": "/w"},
        {"run_as_user": -1},
        {"fs_group": "staff"},
        {"main_port": 0},
        {"readiness": {"type": "http", "path": "health"}},
        {"readiness": {"type": "http", "path": []}},
        {"readiness": {"type": "command", "command": []}},
        {"readiness": {"type": "tea"}},
    ],
)
def test_what_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        request(**wrong)


@pytest.mark.parametrize(
    ("spec", "seen", "port"),
    [
        ({"session_id": "s"}, ["80/tcp"], sessions.MAIN_PORT),
        ({"session_id": "s", "main_port": 7}, [], 7),
        ({"name": "oh-remote-runtime-x"}, [], sessions.MAIN_PORT),
        ({"name": "web"}, ["80/tcp", "53/udp"], 80),
        ({}, ["80/tcp", "81/tcp"], None),
        ({}, ["53/udp"], None),
        ({}, [], None),
    ],
)
def test_the_main_port(spec: dict[str, Any], seen: list[str], port: int | None) -> None:
    assert main_port(spec, seen) == port
