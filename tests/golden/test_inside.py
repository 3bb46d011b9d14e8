"""What a client's start comes to inside a real container."""

from __future__ import annotations

from typing import Any

import pytest

from tests.golden import agents
from tests.golden.conftest import Make, clients
from tests.golden.v0 import MICROMAMBA, RemoteRuntime009
from tests.golden.world import SDK, V0, V1, Kind, OnDocker

AGENT_SERVER = "/usr/local/bin/openhands-agent-server --port 60000"

pytestmark = pytest.mark.engine


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


@clients([], docker=[SDK[0], V0[0], RemoteRuntime009, V1[0]])
def test_the_session_key_reaches_the_service_under_both_names(kind: Kind, make: Make, world: OnDocker) -> None:
    client = make(kind, "key-1")
    client.connect()
    found = settings(world.page(client.url, "environment"))
    assert found["OH_SESSION_API_KEYS_0"] == found["SESSION_API_KEY"] == client.key


@clients([], docker=[SDK[0], V0[0], RemoteRuntime009, V1[0]])
def test_the_command_takes_the_place_of_the_entrypoint(kind: Kind, make: Make, world: OnDocker) -> None:
    client = make(kind, "command-1")
    client.connect()
    command = world.page(client.url, "command")
    if kind in (V0[0], RemoteRuntime009):
        assert command.startswith(" ".join(MICROMAMBA))
        assert world.page(client.url, "folder") == "/openhands/code"
    else:
        assert command == AGENT_SERVER
        assert world.page(client.url, "folder") == ("/" if kind is SDK[0] else "/workspace")


@clients([], docker=[SDK[0], V1[0]])
def test_users_and_groups(kind: Kind, make: Make, world: OnDocker) -> None:
    client = make(kind)
    client.connect()
    # Its own group, where a start names none, is the image's: of a user that the image doesn't know, root's.
    group = "gid=0(root)" if kind is SDK[0] else "gid=10001"
    assert world.page(client.url, "id") == f"uid=10001 {group} groups={group[4:]}" + (
        ",10001" if kind is SDK[0] else ""
    )


@clients([], docker=[V0[0]])
def test_the_environment(kind: Kind, make: Make, world: OnDocker) -> None:
    client = make(kind)
    client.connect()
    found = settings(world.page(client.url, "environment"))
    assert (found["DEBUG"], found["TRACE"]) == ("true", "a=b c")


@clients([], docker=[V0[0]])
def test_the_services_that_answer_are_the_published_ones(kind: Kind, make: Make, world: OnDocker) -> None:
    client: Any = make(kind)
    client.connect()
    found = world.docker.inspect_container(client.runtime_id)["NetworkSettings"]["Ports"]
    published = {
        int(port.partition("/")[0]): f"http://127.0.0.1:{hosts[0]['HostPort']}"
        for port, hosts in found.items()
        if hosts
    }
    assert set(published) == {60000, 60001, 12000, 12001}
    assert client.url == published[60000]
    assert client.work_hosts == {published[12000]: 12000, published[12001]: 12001}
    made = world.docker.exec_create(client.runtime_id, ["/bin/sh", "-c", "httpd -p 12001 -h /tmp/www"])
    world.docker.exec_start(made["Id"])
    assert world.page(published[12001], "alive") == "ok"


@clients([], docker=[SDK[0]])
def test_a_runtime_class_that_the_host_lacks(kind: Kind, make: Make, world: OnDocker) -> None:
    client: Any = make(kind)
    client.connect()
    assert client.start_body()["runtime_class"] == "sysbox-runc"
    has = set(world.docker.info()["Runtimes"])
    used = world.docker.inspect_container(client.runtime_id)["HostConfig"]["Runtime"]
    assert used in has
    assert (
        used == "sysbox-runc"
        or "sysbox-runc" in client.wire.ask("GET", f"/runtime/{client.runtime_id}")["status_detail"]
    )


@clients([], docker=[SDK[0]])
def test_what_an_agent_reads_of_its_workspace(kind: Kind, make: Make, world: OnDocker) -> None:
    """User 10001 can write where OpenHands' images let it."""
    client = make(kind, image=agents.AGENT)
    client.connect()
    made = world.docker.exec_create(client.runtime_id, ["/bin/sh", "-c", "echo x >/workspace/it && echo fine"])
    assert world.docker.exec_start(made["Id"]) == b"fine\n"
