"""Between models and the Engine API's JSON, with plain dicts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from runtime_server.engine import labels, translate
from runtime_server.engine.base import ContainerState, EngineEvent, Listed, Mount, Publish, RuntimeSpec, Snapshot
from runtime_server.engine.stock import PullLayer
from runtime_server.errors import ImageReferenceInvalid
from runtime_server.models import HostPort

LABELS = {labels.INSTANCE: "i", labels.RUNTIME_ID: "runtime-0123456789ab"}

FULL = RuntimeSpec(
    runtime_id="runtime-0123456789ab",
    image="busybox:1",
    labels=LABELS,
    command=("httpd", "-f"),
    entrypoint=("/bin/env",),
    environment={"A": "1", "EMPTY": "", "EQUALS": "a=b"},
    ports=(
        Publish(8000, "tcp", "127.0.0.1"),
        Publish(8000, "tcp", "::1", 80),
        Publish(53, "udp", "127.0.0.1", 5353),
    ),
    mounts=(Mount("/srv/data", "/data", read_only=True), Mount("cache", "/cache")),
    restart_policy=("on-failure", 3),
    network="inner",
    working_dir="/srv",
    user="1000:1000",
    group_add=("video",),
    hostname="box",
    cpus=1.5,
    memory=512 * 2**20,
    pids_limit=64,
    shm_size=2**20,
    read_only=True,
    tmpfs={"/tmp": "size=1m"},
    extra_hosts={"db": "10.0.0.2"},
    init=False,
    gpus=2,
    runtime_class="runsc",
    cap_drop=("ALL",),
    cap_add=("CHOWN", "KILL"),
)

FULL_BODY = {
    "Image": "busybox:1",
    "Labels": LABELS,
    "Cmd": ["httpd", "-f"],
    "Entrypoint": ["/bin/env"],
    "Env": ["A=1", "EMPTY=", "EQUALS=a=b"],
    "ExposedPorts": {"8000/tcp": {}, "53/udp": {}},
    "WorkingDir": "/srv",
    "User": "1000:1000",
    "Hostname": "box",
    "HostConfig": {
        "NetworkMode": "inner",
        "PortBindings": {
            "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}, {"HostIp": "::1", "HostPort": "80"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
        },
        "Mounts": [
            {"Type": "bind", "Source": "/srv/data", "Target": "/data", "ReadOnly": True},
            {"Type": "volume", "Source": "cache", "Target": "/cache", "ReadOnly": False},
        ],
        "NanoCpus": 1_500_000_000,
        "Memory": 536_870_912,
        "MemorySwap": 536_870_912,
        "PidsLimit": 64,
        "ShmSize": 1_048_576,
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "size=1m"},
        "ExtraHosts": ["db:10.0.0.2"],
        "Init": False,
        "GroupAdd": ["video"],
        "DeviceRequests": [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}],
        "Runtime": "runsc",
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "CapDrop": ["ALL"],
        "CapAdd": ["CHOWN", "KILL"],
        "SecurityOpt": ["no-new-privileges"],
    },
}


def test_a_specification_with_everything() -> None:
    assert translate.create_body(FULL) == FULL_BODY


def test_a_specification_with_nothing_leaves_all_else_to_image_and_engine() -> None:
    spec = RuntimeSpec("runtime-0123456789ab", "busybox", LABELS, cap_drop=(), no_new_privileges=False)

    assert translate.create_body(spec) == {
        "Image": "busybox",
        "Labels": LABELS,
        "Env": [],
        "ExposedPorts": {},
        "Hostname": "runtime-0123456789ab",
        "HostConfig": {"Init": True},
    }


def test_ports_that_are_exposed_only() -> None:
    body = translate.create_body(RuntimeSpec("runtime-0", "busybox", LABELS, exposed=("8000/tcp", "53/udp")))
    assert body["ExposedPorts"] == {"8000/tcp": {}, "53/udp": {}}
    assert "PortBindings" not in body["HostConfig"]


@pytest.mark.parametrize("network", ["host", "container:abc"])
def test_a_foreign_network_namespace_keeps_its_host_name(network: str) -> None:
    spec = RuntimeSpec("runtime-0123456789ab", "busybox", LABELS, network=network)

    assert "Hostname" not in translate.create_body(spec)


def test_all_gpus() -> None:
    spec = RuntimeSpec("runtime-0123456789ab", "busybox", LABELS, gpus="all")

    assert translate.create_body(spec)["HostConfig"]["DeviceRequests"][0]["Count"] == -1


def test_an_empty_command_and_entrypoint_take_away_the_images() -> None:
    body = translate.create_body(RuntimeSpec("r", "busybox", LABELS, command=(), entrypoint=()))

    assert (body["Cmd"], body["Entrypoint"]) == ([], [])


INSPECTED: dict[str, Any] = {
    "Id": "4f0c",
    "Name": "/runtime-0123456789ab",
    "Created": "2026-03-01T12:00:00.123456789Z",
    "Image": "sha256:abc",
    "RestartCount": 2,
    "State": {
        "Status": "exited",
        "ExitCode": 137,
        "OOMKilled": True,
        "Error": "",
        "StartedAt": "2026-03-01T12:00:01.5Z",
        "FinishedAt": "2026-03-01T13:00:02+01:00",
    },
    "Config": {
        "Image": "busybox:1",
        "Labels": LABELS,
        "Env": ["A=1", "EQUALS=a=b", "BARE"],
        "ExposedPorts": {"8000/tcp": {}, "9000/tcp": {}, "53/udp": {}},
    },
    "NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}], "9000/tcp": None}},
}


def test_a_snapshot_with_everything() -> None:
    assert translate.snapshot(INSPECTED) == Snapshot(
        container_id="4f0c",
        name="runtime-0123456789ab",
        state=ContainerState.EXITED,
        image="busybox:1",
        labels=LABELS,
        ports={"8000/tcp": [HostPort(HostIp="127.0.0.1", HostPort="32768")], "9000/tcp": [], "53/udp": []},
        environment={"A": "1", "EQUALS": "a=b", "BARE": ""},
        exit_code=137,
        oom_killed=True,
        error="",
        created_at=1772366400.123456,
        started_at=1772366401.5,
        finished_at=1772366402.0,
        restart_count=2,
    )


def test_what_waits_for_its_restart_tells_how_it_ended() -> None:
    attrs = copy.deepcopy(INSPECTED)
    attrs["State"] = {"Status": "restarting", "ExitCode": 3, "OOMKilled": False}
    assert translate.snapshot(attrs).exit_code == 3


@pytest.mark.parametrize(
    ("health", "told"),
    [({"Status": "none"}, None), ({"Status": ""}, None), (None, None), ({"Status": "unhealthy"}, "unhealthy")],
)
def test_health_is_told_where_there_is_a_healthcheck(health: dict[str, Any] | None, told: str | None) -> None:
    attrs = copy.deepcopy(INSPECTED)
    attrs["State"]["Health"] = health
    assert translate.snapshot(attrs).health == told


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"IPAddress": "172.17.0.2"}, "172.17.0.2"),
        ({"IPAddress": "", "Networks": {"a": {"IPAddress": "10.0.0.2"}}}, "10.0.0.2"),
        ({"IPAddress": "", "Networks": {"a": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"}}}, "fd00::2"),
        ({"Networks": {"none": {"IPAddress": ""}}}, None),
        ({"Networks": None}, None),
    ],
)
def test_the_address_is_of_the_first_network_that_has_one(settings: dict[str, Any], address: str | None) -> None:
    attrs = copy.deepcopy(INSPECTED)
    attrs["NetworkSettings"] = settings
    assert translate.snapshot(attrs).address == address


@pytest.mark.parametrize("status", ["created", "running", "paused"])
def test_what_has_not_ended_has_no_exit_code_and_no_times_that_are_not(status: str) -> None:
    attrs = copy.deepcopy(INSPECTED)
    attrs["State"] = {
        "Status": status,
        "ExitCode": 0,
        "StartedAt": "0001-01-01T00:00:00Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    }

    found = translate.snapshot(attrs)

    assert found.state == status
    assert (found.exit_code, found.started_at, found.finished_at) == (None, None, None)


def test_a_snapshot_of_what_has_neither_labels_nor_network() -> None:
    found = translate.snapshot(
        {"Id": "4f", "Name": "x", "Image": "sha256:abc", "State": {"Status": "dead"}, "Config": {"Labels": None}}
    )

    assert (found.labels, found.ports, found.environment, found.image) == ({}, {}, {}, "sha256:abc")


def test_podmans_ports_and_states() -> None:
    ports = translate.ports({"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": None})

    assert ports == {"80/tcp": [HostPort(HostIp="0.0.0.0", HostPort="8080")], "81/tcp": []}
    words = ("configured", "initialized", "stopping", "stopped", "Running", "what")
    assert [translate.container_state(word).value for word in words] == [
        "created",
        "created",
        "running",
        "exited",
        "running",
        "dead",
    ]


def test_a_listed_container_is_known_by_its_own_name() -> None:
    attrs = {"Id": "4f", "Names": ["/other/alias", "/runtime-1"], "State": "paused", "Labels": LABELS}

    assert translate.listed(attrs) == Listed("4f", "runtime-1", ContainerState.PAUSED, LABELS)
    assert translate.listed({"Id": "4f", "Names": None, "State": "created", "Labels": None}).labels == {}


def message(**changes: Any) -> dict[str, Any]:
    return {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "4f", "Attributes": {**LABELS, "exitCode": "0"}},
        "time": 1772366400,
        "timeNano": 1772366400123456789,
        **changes,
    }


def test_an_event() -> None:
    expected = EngineEvent("4f", "runtime-0123456789ab", "die", 1772366400123456789 / 1e9, exit_code=0)

    assert translate.event(message()) == expected
    assert translate.event(message(Action="died")) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"Type": "network"},
        {"Action": "exec_start: /bin/sh"},
        {"Action": "health_status: healthy"},
        {"Actor": {"ID": "4f", "Attributes": {"name": "foreign"}}},
        {"Actor": {"ID": "4f", "Attributes": None}},
        {"Actor": None},
    ],
)
def test_what_is_no_event_of_a_runtime(changes: dict[str, Any]) -> None:
    assert translate.event(message(**changes)) is None


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("busybox", "busybox", "latest"),
        ("busybox:1.36", "busybox", "1.36"),
        ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app", "latest"),
        ("ghcr.io/all-hands/agent_server:0.1-x", "ghcr.io/all-hands/agent_server", "0.1-x"),
        ("a/b:tag@sha256:" + "0" * 64, "a/b", "sha256:" + "0" * 64),
        ("[::1]:5000/x", "[::1]:5000/x", "latest"),
    ],
)
def test_image_references(image: str, name: str, tag: str) -> None:
    assert translate.image_reference(image) == (name, tag)


@pytest.mark.parametrize(
    "image",
    ["", "Busybox", "a..b", "../containers/x", "a/../b", "/a", "a/", "a:", "a b", "a?x=1", "a@sha256:12", "a\n"],
)
def test_what_is_no_image_reference(image: str) -> None:
    with pytest.raises(ImageReferenceInvalid) as caught:
        translate.image_reference(image)
    assert caught.value.extensions == {"image": image}


def test_versions() -> None:
    docker = {"Version": "20.10.24", "ApiVersion": "1.41", "Components": [{"Name": "Engine"}]}
    podman = {"Version": "4.3.1", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]}

    assert translate.engine_version(docker).name == "Docker Engine"
    assert translate.engine_version(podman).name == "Podman Engine"
    assert translate.engine_version({"Version": "1"}).version == "1"


def test_the_progress_of_a_pull() -> None:
    progress = translate.PullProgress()
    messages: list[dict[str, Any]] = [
        {"status": "Pulling from library/busybox", "id": "latest"},
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Already exists", "id": "b"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1_500_000, "total": 3_000_000}},
        {"status": "Pull complete", "id": "a"},
        {"status": "Status: Downloaded newer image"},
    ]

    states = [progress.state(each) for each in messages]

    assert [each.sentence for each in states] == [
        "Pulling",
        "Pulling: 0 of 1 layers",
        "Pulling: 1 of 2 layers",
        "Pulling: 1 of 2 layers, 1.5 of 3.0 MB",
        "Pulling: 2 of 2 layers, 3.0 of 3.0 MB",
        "Pulling: 2 of 2 layers, 3.0 of 3.0 MB",
    ]
    assert [each.layers[0] for each in states[3:5]] == [
        PullLayer("a", "Downloading", 1_500_000, 3_000_000),
        PullLayer("a", "Pull complete", 3_000_000, 3_000_000),
    ]
    assert states[4].layers[1] == PullLayer("b", "Already exists")


def test_layers_that_are_unpacked_are_downloaded() -> None:
    progress = translate.PullProgress()
    progress.state({"status": "Downloading", "id": "a", "progressDetail": {"current": 1_000_000, "total": 2_000_000}})
    loaded = progress.state({"status": "Download complete", "id": "a"})
    unpacked = progress.state({"status": "Extracting", "id": "a", "progressDetail": {"current": 3, "total": 9}})

    assert loaded.layers == (PullLayer("a", "Download complete", 2_000_000, 2_000_000),)
    assert unpacked.layers == (PullLayer("a", "Extracting", 3, 9),)
    assert unpacked.sentence == "Pulling: 0 of 1 layers, 2.0 of 2.0 MB"
