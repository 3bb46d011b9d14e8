"""Hostile requests against the whole service: each has its error, and the engine is not even asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient

from runtime_server.testing import InMemoryServer, in_memory_server

JSON = {"Content-Type": "application/json"}
OWN = "runtime-server."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What may be mounted, and links out of it."""
    root = tmp_path_factory.mktemp("hostile") / "root"
    root.mkdir()
    (root / "etc").symlink_to("/etc")
    (root / "up").symlink_to("../..")
    (root / "self").symlink_to("/proc/self/root")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[InMemoryServer]:
    with in_memory_server(
        volume_roots=str(folder), allowed_images="busybox,good.example/*", allowed_networks="bridge,host,container:x"
    ) as server:
        yield server


@pytest.fixture
def client(server: InMemoryServer) -> Iterator[TestClient]:
    """A client, and at the end the proof that the engine has neither been asked nor changed."""
    asked = ("create", "start", "pull", "image_present", "remove", "stop", "pause", "resume", "logs")
    server.engine.calls.clear()
    client = TestClient(server.app, headers={"X-API-Key": server.api_key})
    yield client
    assert {name: server.engine.calls[name] for name in asked if server.engine.calls[name]} == {}
    assert server.engine.list() == []
    assert client.simulate_get("/runtimes").json["runtimes"] == []


def volume(path: str, target: str = "/data") -> dict[str, Any]:
    return {"volumes": [{"host_path": path, "container_path": target}]}


def port(**fields: Any) -> dict[str, Any]:
    return {"ports": [{"container_port": 80, **fields}]}


ROOTS, IMAGES, NETWORKS = "VOLUME_ROOTS", "ALLOWED_IMAGES", "ALLOWED_NETWORKS"

REFUSED: list[tuple[dict[str, Any], str]] = [
    # path traversal, by name and by link; ROOT is a folder that may be mounted
    (volume("/"), ROOTS),
    (volume("/etc/shadow"), ROOTS),
    (volume("//etc"), ROOTS),
    (volume("ROOT/../../etc"), ROOTS),
    (volume("ROOT/./x/../../../../../../etc"), ROOTS),
    (volume("ROOTx"), ROOTS),
    (volume("ROOT/etc"), ROOTS),
    (volume("ROOT/etc/passwd"), ROOTS),
    (volume("ROOT/up"), ROOTS),
    (volume("ROOT/self/etc"), ROOTS),
    (volume("ROOT/fifo"), ROOTS),
    (volume("/proc/self/cwd"), ROOTS),
    (volume("/proc/1/root"), ROOTS),
    (volume("/var/run/docker.sock"), ROOTS),
    (volume("/var/../run//docker.sock"), ROOTS),
    (volume("/run"), ROOTS),
    # images by other spellings, by id, and by a host that looks like another
    ({"image": "evil.example/x"}, IMAGES),
    ({"image": "busybox.evil.example/busybox"}, IMAGES),
    ({"image": "evil.example/busybox:latest"}, IMAGES),
    ({"image": "good.example.evil.example/x"}, IMAGES),
    ({"image": "good.example:5000/x"}, IMAGES),
    ({"image": "docker.io/evil/busybox"}, IMAGES),
    ({"image": "sha256:" + "ab" * 32}, IMAGES),
    ({"image": "490b11490189"}, IMAGES),
    # other namespaces, even where they are listed
    ({"network": "host"}, NETWORKS),
    ({"network": "container:x"}, NETWORKS),
    ({"network": "ns:/proc/1/ns/net"}, NETWORKS),
    ({"network": "Bridge"}, NETWORKS),
    ({"network": "bridge "}, NETWORKS),
    ({"network": "ｂridge"}, NETWORKS),
    # addresses and ports
    (port(host_ip="0.0.0.0"), "PUBLISH_HOST"),
    (port(host_ip="::"), "PUBLISH_HOST"),
    (port(host_ip="127.0.0.1:80"), "PUBLISH_HOST"),
    (port(host_ip="127.1"), "PUBLISH_HOST"),
    (port(host_ip="0x7f.1"), "PUBLISH_HOST"),
    (port(host_ip="::1%eth0"), "PUBLISH_HOST"),
    (port(host_ip="127.0.0.1\r\nX: y"), "PUBLISH_HOST"),
    (port(host_port=22), "HOST_PORTS"),
    # what makes a container the host
    ({"privileged": True}, "ALLOW_PRIVILEGED"),
    ({"no_new_privileges": False}, "ALLOW_NEW_PRIVILEGES"),
    ({"cap_add": ["sys_admin"]}, "ALLOWED_CAPABILITIES"),
    ({"cap_add": ["CAP_CAP_CHOWN"]}, "ALLOWED_CAPABILITIES"),
    ({"cap_add": ["ALL"]}, "ALLOWED_CAPABILITIES"),
    ({"devices": ["/dev/sda"]}, "ALLOWED_DEVICES"),
    ({"devices": ["/dev/null/../mem:/dev/null:r"]}, "ALLOWED_DEVICES"),
    ({"gpus": "all"}, "ALLOW_GPUS"),
    ({"runtime_class": "/tmp/shim"}, "RUNTIME_CLASSES"),
    ({"runtime_class": "io.containerd.runc.v2"}, "RUNTIME_CLASSES"),
    ({"runtime_class": "RUNC"}, "RUNTIME_CLASSES"),
    # sizes
    ({"environment": {f"V{n}": "x" * 1000 for n in range(132)}}, "MAX_ENVIRONMENT_BYTES"),
    ({"labels": {f"l{n}": "" for n in range(65)}}, "MAX_LABELS"),
    ({"resource_factor": 1000}, "MAX_RESOURCE_FACTOR"),
    ({"pids_limit": 4_000_000}, "MAX_PIDS"),
]


@pytest.mark.parametrize(("asked", "setting"), REFUSED, ids=lambda each: str(each)[:60])
def test_policy_refuses_and_names_its_setting(
    client: TestClient, folder: Path, asked: dict[str, Any], setting: str
) -> None:
    body = json.loads(json.dumps({"image": "busybox", **asked}).replace("ROOT", str(folder)))
    answer = client.simulate_post("/start", json=body)
    assert (answer.status_code, answer.json["code"]) == (403, "policy-refused")
    assert answer.json["setting"] == f"RUNTIME_SERVER_{setting}"
    assert "retry-after" not in answer.headers


INVALID: list[tuple[dict[str, Any], str]] = [
    # reserved labels, and label and name tricks
    ({"labels": {f"{OWN}owner": "root"}}, "labels"),
    ({"labels": {f"{OWN}instance": ""}}, "labels"),
    ({"labels": {"a\nb": ""}}, "labels"),
    ({"labels": {"": ""}}, "labels"),
    ({"labels": {"a": None}}, "labels"),
    ({"labels": {"\u202egnp": ""}}, "labels"),
    ({"labels": {f"l{n}": "" for n in range(257)}}, "labels"),
    ({"name": "../../etc"}, "name"),
    ({"name": ".hidden"}, "name"),
    ({"name": "a/b"}, "name"),
    ({"name": "a\n"}, "name"),
    ({"name": "ａlice"}, "name"),
    ({"name": "аlice"}, "name"),
    ({"name": "alice\u200b"}, "name"),
    ({"name": "a" * 129}, "name"),
    ({"session_id": "s\u200bession"}, "session_id"),
    ({"session_id": "\u202esession"}, "session_id"),
    ({"session_id": "a\r\nX-API-Key: b"}, "session_id"),
    ({"session_id": "\u2028"}, "session_id"),
    ({"session_id": "x" * 1025}, "session_id"),
    # newlines and NULs where lines and words are made of them
    ({"environment": {"A\nB": "1"}}, "environment"),
    ({"environment": {"A=B": "1"}}, "environment"),
    ({"environment": {"": "1"}}, "environment"),
    ({"environment": {"A": "1\x00"}}, "environment"),
    ({"command": ["a\x00b"]}, "command"),
    ({"image": "busybox\n"}, "image"),
    ({"image": "busybox x"}, "image"),
    ({"user": "root\nroot"}, "user"),
    ({"hostname": "a\nb"}, "hostname"),
    ({"hostname": "a b"}, "hostname"),
    ({"working_dir": "/a\nb"}, "working_dir"),
    ({"extra_hosts": {"a:1.2.3.4\nb": "1.1.1.1"}}, "extra_hosts"),
    ({"extra_hosts": {"a": "1.1.1.1\n2.2.2.2 bank"}}, "extra_hosts"),
    ({"extra_hosts": {"a b": "1.1.1.1"}}, "extra_hosts"),
    ({"tmpfs": {"relative": ""}}, "tmpfs"),
    (volume("../etc"), "volumes"),
    (volume("./x"), "volumes"),
    (volume("a"), "volumes"),
    (volume("a:b"), "volumes"),
    (volume("name", "/data:ro,rshared"), "volumes"),
    (volume("name", "/"), "volumes"),
    (volume("name", "data"), "volumes"),
    (volume("/srv/a\x00/etc"), "volumes"),
    (volume("/srv/a\n"), "volumes"),
    ({"volumes": [*volume("one")["volumes"], *volume("two", "/data/")["volumes"]]}, "volumes"),
    ({"devices": ["/dev/null:/dev/x:rwmx"]}, "devices"),
    ({"devices": ["null"]}, "devices"),
    ({"cap_add": ["CHOWN,SYS_ADMIN"]}, "cap_add"),
    # wrong types
    ({"image": ["busybox"]}, "image"),
    ({"image": None}, "image"),
    ({"command": {"a": 1}}, "command"),
    ({"environment": [["A", "1"]]}, "environment"),
    ({"environment": {"A": 1}}, "environment"),
    ({"ports": {"80/tcp": 80}}, "ports"),
    ({"privileged": "maybe"}, "privileged"),
    ({"detach": False}, "detach"),
    ({"restart_policy": "always"}, "restart_policy"),
    ({"gpus": "some"}, "gpus"),
    ({"__proto__": {"image": "x"}}, "__proto__"),
    ({"SecurityOpt": ["seccomp=unconfined"]}, "SecurityOpt"),
    ({"pid_mode": "host"}, "pid_mode"),
    ({"HostConfig": {"Privileged": True}}, "HostConfig"),
    # numbers out of range
    (port(host_port=65_536), "ports"),
    (port(host_port=-1), "ports"),
    (port(host_port=2**64), "ports"),
    (port(host_port=8000.5), "ports"),
    ({"cpus": 0}, "cpus"),
    ({"cpus": 1e-10}, "cpus"),
    ({"cpus": -1}, "cpus"),
    ({"cpus": 1e300}, "cpus"),
    ({"memory": -1}, "memory"),
    ({"memory": 2**63}, "memory"),
    ({"memory": 10**300}, "memory"),
    ({"memory": "9" * 400}, "memory"),
    ({"memory": "99999999999t"}, "memory"),
    ({"memory": "٥١٢m"}, "memory"),
    ({"memory": "1e9"}, "memory"),
    ({"shm_size": "-1m"}, "shm_size"),
    ({"pids_limit": -1}, "pids_limit"),
    ({"pids_limit": 2**63}, "pids_limit"),
    ({"ttl": 1e300}, "ttl"),
    ({"wait": -1}, "wait"),
    ({"resource_factor": 0}, "resource_factor"),
    ({"gpus": 10**30}, "gpus"),
    ({"restart_policy": {"Name": "always", "MaximumRetryCount": 5}}, "restart_policy"),
]


@pytest.mark.parametrize(("asked", "field"), INVALID, ids=lambda each: ascii(each)[:60])
def test_what_is_no_start_is_told_by_field(client: TestClient, asked: dict[str, Any], field: str) -> None:
    answer = client.simulate_post("/start", body=json.dumps({"image": "busybox", **asked}), headers=JSON)
    assert (answer.status_code, answer.json["code"]) == (422, "validation-failed")
    assert {each["loc"][0] for each in answer.json["errors"]} == {field}


@pytest.mark.parametrize(
    "image",
    ["../../etc", "a/../b", "http://x/y", "UPPER", "x@sha256:12", "x:", "-x", "buſybox", "x?y=z", "x/%2e%2e/y"],
)
def test_an_image_that_is_none(client: TestClient, image: str) -> None:
    answer = client.simulate_post("/start", json={"image": image})
    assert (answer.status_code, answer.json["code"]) == (422, "image-reference-invalid")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"image":' * 100_000, 400, "malformed-json"),
        (b'{"image": "busybox", "labels": ' + b'{"a":' * 200 + b"1" + b"}" * 201, 400, "malformed-json"),
        (b'{"image": "busybox", "command": ' + b"[" * 65 + b"]" * 65 + b"}", 400, "malformed-json"),
        (b'{"image": "busybox", "image": "evil"}', 400, "malformed-json"),
        (b'{"image": "busybox", "cpus": NaN}', 400, "malformed-json"),
        (b'{"image": "busybox", "cpus": 1e999}', 422, "validation-failed"),
        (b'{"image": "busybox", "memory": ' + b"9" * 5000 + b"}", 400, "malformed-json"),
        (b'{"image": "busybox", "name": "\\ud800"}', 400, "malformed-json"),
        (b'{"image": "busybox", "name": "\xc0\xaf"}', 400, "malformed-json"),
        (b'{"image": "busybox"}' + b" " * 2**20, 413, "body-too-large"),
        (b'{"image": "busybox", "command": [' + b'"",' * 500_000 + b'""]}', 413, "body-too-large"),
    ],
    ids=lambda each: ascii(each)[:40],
)
def test_huge_deep_and_broken_bodies(client: TestClient, body: bytes, status: int, code: str) -> None:
    answer = client.simulate_post("/start", body=body, headers=JSON)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert len(answer.content) < 2000


@pytest.mark.parametrize(
    "runtime_id",
    ["ｒuntime-0123456789ab", "runtime-0123456789аb", "runtime-0123456789ab\u200b", "../runtime-0123456789ab",
     "container", "a" * 64, "%00", "runtime-*", "' OR 1=1 --"],
)  # fmt: skip
def test_ids_that_look_like_one_are_nobodys(client: TestClient, runtime_id: str) -> None:
    for path in ("/pause", "/resume", "/stop"):
        answer = client.simulate_post(path, json={"runtime_id": runtime_id})
        assert (answer.status_code, answer.json["code"]) == (404, "runtime-not-found")


@pytest.mark.parametrize("runtime_id", ["a\nb", "a\x00", "", "x" * 1025, None, 5, ["a"], {"a": 1}])
def test_ids_that_are_none(client: TestClient, runtime_id: Any) -> None:
    answer = client.simulate_post("/stop", json={"runtime_id": runtime_id})
    assert (answer.status_code, answer.json["code"]) == (422, "validation-failed")


@pytest.mark.parametrize(
    ("header", "value"),
    [("Idempotency-Key", "a\x7fb"), ("Idempotency-Key", "k" * 256), ("Idempotency-Key", "schlüssel")],
)
def test_header_tricks(client: TestClient, header: str, value: str) -> None:
    answer = client.simulate_post("/start", json={"image": "evil.example/x"}, headers={header: value})
    assert answer.status_code in (400, 422)


def test_a_request_id_is_never_given_back_unless_it_is_plain(client: TestClient) -> None:
    for value in ("x\r\nSet-Cookie: a=b", "x" * 129, "<script>", "é"):
        answer = client.simulate_get("/healthz", headers={"X-Request-ID": value})
        assert answer.headers["x-request-id"] != value
        assert "set-cookie" not in answer.headers
