"""Files on a real engine: what comes of tricks, from the host and from afar, and large ones through a real server."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from runtime_server import ArchiveInvalid, InvalidState, PathConflict, PathNotFound, PathReadOnly, RetryPolicy
from runtime_server.client.transport import Call
from runtime_server.engine import host_processes
from runtime_server.errors import FileTooLarge, TooManyStreams
from tests.engine.images import BUSYBOX
from tests.engine.served import Served, serve
from tests.faults.server import DEADLINE, Server, Site, eventually

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("files"), docker_client, max_upload="64m") as found:
        yield found


@pytest.fixture(params=["host", "afar"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the engine's processes in sight of the server, and without."""
    if request.param == "afar":
        monkeypatch.setattr(host_processes.HostProcesses, "_namespace", lambda _: None)
    return str(request.param)


def inside(served: Served, runtime: str, script: str) -> str:
    result = served.client.exec_in_runtime(runtime, script, user="0")
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_what_the_runtime_sees_of_what_is_sent(served: Served) -> None:
    runtime = served.start(user="65534:7").runtime_id
    content = os.urandom(3 * MEGABYTE)
    served.client.put_file(runtime, "/srv/deep/file", content)
    served.client.put_file(runtime, "/srv/script", b"#!/bin/sh\necho ran\n", mode=0o755, owner="root")
    assert (
        inside(served, runtime, "busybox stat -c '%a %u:%g %s' /srv/deep/file").strip()
        == f"644 65534:7 {3 * MEGABYTE}"
    )
    assert served.client.exec_in_runtime(runtime, ["/srv/script"]).stdout == "ran\n"
    assert served.client.get_file(runtime, "/srv/deep/file") == content
    # A file that the runtime wrote itself.
    inside(served, runtime, "echo mine > /tmp/own; busybox chmod 4711 /tmp/own; busybox ln -s own /tmp/link")
    assert served.client.get_file(runtime, "/tmp/link") == b"mine\n"
    found = {each.name: each for each in served.client.list_files(runtime, "/tmp")}
    assert (found["own"].mode, found["own"].owner, found["own"].size) == ("4711", "0:0", 5)
    assert (found["link"].type, found["link"].target) == ("link", "own")


@pytest.mark.parametrize("state", ["running", "paused"])
def test_list_and_delete_both_ways(served: Served, way: str, state: str) -> None:
    runtime = served.start().runtime_id
    inside(served, runtime, "mkdir -p /srv/a/b; echo x > /srv/a/b/c; echo y > /srv/f; busybox ln -s /etc /srv/link")
    if state == "paused":
        served.client.pause_runtime(runtime)
    listed = served.client.list_files(runtime, "/srv")
    assert [(each.name, each.type) for each in listed] == [("a", "folder"), ("f", "file"), ("link", "link")]
    assert [each.name for each in served.client.list_files(runtime, "/srv/a")] == ["b"]
    assert "passwd" in [each.name for each in served.client.list_files(runtime, "/srv/link")]
    if (way, state) == ("afar", "paused"):
        # What nothing can reach, the answer says.
        with pytest.raises(InvalidState, match="paused"):
            served.client.delete_file(runtime, "/srv/f")
        return
    with pytest.raises(PathConflict):
        served.client.delete_file(runtime, "/srv/a")
    with pytest.raises(PathNotFound):
        served.client.delete_file(runtime, "/srv/no")
    for path, recursive in (("/srv/f", False), ("/srv/link", False), ("/srv/a", True)):
        served.client.delete_file(runtime, path, recursive=recursive)
    assert served.client.list_files(runtime, "/srv") == []
    assert served.client.get_file(runtime, "/etc/passwd")
    assert served.inspect(runtime)["State"]["Status"] == state


def tar(*entries: tuple[str, bytes, str | None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content, link in entries:
            made = tarfile.TarInfo(name)
            made.size = len(content)
            if link is not None:
                made.type, made.linkname = tarfile.SYMTYPE, link
            archive.addfile(made, io.BytesIO(content))
    return out.getvalue()


def test_nothing_reaches_the_host(served: Served, way: str) -> None:
    """A volume that is the host's folder, and all the ways out of it that a caller or a runtime can think of."""
    folder = served.volumes / f"shared-{way}"
    folder.mkdir()
    outside = served.volumes.parent / f"secret-{way}"
    outside.write_text("secret")
    volumes = [{"host_path": str(folder), "container_path": "/data"}]
    runtime = served.start(volumes=volumes).runtime_id
    client = served.client
    for trick in (
        tar(("../secret", b"x", None)),
        tar((str(outside), b"x", None)),
        tar(("out", b"", str(served.volumes.parent)), (f"out/{outside.name}", b"x", None)),
    ):
        with pytest.raises(ArchiveInvalid):
            client.put_archive(runtime, "/data", trick)
    # Links may lead anywhere; within the runtime they lead nowhere else.
    (folder / "absolute").symlink_to(outside)
    (folder / "up").symlink_to("../" + outside.name)
    (folder / "above").symlink_to(served.volumes.parent)
    for path in ("/data/absolute", "/data/up", f"/data/above/{outside.name}"):
        with pytest.raises((PathNotFound, PathConflict)):
            client.get_file(runtime, path)
    with pytest.raises((PathNotFound, PathConflict)):
        client.delete_file(runtime, f"/data/above/{outside.name}")
    with pytest.raises((PathNotFound, PathConflict)):
        client.list_files(runtime, "/data/above")
    # What is written through them is written in the runtime, where it has its own folders of those names.
    client.put_file(runtime, "/data/absolute", b"overwritten?")
    client.put_file(runtime, "/data/up", b"overwritten?")
    assert outside.read_text() == "secret"
    for path in ("/data/absolute", "/data/up"):
        client.delete_file(runtime, path)
    client.delete_file(runtime, "/data/above", recursive=True)
    assert outside.read_text() == "secret"
    # On the volume itself all works, and no file becomes set-user-id.
    client.put_file(runtime, "/data/file", b"x", mode="6755")
    assert (folder / "file").stat().st_mode & 0o7777 == 0o755


def test_a_read_only_root_and_a_stopped_runtime(served: Served) -> None:
    frozen = served.start(read_only=True).runtime_id
    with pytest.raises(PathReadOnly):
        served.client.put_file(frozen, "/srv/x", b"x")
    with pytest.raises(PathReadOnly):
        served.client.delete_file(frozen, "/etc/passwd")
    assert served.client.get_file(frozen, "/etc/passwd")
    # The engine says so before it has read all of it.
    with pytest.raises(PathReadOnly):
        served.client.put_file(frozen, "/srv/x", b"x" * 30 * MEGABYTE)
    stopped = served.start().runtime_id
    served.client.put_file(stopped, "/srv/before", b"1")
    served.client.stop_runtime(stopped, timeout=0)
    served.client.put_file(stopped, "/srv/after", b"2")
    assert [each.name for each in served.client.list_files(stopped, "/srv")] == ["after", "before"]
    assert served.client.get_file(stopped, "/srv/before") == b"1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Server]:
    site = Site(tmp_path_factory.mktemp("uploads"), docker_client)
    try:
        yield site.start(workers=1, env={"RUNTIME_SERVER_STREAMS": "2", "RUNTIME_SERVER_MAX_UPLOAD": "60m"})
    finally:
        site.close()


def resident(server: Server) -> int:
    """Megabytes of the worker."""
    (pid,) = server.worker_pids()
    line = next(each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def test_large_ones_are_never_whole_in_memory(server: Server, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        for _ in range(50):
            file.write(os.urandom(MEGABYTE))
    with server.client() as client:
        runtime = client.start_runtime(image=BUSYBOX, command="sleep 1000", network="none").runtime_id
        client.health()
        before = resident(server)
        client.put_file(runtime, "/srv/big", big)
        with big.open("rb") as file:
            client.put_file(runtime, "/srv/chunked", Piecewise(file))
        assert client.download_file(runtime, "/srv/chunked", tmp_path / "back") == 50 * MEGABYTE
        assert client.get_archive(runtime, "/srv", tmp_path / "all.tar") > 100 * MEGABYTE
        assert resident(server) - before < 30
        assert (tmp_path / "back").read_bytes() == big.read_bytes()
        with big.open("ab") as file:
            file.truncate(61 * MEGABYTE)
        with pytest.raises(FileTooLarge):
            client.put_file(runtime, "/srv/too-big", big)
        assert client.health().status == "ok"
        client.remove_runtime(runtime)


class Piecewise:
    """A file that nobody can rewind."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seekable(self) -> bool:
        return False


def test_who_leaves_in_the_middle_frees_a_thread(server: Server, tmp_path: Path) -> None:
    with server.client(retry=RetryPolicy(max_attempts=1)) as client:
        runtime = client.start_runtime(image=BUSYBOX, command="sleep 1000", network="none").runtime_id
        big = tmp_path / "big"
        with big.open("wb") as file:
            file.truncate(50 * MEGABYTE)
        client.put_file(runtime, "/srv/big", big)
        go, reads = threading.Event(), [0]

        class Stalled(io.RawIOBase):
            def read(self, size: int = -1, /) -> bytes:
                if not go.wait(0.1):
                    reads.append(1)
                    return b"x" * 1000
                raise ConnectionAbortedError

            def seekable(self) -> bool:
                return False

        def upload() -> None:
            with pytest.raises(Exception):  # noqa: B017 - whatever it is, the caller has left
                client.put_file(runtime, "/srv/never", Stalled())

        stalled = [threading.Thread(target=upload) for _ in range(2)]
        for each in stalled:
            each.start()

        # A look at the places takes one itself, which must not be one of theirs.
        eventually(lambda: sum(reads) >= 40, "both are on their way")

        def full() -> bool:
            try:
                client.get_file(runtime, "/etc/passwd")
            except TooManyStreams:
                return True
            return False

        eventually(full, "both places are taken")
        assert client.health().status == "ok"
        # And the engine isn't kept, which would hold the container's lock.
        assert client.pause_runtime(runtime).changed
        assert client.resume_runtime(runtime).changed
        go.set()
        for each in stalled:
            each.join(DEADLINE)
        eventually(lambda: not full(), "the places are free again")
        with pytest.raises(PathNotFound):
            client.get_file(runtime, "/srv/never")
        for _ in range(3):
            path, query = f"/runtimes/{runtime}/files", (("path", "/srv/big"),)
            reply = client._transport.open(Call("GET", path, query=query, media_type="text/plain"))
            assert next(reply.pieces())
            assert client.pause_runtime(runtime).changed
            assert client.resume_runtime(runtime).changed
            reply.close()
            eventually(lambda: not full(), "the places are free again")
        client.remove_runtime(runtime)
