"""Host paths: under the roots only, by no spelling elsewhere, and not by a link that is swapped in time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from runtime_server.engine.base import ContainerState, RuntimeSpec, Snapshot
from runtime_server.errors import MountSourceMissing, PolicyRefused
from runtime_server.models import StartRequest
from runtime_server.runtimes import policy_mounts, steps
from runtime_server.runtimes.policy import Policy
from runtime_server.settings import PREFIX, Settings
from runtime_server.testing import InMemoryServer, in_memory_server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a folder, a file, a socket and links in it; beside it the state directory."""
    root = tmp_path / "root"
    for folder in (root / "mine" / "deep", tmp_path / "state", tmp_path / "elsewhere", tmp_path / "root2"):
        folder.mkdir(parents=True)
    (root / "file").write_text("x")
    (root / "inner").symlink_to("mine")
    (root / "out").symlink_to("../elsewhere")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InMemoryServer]:
    """A service that may mount what lies in the tests' temporary folders."""
    with in_memory_server(volume_roots=str(tmp_path_factory.getbasetemp())) as server:
        yield server


def spec_of(root: Path, path: str, *, roots: str = "", **fields: Any) -> RuntimeSpec:
    values = {"volume_roots": roots or str(root), "state_dir": root.parent / "state"} | fields.pop("settings", {})
    policy = Policy(Settings.model_validate(values), forbidden=(str(root.parent / "engine.sock"),))
    volume = {"host_path": path.replace("ROOT", str(root)), "container_path": "/data"}
    request = StartRequest.model_validate({"image": "busybox", "volumes": [volume], **fields})
    return policy.spec(request, "runtime-0123456789ab", {}, {})


@pytest.mark.parametrize(
    ("path", "source"),
    [("ROOT", ""), ("ROOT/mine", "/mine"), ("ROOT//mine/../file", "/file"), ("ROOT/inner/deep", "/mine/deep")],
)
def test_the_real_path_is_what_is_mounted(root: Path, path: str, source: str) -> None:
    (mount,) = spec_of(root, path).mounts
    assert mount.source == f"{root}{source}"
    status = Path(mount.source).stat()
    assert mount.identity == (status.st_dev, status.st_ino)


@pytest.mark.parametrize(
    "path",
    ["/", "/etc", "ROOT/..", "ROOT/../elsewhere", "ROOT/mine/../../elsewhere", "ROOT2", "ROOT/out",
     "ROOT/up/elsewhere", "ROOT/out/nothing", "/proc/self/root/etc", "//etc", "ROOT/fifo", "ROOT/loop",
     "ROOT/inner/../../state"],
)  # fmt: skip
def test_what_is_elsewhere_is_refused(root: Path, path: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        spec_of(root, path.replace("ROOT2", f"{root}2"))
    assert caught.value.extensions == {"setting": f"{PREFIX}VOLUME_ROOTS"}


@pytest.mark.parametrize(
    "path",
    ["/", "/proc", "/var/lib", "/sys/kernel", "TMP", "TMP/state", "TMP/state/locks", "TMP/engine.sock", "TMP/alias",
     "TMP/hard.sock", "/run", "/var/run"],
)  # fmt: skip
def test_socket_and_state_are_refused_under_any_root(root: Path, path: str) -> None:
    tmp = root.parent
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp / "engine.sock"))
    os.link(tmp / "engine.sock", tmp / "hard.sock")
    (tmp / "alias").symlink_to("engine.sock")
    (tmp / "state" / "locks").mkdir()
    with pytest.raises(PolicyRefused) as caught:
        spec_of(root, path.replace("TMP", str(tmp)), roots="/")
    assert caught.value.extensions == {"setting": f"{PREFIX}VOLUME_ROOTS"}


def test_a_missing_source_is_told_before_anything_is_made(root: Path) -> None:
    with pytest.raises(MountSourceMissing):
        spec_of(root, "ROOT/nothing")


def test_the_engines_own_restarts_go_with_roots_only(root: Path) -> None:
    always: dict[str, Any] = {"restart_policy": {"Name": "always"}}
    spec_of(root, "ROOT", **always)
    spec_of(root, "ROOT/mine", restart_policy={"Name": "no"})
    spec_of(root, "ROOT/mine", settings={"restart_host_paths": "on"}, **always)
    with pytest.raises(PolicyRefused) as caught:
        spec_of(root, "ROOT/mine", **always)
    assert caught.value.extensions == {"setting": f"{PREFIX}RESTART_HOST_PATHS"}


def by_link(root: Path) -> None:
    (root / "mine").rename(root / "was")
    (root / "mine").symlink_to("/etc")


def by_parent(root: Path) -> None:
    root.rename(root.parent / "was")
    root.symlink_to(root.parent / "was")


def by_another(root: Path) -> None:
    (root / "mine").rename(root / "was")
    (root / "mine").mkdir()


def by_nothing(root: Path) -> None:
    (root / "mine").rename(root / "was")


@pytest.mark.parametrize("swap", [by_link, by_parent, by_another, by_nothing])
@pytest.mark.parametrize(("step", "calls"), [("created", {"create", "remove"}), ("started", None)])
def test_a_swap_between_check_and_mount_ends_the_start(
    server: InMemoryServer, root: Path, swap: Any, step: str, calls: Any
) -> None:
    def hook(reached: str, _: str) -> None:
        if reached == step and not (root.parent / "was").exists() and not (root / "was").exists():
            swap(root)

    volume = {"host_path": f"{root}/mine", "container_path": "/data"}
    client = TestClient(server.app, headers={"X-API-Key": server.api_key})
    server.engine.calls.clear()
    steps.hooks.append(hook)
    try:
        answer = client.simulate_post("/start", json={"image": "busybox", "volumes": [volume]})
    finally:
        steps.hooks.remove(hook)
    assert (answer.status_code, answer.json["code"]) == (403, "policy-refused")
    assert answer.json["setting"] == f"{PREFIX}VOLUME_ROOTS"
    made = set(server.engine.calls) & {"create", "start", "remove"}
    assert made == (calls or {"create", "start", "remove"})
    assert server.engine.list() == []
    assert {each["status"] for each in client.simulate_get("/runtimes").json["runtimes"]} == {"error"}


@pytest.fixture
def own_process() -> Snapshot:
    """This test's process as a container's; its id is a word of its own mounts."""
    return Snapshot("/proc", "n", ContainerState.RUNNING, "i", {}, pid=os.getpid())


def test_what_is_really_mounted_is_looked_up(root: Path, own_process: Snapshot) -> None:
    spec = spec_of(root, "ROOT/mine")
    # Nothing of that folder is a mount of this process: as if another had been mounted in its place.
    with pytest.raises(PolicyRefused):
        policy_mounts.mounted(spec, own_process)
    # A process that isn't the container's tells nothing.
    other = Snapshot("f" * 64, "n", ContainerState.RUNNING, "i", {}, pid=os.getpid())
    policy_mounts.mounted(spec, other)
    policy_mounts.mounted(spec, Snapshot("f" * 64, "n", ContainerState.EXITED, "i", {}))


def test_the_answer_names_no_path(server: InMemoryServer, root: Path) -> None:
    (root / "away").symlink_to("/usr")
    client = TestClient(server.app, headers={"X-API-Key": server.api_key})
    volume = {"host_path": f"{root}/away", "container_path": "/data"}
    answer: Result = client.simulate_post("/start", json={"image": "busybox", "volumes": [volume]})
    assert answer.status_code == 403
    assert str(root.parent) not in answer.text
    assert "/usr" not in answer.text
