"""What policy decides, as a real engine carries it out: looked up in its inspection and in ``/proc``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import NotFound
from falcon.testing import TestClient

from runtime_server.engine import labels
from runtime_server.engine.base import RuntimeSpec
from runtime_server.engine.docker import DockerEngine
from runtime_server.errors import PolicyRefused
from runtime_server.models import StartRequest
from runtime_server.runtimes import policy_mounts, steps
from runtime_server.runtimes.policy import Policy
from runtime_server.service import Service, build
from runtime_server.settings import Settings
from runtime_server.state import prepare
from tests.engine import images

SLEEP: dict[str, Any] = {"image": images.BUSYBOX, "command": "sleep 1000", "network": "none"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("policy") / "root"
    root.mkdir()
    return root


@pytest.fixture(scope="module")
def service(root: Path, test_images: None) -> Iterator[Service]:
    settings = Settings(
        state_dir=root.parent / "state",
        volume_roots=(str(root),),
        api_keys="alice:key-alice,bob:key-bob",
        allowed_images=("runtime-server-test/*",),
        allow_new_privileges=True,
    )
    prepare(settings)
    service = build(settings)
    try:
        yield service
    finally:
        for each in service.engine.list():
            service.engine.remove(each.container_id)
        service.close()


Start = Callable[..., dict[str, Any]]


@pytest.fixture
def start(service: Service, docker_client: APIClient) -> Start:
    """Starts a runtime through the API, and returns how the engine describes its container."""

    def start(owner: str = "alice", **fields: Any) -> dict[str, Any]:
        client = TestClient(service.app, headers={"X-API-Key": f"key-{owner}"})
        answer = client.simulate_post("/start", json={**SLEEP, "wait": 60, **fields})
        assert answer.status_code == 201, answer.json
        found: dict[str, Any] = docker_client.inspect_container(answer.json["container_id"])
        return found

    return start


def in_container(client: APIClient, container: str, command: list[str]) -> str:
    made = client.exec_create(container, command)
    return str(client.exec_start(made["Id"]).decode())


def status_of(container: dict[str, Any]) -> dict[str, str]:
    text = Path(f"/proc/{container['State']['Pid']}/status").read_text()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
)  # fmt: skip
"""By number (capabilities(7))."""


def test_the_defaults_are_the_kernels(start: Start, docker_client: APIClient) -> None:
    found = start()
    host = found["HostConfig"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Privileged"], host["Init"], host["PidsLimit"]) == (False, True, 512)
    assert host["Memory"] == 2 * 2**30
    assert host["NanoCpus"] == min(2, os.cpu_count() or 1) * 10**9
    assert {each["Name"]: each["Hard"] for each in host["Ulimits"]} == {"nofile": 16384, "core": 0}
    assert host["LogConfig"]["Config"] == {"max-size": str(10 * 2**20), "max-file": "3"}
    status = status_of(found)
    kept = sum(1 << CAPABILITIES.index(each) for each in Settings().cap_add)
    # In each set: what the process may do, could take, and may hand on.
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) & ~kept == 0
    assert int(status["CapBnd"], 16) == kept
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    said = in_container(docker_client, found["Id"], ["/bin/sh", "-c", "ulimit -n; ulimit -c; cat /proc/1/comm"])
    assert said.split() == ["16384", "0", "docker-init"]
    memory = in_container(
        docker_client,
        found["Id"],
        ["/bin/sh", "-c", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"],
    )
    assert memory.split() == [str(2 * 2**30)]


def test_one_setting_lets_sudo_work(start: Start) -> None:
    assert status_of(start(no_new_privileges=False))["NoNewPrivs"] == "0"


def test_a_factor_and_less_capabilities(start: Start) -> None:
    found = start(resource_factor=2, cap_drop=["ALL"], cap_add=["KILL"])
    assert (found["HostConfig"]["PidsLimit"], found["HostConfig"]["Memory"]) == (1024, 4 * 2**30)
    assert int(status_of(found)["CapBnd"], 16) == 1 << CAPABILITIES.index("KILL")


def test_another_owners_volume_is_another(start: Start, docker_client: APIClient) -> None:
    volume = {"volumes": [{"host_path": "cache", "container_path": "/c"}]}
    alices, again, bobs = start("alice", **volume), start("alice", **volume), start("bob", **volume)
    names = [each["Mounts"][0]["Name"] for each in (alices, again, bobs)]
    try:
        assert names[0] == names[1] != names[2]
        in_container(docker_client, alices["Id"], ["/bin/sh", "-c", "echo secret > /c/note"])
        assert in_container(docker_client, again["Id"], ["/bin/cat", "/c/note"]) == "secret\n"
        assert in_container(docker_client, bobs["Id"], ["/bin/ls", "/c"]) == ""
        made = docker_client.inspect_volume(names[2])["Labels"]
        assert (made[labels.OWNER], made[labels.VOLUME]) == ("bob", "cache")
    finally:
        for container in (alices, again, bobs):
            docker_client.remove_container(container["Id"], force=True)
        for name in set(names):
            docker_client.remove_volume(name)


@pytest.mark.parametrize("step", ["created", "started"])
def test_a_link_swapped_in_time_doesnt_help(
    service: Service, root: Path, docker_client: APIClient, step: str
) -> None:
    mine = root / f"mine-{step}"
    mine.mkdir()
    swapped: list[str] = []

    def swap(reached: str, runtime_id: str) -> None:
        if reached == step and not swapped:
            swapped.append(runtime_id)
            mine.rename(root / f"was-{step}")
            mine.symlink_to("/etc")

    client = TestClient(service.app, headers={"X-API-Key": "key-alice"})
    steps.hooks.append(swap)
    try:
        volume = {"host_path": str(mine), "container_path": "/data"}
        answer = client.simulate_post("/start", json={**SLEEP, "wait": 60, "volumes": [volume]})
    finally:
        steps.hooks.remove(swap)
    assert (answer.status_code, answer.json["code"]) == (403, "policy-refused"), answer.json
    with pytest.raises(NotFound):
        docker_client.inspect_container(swapped[0])


def spec_of(engine: DockerEngine, root: Path, path: Path) -> RuntimeSpec:
    """What policy makes of a start with a host path."""
    policy = Policy(Settings(volume_roots=(str(root),), state_dir=root.parent / "state"))
    volume = {"host_path": str(path), "container_path": "/da ta"}
    request = StartRequest.model_validate({**SLEEP, "volumes": [volume]})
    runtime_id = f"runtime-{os.urandom(6).hex()}"
    ours = {labels.INSTANCE: engine.instance, labels.RUNTIME_ID: runtime_id}
    return policy.spec(request, runtime_id, ours, {})


def test_a_swap_to_and_fro_is_seen_in_what_is_mounted(docker_engine: DockerEngine, root: Path) -> None:
    mine, was, other = root / "fro", root / "fro-was", root / "fro-other"
    mine.mkdir()
    other.mkdir()
    spec = spec_of(docker_engine, root, mine)
    plain = spec_of(docker_engine, root, mine)
    container = docker_engine.create(plain)
    docker_engine.start(container)
    policy_mounts.mounted(plain, docker_engine.inspect(container))

    container = docker_engine.create(spec)
    mine.rename(was)
    mine.symlink_to(other)
    docker_engine.start(container)
    mine.unlink()
    was.rename(mine)
    policy_mounts.unswapped(spec)
    with pytest.raises(PolicyRefused):
        policy_mounts.mounted(spec, docker_engine.inspect(container))


def test_an_engine_whose_log_driver_knows_no_sizes(
    docker_engine: DockerEngine, docker_client: APIClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []
    create = APIClient.create_container_from_config

    def on_journald(self: APIClient, config: dict[str, Any], *arguments: Any, **more: Any) -> Any:
        config = json.loads(json.dumps(config))
        config["HostConfig"].setdefault("LogConfig", {"Config": {}})["Type"] = "journald"
        sent.append(config["HostConfig"]["LogConfig"])
        return create(self, config, *arguments, **more)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(APIClient, "create_container_from_config", on_journald)
    folder = root / "logs"
    folder.mkdir()
    for _ in range(2):
        spec = dataclasses.replace(spec_of(docker_engine, root, folder), log_max_size=2**20)
        with contextlib.suppress(NotFound):
            docker_engine.create(spec)
    # Refused once, and never asked for again.
    assert [bool(each["Config"]) for each in sent] == [True, False, False]
