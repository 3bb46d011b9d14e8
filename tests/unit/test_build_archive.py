"""Hostile build contexts, and harmless ones that look like them."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_server.builds import archive
from runtime_server.errors import BuildContextInvalid

UNPACKED = 1_000_000


class Context:
    """A context that a test makes, with a Dockerfile unless it says otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plain = io.BytesIO()
        self.tar = tarfile.TarFile(fileobj=self.plain, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> Context:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size = kind, target, len(content)
        self.tar.addfile(entry, io.BytesIO(content))
        return self

    def link(self, name: str, target: str) -> Context:
        return self.add(name, tarfile.SYMTYPE, target)

    def hard(self, name: str, target: str) -> Context:
        return self.add(name, tarfile.LNKTYPE, target)

    def check(self, unpacked: int = UNPACKED) -> None:
        self.tar.close()
        self.path.write_bytes(gzip.compress(self.plain.getvalue()))
        archive.check(self.path, unpacked=unpacked)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    made = Context(tmp_path / "context")
    made.add("./Dockerfile", content=b"FROM scratch\n")
    return made


HARMLESS: dict[str, Callable[[Context], object]] = {
    "nothing more": lambda _: None,
    "folders": lambda c: c.add(".", tarfile.DIRTYPE).add("./a", tarfile.DIRTYPE).add("./a/b"),
    "a link beside": lambda c: c.link("a/link", "b"),
    "a link upwards that stays inside": lambda c: c.link("a/b/link", "../../c"),
    "a link to the root itself": lambda c: c.link("a/link", ".."),
    "a link to a link": lambda c: c.link("one", "two").link("two", "a"),
    "links in a circle": lambda c: c.link("one", "two").link("two", "one"),
    "a link to what isn't there": lambda c: c.link("link", "nowhere/at/all"),
    "a hard link": lambda c: c.hard("again", "./Dockerfile"),
    "dots in names": lambda c: c.add("..a/b..c/...", content=b"x"),
    "a long name": lambda c: c.add("/".join(["folder-of-some-length"] * 30)),
    "a name beyond ASCII": lambda c: c.add("ä/\udce4"),
    "a Dockerfile that is a link": lambda c: c.link("docker/Dockerfile", "../Dockerfile"),
}

OUTSIDE: dict[str, tuple[Callable[[Context], object], str]] = {
    "an absolute path": (lambda c: c.add("/etc/passwd"), "/etc/passwd"),
    "a path upwards": (lambda c: c.add("a/../../b"), "a/../../b"),
    "a path that comes back": (lambda c: c.add("a/../b"), "a/../b"),
    "a folder upwards": (lambda c: c.add("..", tarfile.DIRTYPE), ".."),
    "an absolute link": (lambda c: c.link("link", "/etc/passwd"), "link"),
    "a link upwards": (lambda c: c.link("a/link", "../../b"), "a/link"),
    "a link that comes back from outside": (lambda c: c.link("link", "../context/a"), "link"),
    "a link out through another": (
        lambda c: c.link("deep/er/home", "../..").link("out", "deep/er/home/../.."),
        "out",
    ),
    "a link out through one that comes later": (
        lambda c: c.link("out", "deep/er/home/../..").link("deep/er/home", "../.."),
        "out",
    ),
    "a link out of the place where it lands": (
        lambda c: c.link("deep/er/home", "../..").link("deep/er/home/x", "../../.."),
        "deep/er/home/x",
    ),
    "a file behind a link": (lambda c: c.link("a", "b").add("a/file"), "a/file"),
    "a file where a link comes later": (lambda c: c.add("a/file").link("a", "b"), "a/file"),
    "an absolute hard link": (lambda c: c.hard("hard", "/etc/shadow"), "hard"),
    "a hard link upwards": (lambda c: c.hard("a/hard", "../x"), "a/hard"),
    "a hard link through a link": (
        lambda c: c.link("deep/er/home", "../..").hard("hard", "deep/er/home/../../x"),
        "hard",
    ),
    "a character device": (lambda c: c.add("null", tarfile.CHRTYPE), "null"),
    "a block device": (lambda c: c.add("disk", tarfile.BLKTYPE), "disk"),
    "a pipe": (lambda c: c.add("pipe", tarfile.FIFOTYPE), "pipe"),
    "a deep path": (lambda c: c.add("/".join("a" * 65)), "/".join("a" * 65)[:128]),
    "a link with a long path": (lambda c: c.link("link", "/".join("a" * 65)), "link"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(context: Context, name: str) -> None:
    HARMLESS[name](context)
    context.check()


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leads_out_is_refused_by_name(context: Context, name: str) -> None:
    add, member = OUTSIDE[name]
    add(context)
    with pytest.raises(BuildContextInvalid) as refused:
        context.check()
    assert refused.value.extensions["member"] == member


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(b""), gzip.compress(b"not a tar" * 100), b"\x1f\x8b" + b"x" * 100]
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "context"
    path.write_bytes(content)
    with pytest.raises(BuildContextInvalid):
        archive.check(path, unpacked=UNPACKED)


def test_one_that_breaks_off(context: Context) -> None:
    context.add("file", content=os.urandom(100_000))
    context.check()
    whole = context.path.read_bytes()
    for length in (len(whole) - 4, len(whole) // 2, 100):
        context.path.write_bytes(whole[:length])
        with pytest.raises(BuildContextInvalid):
            archive.check(context.path, unpacked=UNPACKED)


def test_without_a_dockerfile_at_the_root(tmp_path: Path) -> None:
    made = Context(tmp_path / "context")
    made.add("docker/Dockerfile")
    made.add("Dockerfile", tarfile.DIRTYPE)
    with pytest.raises(BuildContextInvalid, match="no Dockerfile"):
        made.check()


def test_what_is_large_when_it_is_unpacked(context: Context) -> None:
    context.add("zeros", content=bytes(2 * UNPACKED))
    with pytest.raises(BuildContextInvalid, match="MAX_BUILD_UNPACKED"):
        context.check()
    assert context.path.stat().st_size < 10_000


def test_what_is_large_after_the_archives_end(context: Context) -> None:
    context.tar.close()
    context.plain.write(bytes(2 * UNPACKED))
    with pytest.raises(BuildContextInvalid, match="MAX_BUILD_UNPACKED"):
        context.check()


def test_a_sparse_file_counts_as_what_it_becomes(context: Context) -> None:
    entry = tarfile.TarInfo("sparse")
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**12)}
    content = b"1\n0\n512\n".ljust(512, b"\0") + bytes(512)
    entry.size = len(content)
    context.tar.addfile(entry, io.BytesIO(content))
    with pytest.raises(BuildContextInvalid, match="MAX_BUILD_UNPACKED"):
        context.check()


def test_a_header_that_would_fill_the_memory(context: Context) -> None:
    entry = tarfile.TarInfo("long")
    entry.pax_headers = {"comment": "x" * (archive.MAX_HEADER + 1)}
    context.tar.addfile(entry)
    with pytest.raises(BuildContextInvalid, match="header"):
        context.check(unpacked=10**9)


def test_headers_without_end(context: Context) -> None:
    entry = tarfile.TarInfo("name")
    entry.type = tarfile.GNUTYPE_LONGNAME
    entry.size = 5
    block = entry.tobuf(tarfile.GNU_FORMAT) + b"name\0".ljust(512, b"\0")
    context.tar.close()
    context.plain.seek(0)
    context.plain.write(block * 5000)
    with pytest.raises(BuildContextInvalid):
        context.check(unpacked=10**9)


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "MAX_NAMES"])
def test_too_many_members(context: Context, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(archive, limit, 20)
    for number in range(21):
        context.add(f"{number}")
    with pytest.raises(BuildContextInvalid, match="too many members"):
        context.check()


def test_links_that_take_long_to_follow(context: Context) -> None:
    for number in range(1000):
        context.link(f"{number}", "/".join([*("a", "..") * 31, f"{number + 1}"]))
    with pytest.raises(BuildContextInvalid, match="too many links"):
        context.check(unpacked=10**9)


def test_a_long_name_is_told_in_part(context: Context) -> None:
    context.add("../" + "x" * 1000)
    with pytest.raises(BuildContextInvalid) as refused:
        context.check()
    assert refused.value.extensions["member"] == ("../" + "x" * 1000)[: archive.MAX_TOLD]
