"""A smoke test of the whole service on Podman's socket: a Podman of the test's own, with its own storage."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import APIClient

from runtime_server import errors
from runtime_server.models import RuntimeStatus
from tests.engine import images
from tests.engine.served import Served, eventually, serve

INSTALL = Path(__file__).parents[2] / "scripts" / "podman"


def configuration() -> str:
    """What Podman can't find out by itself: limits that this process may pass on, and cgroups without systemd."""
    limits = {"nofile": 1024, "nproc": 4096}
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            limits[name] = min(limits[name], most)
    listed = ", ".join(f'"{name}={limit}:{limit}"' for name, limit in limits.items())
    return (
        f"[containers]\ndefault_ulimits = [{listed}]\n"
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Podman service; its package is installed where it is missing."""
    installed = subprocess.run([str(INSTALL)], check=False, capture_output=True, text=True, timeout=600)
    assert installed.returncode == 0, installed.stderr
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(configuration())
    own = ("--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs")
    address = f"unix://{folder}/podman.sock"
    with (folder / "podman.log").open("wb") as log:
        process = subprocess.Popen(
            ["podman", *own, "system", "service", "--time=0", address],
            env={**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def served(podman: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service on Podman, with the tests' image."""
    eventually(lambda: _listens(podman), "Podman listens")
    with contextlib.closing(APIClient(base_url=podman, version="auto")) as client:
        # Podman takes a name without a registry for one of its own; the short name is the one that Docker uses.
        repository, _, tag = f"docker.io/{images.BUSYBOX}".rpartition(":")
        client.import_image_from_data(images.root_file_system(), repository=repository, tag=tag)
        # Asked for any limit, Podman sets that of processes too, which takes a capability that machines of CI lack.
        rules = {"engine": podman, "default_ulimits": (), "registry_prefix": "localhost/built"}
        with serve(tmp_path_factory.mktemp("service"), client, **rules) as found:
            yield found


def _listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix://")) == 0


def test_version(served: Served) -> None:
    engine = served.client.version().engine
    assert engine is not None
    assert engine.name == "Podman Engine"


def test_a_life_with_a_port_a_variable_and_a_volume(served: Served) -> None:
    (served.volumes / "index.html").write_text("from the volume")
    started = served.start(
        'echo "$GREETING"; exec httpd -f -p 8000 -h /srv',
        network="bridge",
        ports=[{"container_port": 8000}],
        environment={"GREETING": "hello"},
        volumes=[{"host_path": str(served.volumes), "container_path": "/srv", "mode": "ro"}],
    )
    (port,) = started.ports["8000/tcp"]
    assert (started.status, port.HostIp) == (RuntimeStatus.RUNNING, "127.0.0.1")
    url = f"http://127.0.0.1:{port.HostPort}/"

    def answers() -> bool:
        try:
            return requests.get(url, timeout=10).text == "from the volume"
        except requests.ConnectionError:
            return False

    eventually(answers, "the published port answers")
    assert served.output(started.runtime_id) == "hello\n"

    client, name = served.client, started.runtime_id
    for call, status, changed in (
        (client.pause_runtime, RuntimeStatus.PAUSED, True),
        (client.pause_runtime, RuntimeStatus.PAUSED, False),
        (client.resume_runtime, RuntimeStatus.RUNNING, True),
        (client.resume_runtime, RuntimeStatus.RUNNING, False),
    ):
        done = call(name)
        assert (done.status, done.changed) == (status, changed)
        assert client.get_runtime(name).status is status
        assert served.inspect(name)["State"]["Status"] == status
    eventually(answers, "it answers again")

    assert client.stop_runtime(name, timeout=0).status is RuntimeStatus.STOPPED
    assert not client.stop_runtime(name, timeout=0).changed
    assert client.remove_runtime(name).status is RuntimeStatus.REMOVED
    assert served.containers() == []


def test_files_there_and_back(served: Served) -> None:
    client, name = served.client, served.start().runtime_id
    for state in (RuntimeStatus.RUNNING, RuntimeStatus.PAUSED):
        assert client.get_runtime(name).status is state
        client.put_file(name, "/srv/deep/file", b"content", mode=0o640, owner="12:34")
        assert client.get_file(name, "/srv/deep/file") == b"content"
        (entry,) = client.list_files(name, "/srv/deep")
        assert (entry.name, entry.mode, entry.owner, entry.size) == ("file", "0640", "12:34", 7)
        with pytest.raises(errors.PathNotFound):
            client.get_file(name, "/srv/no")
        with pytest.raises(errors.PathConflict):
            client.put_file(name, "/srv/deep", b"")
        with pytest.raises(errors.PathConflict):
            client.put_file(name, "/srv/deep/file/below", b"")
        client.delete_file(name, "/srv/deep", recursive=True)
        assert client.list_files(name, "/srv") == []
        client.pause_runtime(name)
    client.remove_runtime(name)


def test_the_grace_reaches_a_paused_process(served: Served) -> None:
    name = served.start("trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done").runtime_id
    served.lines(name, 1)
    served.client.pause_runtime(name)

    served.client.stop_runtime(name, timeout=60)

    ended = served.client.get_runtime(name).exit
    assert ended is not None
    assert ended.exit_code == 0
    served.client.remove_runtime(name)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image": "no-such-image-here", "image_pull_policy": "Never"}, errors.ImageNotFound),
        ({"command": ["/no/such/command"], "init": False}, errors.CommandNotFound),
        ({"user": "nobody-of-that-name"}, errors.UserUnknown),
    ],
    ids=["image", "command", "user"],
)
def test_a_start_that_fails_leaves_nothing(
    served: Served, changes: dict[str, Any], expected: type[errors.Problem]
) -> None:
    with pytest.raises(expected):
        served.start(**changes)
    assert served.containers() == []


@pytest.mark.parametrize(
    ("user", "read_only", "ids"),
    [(None, False, "0 0"), ("nobody", False, "65534 65534"), ("1000:50", True, "1000 50")],
)
def test_a_workspace_is_kept_and_its_users(served: Served, user: str | None, read_only: bool, ids: str) -> None:
    for count in (1, 2):
        made = served.start(
            "ls -nd /work && echo x >> /work/file && cat /work/file",
            name="agent",
            workspace="/work",
            user=user,
            read_only=read_only,
        )
        folder, *lines = served.lines(made.runtime_id, 1 + count)
        assert lines == ["x"] * count
        assert folder.split()[2:4] == ids.split()
        with pytest.raises(errors.WorkspaceInUse):
            served.client.delete_workspace("agent")
        served.client.remove_runtime(made.runtime_id)
    (told,) = served.client.list_workspaces(sizes=True)
    assert told.size_bytes is None or told.size_bytes > 0
    assert served.client.delete_workspace("agent").changed
    assert served.client.list_workspaces() == []


def test_images_are_built(served: Served, tmp_path: Path) -> None:
    image = f"{served.client.registry_prefix()}/agent:1"
    (tmp_path / "content").write_text("from the context")
    (tmp_path / "Dockerfile").write_text(
        f"FROM docker.io/{images.BUSYBOX}\nCOPY content /srv/\n"
        "RUN --mount=type=cache,target=/cache echo kept > /cache/kept && cat /cache/kept /srv/content\n"
    )
    build_id = served.client.build_image(tmp_path, image).build_id
    built = served.client.wait_for_build(build_id)
    assert "from the context" in served.client.build_log(build_id)
    assert built.image == image
    found = served.client.image_exists(image)
    assert found
    assert found.image is not None
    assert found.image.image_size_bytes > 1_000_000
    runtime = served.start("cat /srv/content; sleep 1000", image=image)
    assert served.lines(runtime.runtime_id, 1) == ["from the context"]
