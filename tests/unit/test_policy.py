from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runtime_server.engine.base import Mount, RuntimeSpec
from runtime_server.errors import LimitOutOfRange, PolicyRefused, ValidationFailed
from runtime_server.models import StartRequest
from runtime_server.runtimes.policy import Policy
from runtime_server.settings import PREFIX, Settings


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    (tmp_path / "root" / "deep").mkdir(parents=True)
    return tmp_path / "root"


def spec(root: Path, request: dict[str, Any], forbidden: tuple[str, ...] = (), **settings: Any) -> RuntimeSpec:
    values: dict[str, Any] = {"state_dir": root.parent / "state", "volume_roots": (str(root),)}
    policy = Policy(Settings.model_validate({**values, **settings}), forbidden)
    wanted = StartRequest.model_validate({"image": "busybox", **request})
    return policy.spec(wanted, "runtime-0", {"a": "b"}, {"KEY": "ours"})


def volume(path: str | Path, **more: str) -> dict[str, Any]:
    return {"volumes": [{"host_path": str(path), "container_path": "/work", **more}]}


def test_defaults_are_safe(root: Path) -> None:
    made = spec(root, {"environment": {"KEY": "theirs", "OWN": "1"}, "ports": [{"container_port": 80}]})
    assert made.environment == {"KEY": "ours", "OWN": "1"}
    assert made.cap_drop == ("ALL",)
    assert "SYS_ADMIN" not in made.cap_add
    assert "NET_RAW" not in made.cap_add
    assert (made.no_new_privileges, made.init) == (True, True)
    assert (made.memory, made.pids_limit, made.cpus) == (2 * 2**30, 1024, None)
    assert [(each.host_ip, each.host_port) for each in made.ports] == [("127.0.0.1", None)]


def test_limits_come_from_the_request_else_from_the_settings(root: Path) -> None:
    asked: dict[str, Any] = {"memory": "64m", "cpus": 0.5, "pids_limit": 7, "shm_size": "1m"}
    defaults: dict[str, Any] = {"default_memory": "32m", "default_cpus": 2.0, "default_pids": 9}
    own, given = spec(root, asked, **defaults), spec(root, {}, **defaults)
    assert (own.memory, own.cpus, own.pids_limit, own.shm_size) == (64 * 2**20, 0.5, 7, 2**20)
    assert (given.memory, given.cpus, given.pids_limit, given.shm_size) == (32 * 2**20, 2.0, 9, None)
    unlimited = spec(root, {}, default_memory="0", default_cpus=0, default_pids=0)
    assert (unlimited.memory, unlimited.cpus, unlimited.pids_limit) == (None, None, None)
    with pytest.raises(LimitOutOfRange):
        spec(root, {"memory": "5m"})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"network": "host"}, "ALLOWED_NETWORKS"),
    "address": ({"ports": [{"container_port": 80, "host_ip": "0.0.0.0"}]}, "PUBLISH_HOST"),
    "no address": ({"ports": [{"container_port": 80, "host_ip": "localhost"}]}, "PUBLISH_HOST"),
    "path": (volume("/etc"), "VOLUME_ROOTS"),
    "dots": (volume("{root}/../secret"), "VOLUME_ROOTS"),
    "link": (volume("{root}/link"), "VOLUME_ROOTS"),
    "sibling": (volume("{root}-not"), "VOLUME_ROOTS"),
    "all": (volume("/"), "VOLUME_ROOTS"),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_each_refusal_names_its_setting(root: Path, rule: str) -> None:
    (root / "link").symlink_to("/etc")
    request, setting = REFUSED[rule]
    volumes: list[dict[str, str]] = request.get("volumes", [])
    for each in volumes:
        request = volume(each["host_path"].format(root=root))
    with pytest.raises(PolicyRefused) as caught:
        spec(root, request)
    assert caught.value.extensions == {"setting": PREFIX + setting}
    assert PREFIX + setting in caught.value.detail


def test_what_the_settings_allow_passes(root: Path) -> None:
    assert spec(root, {"network": "mine"}, allowed_networks=("mine",)).network == "mine"
    for host, setting in [("127.0.0.2", "10.0.0.1"), ("::1", "10.0.0.1"), ("10.0.0.1", "10.0.0.1")]:
        made = spec(root, {"ports": [{"container_port": 80, "host_ip": host}]}, publish_host=setting)
        assert made.ports[0].host_ip == host
    (root / "inside").symlink_to(root / "deep")
    assert spec(root, volume(root / "inside", mode="ro")).mounts == (Mount(str(root / "deep"), "/work", True),)
    assert spec(root, volume("data")).mounts == (Mount("data", "/work"),)


def test_the_socket_and_the_state_directory_are_never_mounted(root: Path) -> None:
    everything: dict[str, Any] = {"volume_roots": ("/",), "forbidden": (str(root / "deep" / "docker.sock"),)}
    for path in [
        root / "deep" / "docker.sock",
        root / "deep",
        root,
        root.parent / "state",
        root.parent / "state/x",
        "/",
    ]:
        with pytest.raises(PolicyRefused, match="can't be mounted"):
            spec(root, volume(str(path)), **everything)
    (root / "beside").mkdir()
    assert spec(root, volume(root / "beside"), **everything).mounts


def test_commands_are_split_as_a_shell_would(root: Path) -> None:
    made = spec(root, {"command": "sh -c 'echo $HOME; true'", "entrypoint": ["a b", ""]})
    assert made.command == ("sh", "-c", "echo $HOME; true")
    assert made.entrypoint == ("a b", "")
    assert spec(root, {}).command is None
    for field in ("command", "entrypoint"):
        with pytest.raises(ValidationFailed) as caught:
            spec(root, {field: "echo 'open"})
        assert caught.value.extensions["errors"][0]["loc"] == [field]
