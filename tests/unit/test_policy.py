"""What a start may ask for: each rule, allowed and refused, and what a start gets without asking."""

from __future__ import annotations

import os
from typing import Any

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import DeviceMapping, RuntimeSpec
from runtime_server.errors import LimitOutOfRange, PolicyRefused
from runtime_server.models import StartRequest
from runtime_server.runtimes.policy import Policy
from runtime_server.runtimes.policy_images import allowed
from runtime_server.runtimes.policy_rules import RULES
from runtime_server.settings import PREFIX, Settings

OURS = {labels.INSTANCE: "0123456789abcdef", labels.OWNER: "alice"}


def spec_of(settings: dict[str, Any] | None = None, owner: str = "alice", **fields: Any) -> RuntimeSpec:
    policy = Policy(Settings.model_validate(settings or {}))
    request = StartRequest.model_validate({"image": "busybox", **fields})
    return policy.spec(request, "runtime-0123456789ab", OURS | {labels.OWNER: owner}, {})


RULED: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # the setting, a start that the default allows, one that it refuses, and the setting that allows that
    ("ALLOWED_NETWORKS", {"network": "none"}, {"network": "bridge"}, {"allowed_networks": "bridge"}),
    ("PUBLISH_HOST", {"ports": [{"container_port": 1, "host_ip": "::1"}]},
     {"ports": [{"container_port": 1, "host_ip": "0.0.0.0"}]}, {"publish_host": "0.0.0.0"}),
    ("HOST_PORTS", {"ports": [{"container_port": 1, "host_port": 1024}]},
     {"ports": [{"container_port": 1, "host_port": 1023}]}, {"host_ports": "80,1000-1023"}),
    ("RUNTIME_CLASSES", {"runtime_class": "runc"}, {"runtime_class": "/srv/mine"}, {"runtime_classes": "*=runc"}),
    ("ALLOW_PRIVILEGED", {"privileged": False}, {"privileged": True}, {"allow_privileged": "on"}),
    ("ALLOW_NEW_PRIVILEGES", {"no_new_privileges": True}, {"no_new_privileges": False},
     {"allow_new_privileges": "on"}),
    ("ALLOWED_CAPABILITIES", {"cap_add": ["cap_chown"]}, {"cap_add": ["SYS_PTRACE"]},
     {"allowed_capabilities": "CAP_SYS_PTRACE"}),
    ("ALLOWED_CAPABILITIES", {"cap_drop": ["ALL"]}, {"cap_add": ["all"]}, {"allowed_capabilities": "ALL"}),
    ("ALLOWED_DEVICES", {"devices": []}, {"devices": ["/dev/../dev/null:/dev/fuse:rw"]},
     {"allowed_devices": "/dev/nul*"}),
    ("ALLOW_GPUS", {"gpus": None}, {"gpus": "all"}, {"allow_gpus": "on"}),
    ("MAX_RESOURCE_FACTOR", {"resource_factor": 8}, {"resource_factor": 8.1}, {"max_resource_factor": 16}),
    ("MAX_PIDS", {"pids_limit": 4096}, {"pids_limit": 4097}, {"max_pids": 0}),
    ("MAX_ENVIRONMENT_BYTES", {"environment": {"A": "x" * 131_069}}, {"environment": {"A": "é" * 65_536}},
     {"max_environment_bytes": 200_000}),
    ("MAX_LABELS", {"labels": {f"l{n}": "" for n in range(64)}}, {"labels": {f"l{n}": "" for n in range(65)}},
     {"max_labels": 65}),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "fine", "refused", "lifted"), RULED)
def test_each_rule_has_its_setting(
    setting: str, fine: dict[str, Any], refused: dict[str, Any], lifted: dict[str, Any]
) -> None:
    spec_of(**fine)
    with pytest.raises(PolicyRefused) as caught:
        spec_of(**refused)
    assert caught.value.extensions == {"setting": PREFIX + setting}
    spec_of(lifted, **refused)


def test_every_rule_is_tested() -> None:
    here = {
        "ALLOWED_IMAGES", "ALLOWED_RESTART_POLICIES", "VOLUME_ROOTS", "RESTART_HOST_PATHS", "EXEC_USERS", "ORIGINS",
    }  # fmt: skip
    assert {rule.setting for rule in RULES} == {setting for setting, *_ in RULED} | here
    assert {rule.setting.lower() for rule in RULES} <= set(Settings.model_fields)


def test_restart_policies() -> None:
    asked: dict[str, Any] = {"restart_policy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    assert spec_of(**asked).restart_policy == ("on-failure", 3)
    with pytest.raises(PolicyRefused) as caught:
        spec_of({"allowed_restart_policies": "no"}, **asked)
    assert caught.value.extensions["setting"] == f"{PREFIX}ALLOWED_RESTART_POLICIES"


@pytest.mark.parametrize("network", ["host", "container:abc", "ns:/proc/1/ns/net"])
def test_anothers_network_namespace_is_never_joined(network: str) -> None:
    with pytest.raises(PolicyRefused):
        spec_of({"allowed_networks": network}, network=network)


@pytest.mark.parametrize(
    ("image", "globs", "fits"),
    [
        ("evil.example/x", "*", True),
        ("busybox", "busybox", True),
        ("docker.io/library/busybox:1", "busybox", True),
        ("index.docker.io/busybox", "library/busybox", True),
        ("busybox:1.36", "docker.io/library/*:1.*", True),
        ("busybox:2", "busybox:1.*", False),
        ("busybox:1@sha256:" + "a" * 64, "busybox:1", False),
        ("busybox:1@sha256:" + "a" * 64, "busybox@sha256:a*", True),
        ("evil.example/library/busybox", "busybox", False),
        ("evil.example/docker.io/library/busybox", "docker.io/*", False),
        ("docker.io.evil.example/library/busybox", "docker.io/*", False),
        ("ghcr.io/all-hands/agent:1", "ghcr.io/all-hands/*", True),
        ("ghcr.io/all-hands-evil/agent", "ghcr.io/all-hands/*", False),
        ("registry:5000/x", "registry:5000/*", True),
        ("localhost/x", "x,localhost/y", False),
        ("sha256:" + "a" * 64, "*/*", False),
        ("490b11490189", "docker.io/*", False),
        ("490b11490189", "*", True),
    ],
)
def test_images_by_their_normalized_names(image: str, globs: str, fits: bool) -> None:
    assert allowed(image, globs.split(",")) is fits
    if not fits:
        with pytest.raises(PolicyRefused) as caught:
            spec_of({"allowed_images": globs}, image=image)
        assert caught.value.extensions["setting"] == f"{PREFIX}ALLOWED_IMAGES"


def test_what_a_start_gets_without_asking() -> None:
    spec = spec_of()
    assert spec.no_new_privileges
    assert not spec.privileged
    assert spec.init
    assert spec.cap_drop == ("ALL",)
    assert set(spec.cap_add) == set(Settings().cap_add)
    assert not set(spec.cap_add) & {"NET_RAW", "MKNOD", "SYS_ADMIN", "SETFCAP", "SYS_PTRACE", "NET_ADMIN"}
    assert (spec.pids_limit, spec.memory) == (512, 2 * 2**30)
    assert spec.cpus == min(2, os.cpu_count() or 1)
    assert dict(spec.ulimits) == {"nofile": (16384, 16384), "core": (0, 0)}
    assert (spec.log_max_size, spec.log_max_files) == (10 * 2**20, 3)


def test_a_factor_multiplies_the_defaults_and_no_choice() -> None:
    small = {"default_cpus": 0.1, "default_memory": "100m", "default_ulimits": "nofile=10:20"}
    spec = spec_of(small, resource_factor=4)
    assert (spec.memory, spec.pids_limit) == (400 * 2**20, 2048)
    assert spec.cpus == pytest.approx(0.4)
    assert spec.ulimits["nofile"] == (10, 20)
    spec = spec_of(small, resource_factor=8, cpus=0.5, memory="64m", pids_limit=7)
    assert (spec.cpus, spec.memory, spec.pids_limit) == (0.5, 64 * 2**20, 7)
    spec = spec_of({"default_cpus": 0, "default_memory": "0", "default_pids": 0}, resource_factor=8)
    assert (spec.cpus, spec.memory, spec.pids_limit) == (None, None, None)
    with pytest.raises(LimitOutOfRange):
        spec_of(resource_factor=0.001)


def test_capabilities_are_taken_away_and_added() -> None:
    assert spec_of(cap_drop=["ALL"], cap_add=["CHOWN"]).cap_add == ("CHOWN",)
    assert "KILL" not in spec_of(cap_drop=["cap_kill"]).cap_add


def test_a_runtime_class_is_mapped_and_told() -> None:
    settings = {"runtime_classes": "sysbox-runc=runc,runc=runc,kata=kata|runsc|runc"}
    assert spec_of(settings, runtime_class="sysbox-runc").runtime_class == "runc"
    spec = spec_of(settings, runtime_class="kata")
    assert (spec.runtime_class, spec.other_classes) == ("kata", ("runsc", "runc"))
    policy = Policy(Settings.model_validate(settings))
    asked = StartRequest(image="a", runtime_class="sysbox-runc")
    assert policy.note(asked, "runc") == "runtime_class sysbox-runc is runc on this server"
    assert policy.note(asked, "sysbox-runc") is None
    assert policy.note(StartRequest(image="a"), None) is None


@pytest.mark.parametrize(
    ("asked", "mapping"),
    [
        ("/dev/null", DeviceMapping("/dev/null", "/dev/null", "rwm")),
        ("/dev/null:r", DeviceMapping("/dev/null", "/dev/null", "r")),
        ("/dev/null:/dev/x", DeviceMapping("/dev/null", "/dev/x", "rwm")),
        ("/dev/shm/../null:/dev/x:rw", DeviceMapping("/dev/null", "/dev/x", "rw")),
    ],
)
def test_devices(asked: str, mapping: DeviceMapping) -> None:
    assert spec_of({"allowed_devices": "/dev/null"}, devices=[asked]).devices == (mapping,)


def test_a_volume_is_its_owners_own() -> None:
    volume = [{"host_path": "cache", "container_path": "/c"}]
    alices, bobs = (spec_of(owner=owner, volumes=volume).mounts[0] for owner in ("alice", "bob"))
    assert alices.source != bobs.source
    assert alices.source.startswith("runtime-server-01234567-")
    assert alices.source.endswith("-cache")
    assert alices.labels == {**OURS, labels.VOLUME: "cache"}
    # Nothing that another names can be spelt like it: a whole name is only ever the end of another.
    retold = spec_of(owner="bob", volumes=[{"host_path": alices.source, "container_path": "/c"}]).mounts[0]
    assert retold.source != alices.source


@pytest.mark.parametrize(
    "wrong",
    [{"host_ports": "http"}, {"runtime_classes": "runc"}, {"runtime_classes": "a=/srv/b"},
     {"default_ulimits": "nofile"}, {"default_memory": "lots"}, {"log_max_size": "big"}],
)  # fmt: skip
def test_a_setting_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Settings.model_validate(wrong)


@pytest.mark.parametrize("routing", ["subdomain", "path"])
def test_behind_the_gateway_no_port_is_published(routing: str) -> None:
    behind = {"routing": routing, "domain": "box.example"}
    ports = [{"container_port": 80, "host_port": 80}, {"container_port": 53, "protocol": "udp"}]
    spec = spec_of(behind, ports=ports)
    assert (spec.ports, spec.exposed) == ((), ("80/tcp", "53/udp"))
    policy = Policy(Settings.model_validate(behind))
    asked = StartRequest.model_validate({"image": "busybox", "ports": ports})
    assert "no port is published" in (policy.note(asked, None) or "")
    assert policy.note(asked.model_copy(update={"ports": asked.ports[1:]}), None) is None
