"""Files of containers, in any engine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.files import (
    FileKind,
    FolderNotEmpty,
    NoAccess,
    NotAFolder,
    PathMissing,
    ReadOnly,
)
from runtime_server.errors import ArchiveInvalid
from tests.conformance.conftest import Bench

STATES = ["created", "running", "paused", "exited"]


def tar(*entries: tuple[str, bytes | str | None], uid: int = 7, gid: int = 8, mode: int = 0o640) -> bytes:
    """A tar of files, folders (None) and links (text)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in entries:
            made = tarfile.TarInfo(name)
            made.uid, made.gid, made.mode, made.mtime = uid, gid, mode, 1_700_000_000
            if content is None:
                made.type, made.mode = tarfile.DIRTYPE, 0o750
            elif isinstance(content, str):
                made.type, made.linkname = tarfile.SYMTYPE, content
            else:
                made.size = len(content)
            archive.addfile(made, io.BytesIO(content if isinstance(content, bytes) else b""))
    return out.getvalue()


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    yield b""
    for at in range(0, len(data), size):
        yield data[at : at + size]


def read(bench: Bench, container: str, path: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """A path's tar, by name."""
    with closing(bench.engine.read_archive(container, path)) as archive:
        data = b""
        while chunk := archive.read(777):
            data += chunk
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        return {
            each.name: (each, content.read() if (content := found.extractfile(each)) else b"")
            for each in found
            if not each.issym()
        }


def names(entries: object) -> list[str]:
    assert isinstance(entries, list | tuple)
    return [each.name for each in entries]


@pytest.mark.parametrize("state", STATES)
def test_written_and_read_in_any_state(bench: Bench, state: str) -> None:
    container = bench.in_state(state)
    content = bytes(range(256)) * 1000
    bench.engine.write_archive(container, "/srv", pieces(tar(("a/b/file", content), ("folder", None))))
    assert bench.state(container) == state
    entry = bench.engine.file_entry(container, "/srv/a/b/file")
    assert entry is not None
    assert (entry.name, entry.kind, entry.size, entry.mode) == ("file", FileKind.FILE, len(content), 0o640)
    assert entry.mtime == 1_700_000_000
    (info, read_back) = read(bench, container, "/srv/a/b/file")["file"]
    assert (read_back, info.uid, info.gid) == (content, 7, 8)
    assert set(read(bench, container, "/srv/a")) == {"a", "a/b", "a/b/file"}
    listed, more = bench.engine.list_folder(container, "/srv", 100)
    assert names(list(listed)) == ["a", "folder"]
    assert not more
    assert [each.kind for each in listed] == [FileKind.FOLDER, FileKind.FOLDER]
    assert bench.state(container) == state


def test_what_a_listing_tells(bench: Bench) -> None:
    container = bench.run()
    bench.engine.write_archive(
        container,
        "/",
        pieces(
            tar(("srv/file", b"12345"), ("srv/link", "../etc/passwd"), ("srv/over", b""), ("srv/sub/deep/er", b"x"))
        ),
    )
    listed, more = bench.engine.list_folder(container, "/srv", 100)
    found = {each.name: each for each in listed}
    assert list(found) == ["file", "link", "over", "sub"]
    file = found["file"]
    assert (file.size, file.mode, file.mtime, file.ids) == (5, 0o640, 1_700_000_000, (7, 8))
    assert (found["link"].kind, found["link"].target) == (FileKind.LINK, "../etc/passwd")
    assert found["sub"].kind is FileKind.FOLDER
    few, more = bench.engine.list_folder(container, "/srv", 2)
    assert (names(list(few)), more) == (["file", "link"], True)


def test_links_are_told_with_where_they_lead(bench: Bench) -> None:
    container = bench.run()
    links = {"relative": "../etc/passwd", "absolute": "/etc", "out": "../../../../../../etc", "broken": "no"}
    bench.engine.write_archive(
        container, "/", pieces(tar(*((f"srv/{name}", target) for name, target in links.items())))
    )

    def target(name: str) -> str | None:
        entry = bench.engine.file_entry(container, f"/srv/{name}")
        assert entry is not None
        assert entry.kind is FileKind.LINK
        return entry.target

    assert target("relative") == "/etc/passwd"
    assert target("absolute") == "/etc"
    assert target("out") == "/etc"
    assert bench.engine.file_entry(container, "/srv/absolute/passwd") is not None
    assert "passwd" in names(list(bench.engine.list_folder(container, "/srv/out", 100)[0]))


def test_links_above_the_folder_are_refused(bench: Bench) -> None:
    container = bench.run()
    with pytest.raises(ArchiveInvalid):
        bench.engine.write_archive(container, "/srv", pieces(tar(("link", "../etc/passwd"))))
    with pytest.raises(ArchiveInvalid):
        bench.engine.write_archive(container, "/srv", pieces(tar(("a/link", "../../etc/passwd"))))
    bench.engine.write_archive(container, "/srv", pieces(tar(("a/link", "../b"), ("absolute", "/etc/passwd"))))
    assert names(list(bench.engine.list_folder(container, "/srv", 10)[0])) == ["a", "absolute"]


def test_what_is_not_there(bench: Bench) -> None:
    container = bench.run()
    for path in ("/no", "/no/such", "/etc/passwd/x"):
        assert bench.engine.file_entry(container, path) is None
    with pytest.raises(PathMissing):
        bench.engine.read_archive(container, "/no")
    with pytest.raises(PathMissing):
        bench.engine.list_folder(container, "/no", 10)
    with pytest.raises(NotAFolder):
        bench.engine.list_folder(container, "/etc/passwd", 10)
    with pytest.raises(PathMissing):
        bench.engine.write_archive(container, "/no", pieces(tar(("a", b""))))
    with pytest.raises(NotAFolder):
        bench.engine.write_archive(container, "/etc/passwd", pieces(tar(("a", b""))))
    with pytest.raises(NotAFolder):
        bench.engine.write_archive(container, "/", pieces(tar(("srv", b"a file in its place"))))
    with pytest.raises(PathMissing):
        bench.engine.delete_path(container, "/no", recursive=True)


@pytest.mark.parametrize("state", ["running", "paused"])
def test_deleted(bench: Bench, state: str) -> None:
    container = bench.run()
    bench.engine.write_archive(
        container, "/srv", pieces(tar(("one", b""), ("folder/in", b""), ("empty", None), ("link", "/etc")))
    )
    if state == "paused":
        bench.engine.pause(container)
    with pytest.raises(FolderNotEmpty):
        bench.engine.delete_path(container, "/srv/folder", recursive=False)
    for path in ("/srv/one", "/srv/empty", "/srv/link"):
        bench.engine.delete_path(container, path, recursive=False)
    bench.engine.delete_path(container, "/srv/folder", recursive=True)
    assert list(bench.engine.list_folder(container, "/srv", 10)[0]) == []
    assert bench.engine.file_entry(container, "/etc/passwd") is not None
    with pytest.raises(ReadOnly):
        bench.engine.delete_path(container, "/", recursive=True)
    assert bench.state(container) == state


@pytest.mark.parametrize("state", ["created", "exited"])
def test_nothing_is_deleted_where_nothing_runs(bench: Bench, state: str) -> None:
    container = bench.in_state(state)
    with pytest.raises(NoAccess):
        bench.engine.delete_path(container, "/srv", recursive=True)
    assert bench.engine.file_entry(container, "/srv") is not None


def test_a_read_only_root(bench: Bench) -> None:
    container = bench.run(read_only=True)
    with pytest.raises(ReadOnly):
        bench.engine.write_archive(container, "/srv", pieces(tar(("a", b""))))
    with pytest.raises(ReadOnly):
        bench.engine.delete_path(container, "/etc/passwd", recursive=False)
    assert read(bench, container, "/etc/passwd")


def test_owners_by_the_containers_own_files(bench: Bench) -> None:
    container = bench.run(user="nobody")
    assert bench.engine.file_owner(container, None) == (65534, 65534)
    assert bench.engine.file_owner(container, "root") == (0, 0)
    assert bench.engine.file_owner(container, "12:34") == (12, 34)
    assert bench.engine.file_owner(container, "nobody:nogroup") == (65534, 65534)
    assert bench.engine.file_owner(container, "0:nogroup") == (0, 65534)
    assert bench.engine.file_owner(container, "no-such-user") is None
    assert bench.engine.file_owner(bench.run(), None) == (0, 0)


def test_an_upload_that_breaks_off_says_why(bench: Bench) -> None:
    container = bench.run()
    data = tar(("a", b"x" * 5000), ("b", b"y" * 5000))

    class Broken(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield data[:7000]
        raise Broken

    with pytest.raises(Broken):
        bench.engine.write_archive(container, "/srv", broken())
    # Engines unpack while they read: of the last file there may be a part.
    whole, cut = (bench.engine.file_entry(container, path) for path in ("/srv/a", "/srv/b"))
    assert whole is None or whole.size == 5000
    assert cut is None or cut.size < 5000


def test_a_reader_that_is_closed_early(bench: Bench) -> None:
    container = bench.run()
    bench.engine.write_archive(container, "/srv", pieces(tar(("a", b"x" * 5_000_000)), 65536))
    for _ in range(3):
        archive = bench.engine.read_archive(container, "/srv/a")
        assert archive.read(512)
        archive.close()
    assert bench.engine.file_entry(container, "/srv/a") is not None


def test_no_container_no_files(bench: Bench) -> None:
    container = bench.in_state("gone")
    calls: list[Callable[[], object]] = [
        lambda: bench.engine.file_entry(container, "/"),
        lambda: bench.engine.read_archive(container, "/"),
        lambda: bench.engine.write_archive(container, "/", pieces(tar())),
        lambda: bench.engine.list_folder(container, "/", 1),
        lambda: bench.engine.delete_path(container, "/x", recursive=False),
        lambda: bench.engine.file_owner(container, None),
    ]
    for call in calls:
        with pytest.raises(ContainerMissing):
            call()
