"""Each error of a start that a real engine can be brought to, through HTTP and client; nothing is left of any."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from runtime_server import errors
from runtime_server.models import RuntimeStatus
from tests.engine.images import BUSYBOX
from tests.engine.served import Served, eventually, serve


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    networks = ("bridge", "none", "no-such-network")
    rules = {"allowed_networks": networks, "runtime_classes": ("no-such-class=no-such-class",)}
    with serve(tmp_path_factory.mktemp("errors"), docker_client, **rules) as found:
        yield found


SLEEP = ["/bin/sleep", "1000"]
ROWS: list[tuple[str, dict[str, Any], type[errors.Problem]]] = [
    ("image missing", {"image": "no-such-image-here", "image_pull_policy": "Never"}, errors.ImageNotFound),
    ("registry away", {"image": "127.0.0.1:1/nothing"}, errors.ImagePullFailed),
    ("image reference", {"image": "UPPER:::case"}, errors.ImageReferenceInvalid),
    ("command missing", {"command": ["/no/such/command"], "init": False}, errors.CommandNotFound),
    ("command a folder", {"command": ["/etc"], "init": False}, errors.CommandNotExecutable),
    ("network missing", {"network": "no-such-network"}, errors.NetworkNotFound),
    ("runtime class", {"runtime_class": "no-such-class"}, errors.RuntimeClassUnknown),
    ("too many CPUs", {"cpus": (os.cpu_count() or 1) + 1000}, errors.LimitOutOfRange),
    ("too little memory", {"memory": "1m"}, errors.LimitOutOfRange),
    ("user missing", {"user": "nobody-of-that-name"}, errors.UserUnknown),
    ("path outside", {"volumes": [{"host_path": "/etc", "container_path": "/x"}]}, errors.PolicyRefused),
    ("network refused", {"network": "host"}, errors.PolicyRefused),
    (
        "address refused",
        {"ports": [{"container_port": 80, "host_ip": "192.0.2.1"}], "network": "bridge"},
        errors.PolicyRefused,
    ),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_start_that_fails(served: Served, changes: dict[str, Any], expected: type[errors.Problem]) -> None:
    with pytest.raises(expected) as caught:
        served.client.start_runtime({"image": BUSYBOX, "command": SLEEP, "network": "none", **changes})

    assert caught.value.status == expected.status
    assert caught.value.request_id
    assert served.containers() == []


def test_a_mount_without_a_source(served: Served) -> None:
    missing = str(served.volumes / "missing")
    with pytest.raises(errors.MountSourceMissing) as caught:
        served.start(volumes=[{"host_path": missing, "container_path": "/x"}])

    assert caught.value.extensions["host_path"] == missing
    assert served.containers() == []


def test_the_socket_and_the_state_cant_be_mounted(served: Served, tmp_path: Path) -> None:
    link = served.volumes / "link"
    link.symlink_to("/var/run")
    for path in (str(link), str(link / "docker.sock"), f"{served.volumes}/../state"):
        with pytest.raises(errors.PolicyRefused) as caught:
            served.start(volumes=[{"host_path": path, "container_path": "/x"}])
        assert caught.value.extensions["setting"] == "RUNTIME_SERVER_VOLUME_ROOTS"


def test_a_port_of_another_container(served: Served) -> None:
    first = served.start(network="bridge", ports=[{"container_port": 80}])
    taken = int(first.ports["80/tcp"][0].HostPort)
    with pytest.raises(errors.PortInUse):
        served.start(network="bridge", ports=[{"container_port": 80, "host_port": taken}])

    assert [each["Id"] for each in served.containers()] == [first.container_id]
    served.client.remove_runtime(first.runtime_id)


def test_a_port_of_another_process(served: Served, docker_client: APIClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ports = [{"container_port": 80, "host_port": listener.getsockname()[1]}]
        try:
            started = served.start(network="bridge", ports=ports)
        except errors.PortInUse:
            assert served.containers() == []
            return
        # 20.10 may start without the port (see the engine's facts): nothing to refuse then.
        assert docker_client.version()["Version"].startswith("20.10")
        served.client.remove_runtime(started.runtime_id)


def test_with_an_init_a_missing_command_ends_in_error(served: Served) -> None:
    started = served.client.start_runtime(image=BUSYBOX, command=["/no/such/command"], network="none")
    found = eventually(
        lambda: now if (now := served.client.get_runtime(started.runtime_id)).status == "error" else None, "error"
    )

    assert found.status is RuntimeStatus.ERROR
    assert found.exit is not None
    assert found.exit.exit_code == 127
    served.client.remove_runtime(started.runtime_id)


def test_an_unknown_runtime_and_what_makes_no_sense(served: Served) -> None:
    for call in (served.client.pause_runtime, served.client.resume_runtime, served.client.stop_runtime):
        with pytest.raises(errors.RuntimeNotFound):
            call("runtime-000000000000")
    stopped = served.start()
    served.client.stop_runtime(stopped.runtime_id, timeout=0)
    for call in (served.client.pause_runtime, served.client.resume_runtime):
        with pytest.raises(errors.InvalidState) as caught:
            call(stopped.runtime_id)
        assert caught.value.extensions["runtime_status"] == "stopped"
        assert caught.value.extensions["allowed_actions"] == ["stop", "remove", "restart", "update"]
    served.client.remove_runtime(stopped.runtime_id)
