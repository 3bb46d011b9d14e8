"""Files through the client, on the whole service in memory."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from runtime_server import (
    ArchiveInvalid,
    FileTooLarge,
    InvalidState,
    PathConflict,
    PathNotFound,
    PathReadOnly,
    RetryPolicy,
    RuntimeNotFound,
    RuntimeServerClient,
    ServerUnreachable,
    UserUnknown,
    ValidationFailed,
)
from runtime_server.testing import TEST_URL, InMemoryServer, in_memory_server
from tests.contract.conftest import FaultyAdapter
from tests.contract.test_logs import Breaking, Owned

PROMPT = RetryPolicy(sleep=lambda _: None)


@pytest.fixture(scope="module")
def own_server() -> Iterator[InMemoryServer]:
    with in_memory_server(max_upload="300k") as server:
        yield server


@pytest.fixture(scope="module")
def client(own_server: InMemoryServer) -> RuntimeServerClient:
    return own_server.client()


@pytest.fixture
def runtime(client: RuntimeServerClient) -> str:
    return client.start_runtime(image="busybox").runtime_id


def test_a_file_there_and_back(client: RuntimeServerClient, runtime: str) -> None:
    content = bytes(range(256)) * 400
    written = client.put_file(runtime, "/srv/deep/er/file", content, mode=0o750, owner="nobody")
    assert (written.path, written.entries, written.bytes) == ("/srv/deep/er/file", 1, len(content))
    assert client.get_file(runtime, "/srv/deep/er/file") == content
    (entry,) = client.list_files(runtime, "/srv/deep/er")
    assert (entry.name, entry.type, entry.size, entry.mode, entry.owner) == (
        "file",
        "file",
        len(content),
        "0750",
        "65534:65534",
    )
    client.put_file(runtime, "/srv/deep/er/file", b"")
    (entry,) = client.list_files(runtime, "/srv/deep/er")
    # What it is keeps its mode; whose it is, is said anew each time.
    assert (entry.size, entry.mode, entry.owner) == (0, "0750", "0:0")
    assert client.put_file(runtime, "/srv/new", b"x", mode="1644").bytes == 1
    assert {each.name: each.mode for each in client.list_files(runtime, "/srv")}["new"] == "1644"


def test_bodies_of_all_kinds(client: RuntimeServerClient, runtime: str, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.write_bytes(b"from a file")
    client.put_file(runtime, "/srv/a", local)
    client.put_file(runtime, "/srv/b", str(local))
    with local.open("rb") as file:
        file.seek(5)
        client.put_file(runtime, "/srv/c", file)
        assert not file.closed
    client.put_file(runtime, "/srv/d", Unseekable(b"piece by piece"))
    found = [client.get_file(runtime, f"/srv/{name}") for name in "abcd"]
    assert found == [b"from a file", b"from a file", b"a file", b"piece by piece"]
    assert client.download_file(runtime, "/srv/a", tmp_path / "copy") == 11
    assert (tmp_path / "copy").read_bytes() == b"from a file"
    with pytest.raises(FileNotFoundError):
        client.put_file(runtime, "/srv/e", tmp_path / "missing")
    with pytest.raises(PathNotFound):
        client.download_file(runtime, "/srv/e", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"from a file"


class Unseekable(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(5, size))

    def seekable(self) -> bool:
        return False


def test_the_runtimes_own_user_owns_what_is_sent(client: RuntimeServerClient) -> None:
    runtime = client.start_runtime(image="busybox", user="nobody").runtime_id
    client.put_file(runtime, "/srv/mine", b"x")
    client.put_file(runtime, "/srv/roots", b"x", owner="0:12")
    assert [each.owner for each in client.list_files(runtime, "/srv")] == ["65534:65534", "0:12"]
    with pytest.raises(UserUnknown):
        client.put_file(runtime, "/srv/x", b"x", owner="no-such-user")


def test_a_folder_there_and_back(client: RuntimeServerClient, runtime: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "one").write_bytes(b"1")
    (folder / "sub/two").write_bytes(b"22")
    (folder / "link").symlink_to("sub/two")
    written = client.put_archive(runtime, "/srv/copy", folder)
    assert (written.path, written.entries, written.bytes) == ("/srv/copy", 4, 3)
    assert client.get_file(runtime, "/srv/copy/link") == b"22"
    assert [each.name for each in client.list_files(runtime, "/srv/copy")] == ["link", "one", "sub"]
    size = client.get_archive(runtime, "/srv/copy", tmp_path / "copy.tar")
    assert (tmp_path / "copy.tar").stat().st_size == size
    with tarfile.open(tmp_path / "copy.tar") as archive:
        assert sorted(archive.getnames()) == ["copy", "copy/link", "copy/one", "copy/sub", "copy/sub/two"]
    client.put_archive(runtime, "/tmp", tmp_path / "copy.tar", owner="keep")
    assert client.get_file(runtime, "/tmp/copy/sub/two") == b"22"
    one = io.BytesIO()
    client.get_archive(runtime, "/srv/copy/one", one)
    one.seek(0)
    with tarfile.open(fileobj=one) as archive:
        assert archive.getnames() == ["one"]


@pytest.mark.parametrize("prepare", ["pause_runtime", "stop_runtime"])
def test_paused_and_stopped(client: RuntimeServerClient, runtime: str, prepare: str) -> None:
    getattr(client, prepare)(runtime)
    client.put_file(runtime, "/srv/a", b"x")
    assert client.get_file(runtime, "/srv/a") == b"x"
    assert [each.name for each in client.list_files(runtime, "/srv")] == ["a"]
    if prepare == "pause_runtime":
        client.delete_file(runtime, "/srv/a")
        assert client.list_files(runtime, "/srv") == []
    else:
        with pytest.raises(InvalidState, match="stopped"):
            client.delete_file(runtime, "/srv/a")
    client.remove_runtime(runtime)
    with pytest.raises(InvalidState):
        client.get_file(runtime, "/srv/a")


def test_deleting(client: RuntimeServerClient, runtime: str) -> None:
    client.put_file(runtime, "/srv/folder/file", b"x")
    with pytest.raises(PathConflict, match="recursive"):
        client.delete_file(runtime, "/srv/folder")
    client.delete_file(runtime, "/srv/folder", recursive=True)
    with pytest.raises(PathNotFound):
        client.delete_file(runtime, "/srv/folder")


def test_what_cannot_be_read_or_written(client: RuntimeServerClient, runtime: str) -> None:
    with pytest.raises(PathNotFound):
        client.get_file(runtime, "/no")
    with pytest.raises(PathNotFound):
        client.list_files(runtime, "/no")
    with pytest.raises(PathConflict):
        client.get_file(runtime, "/etc")
    with pytest.raises(PathConflict):
        client.put_file(runtime, "/etc", b"x")
    with pytest.raises(PathConflict):
        client.put_file(runtime, "/etc/passwd/x", b"x")
    with pytest.raises(PathConflict):
        client.put_archive(runtime, "/etc/passwd", b"")
    with pytest.raises(ArchiveInvalid):
        client.put_archive(runtime, "/srv", b"not a tar")
    with pytest.raises(RuntimeNotFound):
        client.get_file("nobody", "/etc/passwd")
    for wrong in ("relative", "/srv/../etc/passwd", "", "/a\0b", "/.."):
        for call in (client.get_file, client.list_files, client.delete_file):
            with pytest.raises(ValidationFailed):
                call(runtime, wrong)
    with pytest.raises(ValidationFailed):
        client.put_file(runtime, "/srv/x", b"x", mode="0999")
    read_only = client.start_runtime(image="busybox", read_only=True).runtime_id
    with pytest.raises(PathReadOnly):
        client.put_file(read_only, "/srv/x", b"x")


def test_what_is_too_large(client: RuntimeServerClient, runtime: str) -> None:
    limit = 300 * 1024
    client.put_file(runtime, "/srv/x", b"x" * limit)
    for body in (b"x" * (limit + 1), Unseekable(b"x" * (limit + 1))):
        with pytest.raises(FileTooLarge) as caught:
            client.put_file(runtime, "/srv/y", body)
        assert caught.value.extensions == {"limit": limit}
    with pytest.raises(PathNotFound):
        client.get_file(runtime, "/srv/y")


def test_links_of_the_runtime_are_followed_within_it(
    own_server: InMemoryServer, client: RuntimeServerClient, runtime: str
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, target in (
            ("real/", ""),
            ("link", "/srv/real"),
            ("up", "../../../../../etc"),
            ("file", "real/new"),
        ):
            made = tarfile.TarInfo(f"srv/{name}")
            made.type, made.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.DIRTYPE, "")
            archive.addfile(made)
    with pytest.raises(ArchiveInvalid, match="above"):
        client.put_archive(runtime, "/tmp", out.getvalue())
    client.put_archive(runtime, "/", out.getvalue())
    assert client.put_file(runtime, "/srv/link/a", b"through").path == "/srv/link/a"
    assert client.get_file(runtime, "/srv/real/a") == b"through"
    assert client.put_file(runtime, "/srv/file", b"to its target").path == "/srv/real/new"
    assert client.get_file(runtime, "/srv/real/new") == b"to its target"
    assert "passwd" in [each.name for each in client.list_files(runtime, "/srv/up")]
    (link,) = [each for each in client.list_files(runtime, "/srv") if each.name == "file"]
    assert (link.type, link.target) == ("link", "real/new")


def test_an_answer_that_breaks_off_is_read_again(own_server: InMemoryServer, runtime: str) -> None:
    session = requests.Session()
    client = own_server.client(session=session, retry=PROMPT)
    client.put_file(runtime, "/srv/a", b"x" * 200_000)
    session.mount(TEST_URL, Breaking(Owned(own_server, own_server.api_key), [100_000, 0, None]))
    assert client.get_file(runtime, "/srv/a") == b"x" * 200_000
    session.mount(TEST_URL, Breaking(Owned(own_server, own_server.api_key), [1000]))
    with pytest.raises(ServerUnreachable):
        client.get_file(runtime, "/srv/a")


def test_a_lost_upload_is_sent_again_where_it_can_be(own_server: InMemoryServer, runtime: str) -> None:
    session = requests.Session()
    client = own_server.client(session=session, retry=PROMPT)
    session.mount(TEST_URL, FaultyAdapter(own_server, iter(["lost", "cut", "lost"])))
    client.put_file(runtime, "/srv/a", io.BytesIO(b"x" * 100_000))
    assert client.get_file(runtime, "/srv/a") == b"x" * 100_000
    session.mount(TEST_URL, FaultyAdapter(own_server, iter(["lost"])))
    with pytest.raises(ServerUnreachable):
        client.put_file(runtime, "/srv/b", Unseekable(b"x"))


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain", "", "application/json"])
def test_any_other_content_type_is_a_file(own_server: InMemoryServer, runtime: str, kind: str) -> None:
    client = own_server.client()
    session: Any = client._transport.session
    url = f"{TEST_URL}/runtimes/{runtime}/files?path=/srv/a"
    answer = session.put(url, data=b"{}", headers={"X-API-Key": own_server.api_key, "Content-Type": kind})
    assert answer.status_code == 200
    assert client.get_file(runtime, "/srv/a") == b"{}"
    read = session.get(url, headers={"X-API-Key": own_server.api_key})
    assert (read.headers["X-File-Mode"], read.headers["X-File-Owner"]) == ("0644", "0:0")
    assert read.headers["Content-Type"] == "application/octet-stream"
    assert read.headers["Content-Length"] == "2"
    assert "GMT" in read.headers["Last-Modified"]
    head = session.head(url, headers={"X-API-Key": own_server.api_key})
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "2", b"")
    packed = session.put(url, data=b"{}", headers={"X-API-Key": own_server.api_key, "Content-Encoding": "gzip"})
    assert packed.json()["code"] == "unsupported-media-type"
