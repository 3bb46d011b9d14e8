"""Workspaces on the real engine: files that stay, whom they belong to, and who never meets them."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from runtime_server import errors
from runtime_server.engine import labels
from runtime_server.engine.base import ContainerState, Mount
from runtime_server.engine.docker import DockerEngine
from runtime_server.models import RuntimeStatus, StartResponse
from tests.engine.conftest import Specs
from tests.engine.images import BUSYBOX, root_file_system
from tests.engine.served import Served, eventually, serve

FOLDERS = "runtime-server-test/folders:latest"
"""busybox with folders of several owners and a link; it runs as the user ``app`` (1000, group 1001)."""
_FOLDERS = {
    "owned": (1000, 1001, 0o2770),
    "other": (7, 8, 0o1711),
    "roots": (0, 0, 0o755),
    "deep": (0, 0, 0o755),
    "deep/er": (0, 0, 0o750),
}
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/:/bin/sh\n"


def _image() -> bytes:
    """The other tests' root with more in it, and with users of its own, by way of a link as some images have it."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=out, mode="w") as tar,
        tarfile.open(fileobj=io.BytesIO(root_file_system())) as base,
    ):
        for entry in base:
            if entry.name != "etc/passwd":
                tar.addfile(entry, base.extractfile(entry) if entry.isreg() else None)
        for name, (uid, gid, mode) in _FOLDERS.items():
            tar.addfile(_entry(name, tarfile.DIRTYPE, uid=uid, gid=gid, mode=mode))
        tar.addfile(_entry("other/inside", tarfile.REGTYPE, uid=7))
        for name, target in (("link", "deep/er"), ("far", "/link"), ("etc/passwd", "../users")):
            tar.addfile(_entry(name, tarfile.SYMTYPE, linkname=target))
        tar.addfile(_entry("users", tarfile.REGTYPE, size=len(_PASSWD)), io.BytesIO(_PASSWD))
    return out.getvalue()


def _entry(name: str, kind: bytes, **more: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for field, value in more.items():
        setattr(entry, field, value)
    return entry


@pytest.fixture(scope="module")
def folders(docker_client: APIClient, test_images: None) -> None:
    repository, _, tag = FOLDERS.partition(":")
    docker_client.import_image_from_data(_image(), repository=repository, tag=tag, changes=["USER app"])


@pytest.fixture
def volumes(docker_engine: DockerEngine) -> Iterator[DockerEngine]:
    """The engine; its volumes go after its containers."""
    yield docker_engine
    for each in docker_engine.list():
        docker_engine.remove(each.container_id)
    for volume in docker_engine.list_volumes(labels.INSTANCE):
        docker_engine.remove_volume(volume.name)


@pytest.fixture
def served(tmp_path: Path, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(serve(tmp_path, docker_client, workspace_retention=0.0))
        stack.callback(_clean, found)
        yield found


def _clean(served: Served) -> None:
    for each in served.containers():
        served.docker.remove_container(each["Id"], force=True, v=True)
    engine = served.service.engine
    for volume in engine.list_volumes(labels.INSTANCE):
        engine.remove_volume(volume.name)


def begin(served: Served, script: str = "sleep 1000", session: str = "s", **fields: Any) -> StartResponse:
    """A session's runtime, which is ready as soon as it runs."""
    more = {"session_id": session, "workspace": "/w", "readiness": {"type": "running"}, **fields}
    return served.start(script, **more)


def ended(served: Served, runtime_id: str) -> str:
    """What a runtime has written by its end."""
    served.client.wait_until(runtime_id, RuntimeStatus.STOPPED)
    return served.output(runtime_id)


def test_files_outlive_their_container(served: Served) -> None:
    session = "a session/with slashes"
    first = served.start(
        "echo kept > /workspace/file; mkdir /workspace/d", session_id=session, workspace="/workspace"
    )
    assert ended(served, first.runtime_id) == ""
    served.client.stop_runtime(first.runtime_id, remove=True)
    assert served.containers() == []
    second = begin(served, "cat /workspace/file; ls /workspace", session, workspace=True)
    assert ended(served, second.runtime_id).split() == ["kept", "d", "file"]
    (told,) = served.client.list_workspaces(sizes=True)
    assert (told.session_id, told.in_use_by) == (session, [second.runtime_id])
    assert told.size_bytes is None or told.size_bytes >= len("kept\n")
    with pytest.raises(errors.WorkspaceInUse) as caught:
        served.client.delete_workspace(session)
    assert caught.value.extensions == {"runtime_ids": [second.runtime_id]}
    served.client.remove_runtime(second.runtime_id)
    assert served.client.delete_workspace(session).changed
    assert served.client.list_workspaces() == []
    third = begin(served, "ls /w", session)
    assert ended(served, third.runtime_id) == ""


def test_another_owner_of_the_same_session_meets_nothing(served: Served) -> None:
    mine = begin(served, "echo secret > /w/file")
    ended(served, mine.runtime_id)
    theirs = served.stranger.start_runtime(
        image=BUSYBOX,
        command=["ls", "/w"],
        network="none",
        session_id="s",
        workspace="/w",
        readiness={"type": "running"},
    )
    served.stranger.wait_until(theirs.runtime_id, RuntimeStatus.STOPPED)
    assert served.output(theirs.runtime_id) == ""
    assert [each.owner for each in served.stranger.list_workspaces()] == ["stranger"]
    served.stranger.remove_runtime(theirs.runtime_id)
    assert served.stranger.delete_workspace("s").changed
    with pytest.raises(errors.WorkspaceNotFound):
        served.stranger.delete_workspace(served.client.get_workspace("s").workspace_id)
    assert served.client.get_workspace("s").in_use_by == [mine.runtime_id]


@pytest.mark.parametrize("user", ["nobody", "1000", "1000:50", "65534:0"])
def test_any_user_can_write_at_its_first_start_and_its_next(served: Served, user: str) -> None:
    for lines in (1, 2):
        script = "cd /w && echo x >> file && cat file && mkdir -p d"
        made = begin(served, script, user=user)
        assert ended(served, made.runtime_id).split() == ["x"] * lines
        served.client.remove_runtime(made.runtime_id)


def test_the_service_gives_what_the_image_has(served: Served, folders: None) -> None:
    made = served.client.start_runtime(
        image=FOLDERS,
        command=["sh", "-c", "ls -nd /w; echo x > /w/file"],
        network="none",
        session_id="s",
        workspace="/w",
    )
    assert ended(served, made.runtime_id).split()[2:4] == ["1000", "1001"]


def test_a_failed_start_leaves_no_volume(served: Served) -> None:
    with pytest.raises(errors.CommandNotFound):
        served.client.start_runtime(
            image=BUSYBOX, command="nothing", init=False, network="none", name="agent", workspace="/w"
        )
    with pytest.raises(errors.ImageNotFound):
        served.client.start_runtime(
            image="nothing", image_pull_policy="Never", name="agent", workspace="/w", network="none"
        )
    assert served.service.engine.list_volumes(labels.INSTANCE) == []


def test_a_path_that_is_a_file_in_the_image(served: Served) -> None:
    with pytest.raises(errors.SpecRejected):
        served.client.start_runtime(
            image=BUSYBOX, command="sleep 9", user="1000", network="none", name="agent", workspace="/etc/passwd"
        )
    assert served.service.engine.list_volumes(labels.INSTANCE) == []


def test_retention_removes_what_nobody_uses(tmp_path: Path, docker_client: APIClient, test_images: None) -> None:
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serve(tmp_path, docker_client, workspace_retention=1.0, workspace="/w"))
        stack.callback(_clean, served)
        used, unused = (begin(served, session=name, workspace=None) for name in ("used", "unused"))
        served.client.remove_runtime(unused.runtime_id)
        eventually(lambda: len(served.client.list_workspaces()) == 1, "the unused one is removed")
        assert [each.session_id for each in served.client.list_workspaces()] == ["used"]
        assert served.inspect(used.runtime_id)["State"]["Running"]


@pytest.mark.parametrize(
    ("path", "image", "user", "expected"),
    [
        # Nothing in the image: an owner's folder, with the engine's mode.
        ("/new", BUSYBOX, "1000:50", "drwxr-xr-x 1000 50"),
        ("/new/deep/er", BUSYBOX, "nobody", "drwxr-xr-x 65534 65534"),
        ("/tmp/new", BUSYBOX, "1000", "drwxr-xr-x 1000 0"),
        ("/new", FOLDERS, None, "drwxr-xr-x 1000 1001"),
        ("/new", FOLDERS, "1000", "drwxr-xr-x 1000 1001"),
        # The image's folder, with its mode.
        ("/owned", FOLDERS, "app", "drwxrws--- 1000 1001"),
        ("/owned", FOLDERS, "4242:5", "drwxrws--- 4242 5"),
        ("/other", FOLDERS, None, "drwx--x--t 1000 1001"),
        ("/roots", FOLDERS, None, "drwxr-xr-x 1000 1001"),
        # By way of links.
        ("/link", FOLDERS, None, "drwxr-x--- 1000 1001"),
        ("/far", FOLDERS, None, "drwxr-x--- 1000 1001"),
        # Root, who can write anywhere, gets it as it is.
        ("/new", BUSYBOX, None, "drwxr-xr-x 0 0"),
        ("/owned", FOLDERS, "root", "drwxrws--- 1000 1001"),
        ("/other", FOLDERS, "0:5", "drwx--x--t 7 8"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
def test_whom_a_folder_belongs_to(
    volumes: DockerEngine,
    spec: Specs,
    folders: None,
    docker_client: APIClient,
    path: str,
    image: str,
    user: str | None,
    expected: str,
    read_only: bool,
) -> None:
    volume = f"{volumes.instance}-w"
    for times in (1, 2):
        mount = Mount(volume, path, labels={labels.INSTANCE: volumes.instance})
        asked = spec(
            image=image,
            user=user,
            command=("/bin/sh", "-c", f"ls -nd {path}/. && echo x >> {path}/file && echo written"),
            mounts=(mount,),
            cap_add=("DAC_OVERRIDE",),  # as the service lets a root have it
            read_only=read_only,
        )
        container = volumes.create(asked)
        volumes.give_folder(container, path)
        volumes.start(container)
        _await_end(volumes, container)
        mode, _, uid, gid, *_ = volumes.logs(container).split()
        assert (f"{mode} {uid} {gid}", times) == (expected, times)
        assert "written" in volumes.logs(container) or user in {"root", "0:5"}
        volumes.remove(container)
    assert volumes.list() == []


def _await_end(engine: DockerEngine, container: str) -> None:
    eventually(lambda: engine.inspect(container).state is ContainerState.EXITED, "it ends")


def test_a_container_that_a_crash_left_from_giving_is_cleared(served: Served) -> None:
    """As it stands for a moment where the container's own root is read-only."""
    name = "runtime-0123456789ab-01234567"
    body = {
        "Image": BUSYBOX,
        "Cmd": ["true"],
        "Labels": {labels.INSTANCE: served.service.state.instance, labels.RUNTIME_ID: name},
    }
    served.docker.create_container_from_config(body, name=name)  # type: ignore[no-untyped-call]
    served.service.reconciler.sweep()
    eventually(lambda: not served.containers(), "it is removed")
