"""Tars with tricks in them, and files as tars."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from runtime_server.errors import ArchiveInvalid, FileTooLarge
from runtime_server.runtimes import tars
from runtime_server.runtimes.tars import Unpacked, checked, first_file, one_file

LIMIT = 1_000_000


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for key, value in fields.items():
        setattr(made, key, value)
    return made, content


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **options) as archive:
        for made, content in entries:
            archive.addfile(made, io.BytesIO(content))
    return out.getvalue()


def passed(data: bytes, **options: Any) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """What is left of a tar, by name."""
    out = io.BytesIO(b"".join(checked(io.BytesIO(data), **{"limit": LIMIT, **options})))
    with tarfile.open(fileobj=out) as archive:
        found = {}
        for each in archive:
            file = archive.extractfile(each) if each.isreg() else None
            found[each.name] = (each, file.read() if file else b"")
        return found


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_good_tar_stays_as_it_is(form: int) -> None:
    long = "folder/" + "n" * 90
    data = tar(
        entry("folder", type=tarfile.DIRTYPE, mode=0o750),
        entry("folder/file", b"content", mode=0o640, uid=7, gid=8, mtime=1_700_000_000),
        entry("./folder//empty", b""),
        entry(long, b"x" * 10_000),
        entry("folder/link", type=tarfile.SYMTYPE, linkname="file"),
        entry("folder/out", type=tarfile.SYMTYPE, linkname="/usr/bin/python3"),
        entry("folder/same", type=tarfile.LNKTYPE, linkname="./folder/file"),
        form=form,
    )
    found = passed(data)
    assert list(found) == [
        "folder", "folder/file", "folder/empty", long, "folder/link", "folder/out", "folder/same",
    ]  # fmt: skip
    made, content = found["folder/file"]
    assert (content, made.mode, made.uid, made.gid, made.mtime) == (b"content", 0o640, 7, 8, 1_700_000_000)
    assert found["folder"][0].isdir()
    assert found[long][1] == b"x" * 10_000
    assert found["folder/out"][0].linkname == "/usr/bin/python3"
    assert (found["folder/same"][0].islnk(), found["folder/same"][0].linkname) == (True, "folder/file")


def test_prefix_owner_and_count() -> None:
    count = Unpacked()
    data = tar(entry("a", b"12345", uid=1), entry("b", type=tarfile.LNKTYPE, linkname="a"), entry("ü", b"678"))
    found = passed(data, prefix="deep/down/", ids=(1000, 2000), count=count)
    assert list(found) == ["deep/down/a", "deep/down/b", "deep/down/ü"]
    assert {(each.uid, each.gid) for each, _ in found.values()} == {(1000, 2000)}
    assert found["deep/down/b"][0].linkname == "deep/down/a"
    assert (count.entries, count.size) == (3, 8)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6777, 0o7777])
def test_no_file_becomes_set_user_id(mode: int) -> None:
    found = passed(tar(entry("a", b"x", mode=mode)))
    assert found["a"][0].mode == mode & 0o1777


TRICKS: dict[str, tuple[tuple[tarfile.TarInfo, bytes], ...]] = {
    "absolute": (entry("/etc/passwd", b"x"),),
    "up": (entry("../x", b"x"),),
    "up within": (entry("a/../../x", b"x"),),
    "up at the end": (entry("a/..", type=tarfile.DIRTYPE),),
    "through a link": (entry("a", type=tarfile.SYMTYPE, linkname="/etc"), entry("a/passwd", b"x")),
    "through a link above": (entry("a", type=tarfile.SYMTYPE, linkname=".."), entry("a/b/c/d", b"x")),
    "through a link by detour": (entry("a", type=tarfile.SYMTYPE, linkname="/"), entry("./a//x", b"x")),
    "hard link out": (entry("a", type=tarfile.LNKTYPE, linkname="/etc/shadow"),),
    "hard link up": (entry("a", type=tarfile.LNKTYPE, linkname="../../etc/shadow"),),
    "hard link to what comes later": (entry("a", type=tarfile.LNKTYPE, linkname="b"), entry("b", b"x")),
    "hard link to a link": (
        entry("a", type=tarfile.SYMTYPE, linkname="/etc/shadow"),
        entry("b", type=tarfile.LNKTYPE, linkname="a"),
    ),
    "hard link to a folder": (
        entry("a", type=tarfile.DIRTYPE),
        entry("b", type=tarfile.LNKTYPE, linkname="a"),
    ),
    "link to nothing": (entry("a", type=tarfile.SYMTYPE, linkname=""),),
    "too deep": (entry("d/" * 129 + "a", b"x"),),
    "too long": (entry("n/" + "n" * 4096, b"x"),),
    "link to too far": (entry("a", type=tarfile.SYMTYPE, linkname="n" * 5000),),
    "nobody's user": (entry("a", uid=2**32 - 1),),
    "a group that can't be": (entry("a", gid=2**40),),
    "character device": (entry("a", type=tarfile.CHRTYPE, devmajor=1, devminor=1),),
    "block device": (entry("a", type=tarfile.BLKTYPE, devmajor=8, devminor=0),),
    "pipe": (entry("a", type=tarfile.FIFOTYPE),),
    "contiguous with an absolute name": (entry("/a", b"x", type=tarfile.CONTTYPE),),
}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_are_refused(trick: str, form: int) -> None:
    with pytest.raises(ArchiveInvalid):
        passed(tar(entry("good", b"fine"), *TRICKS[trick], form=form))


def test_a_name_in_a_header_of_its_own_is_judged_too() -> None:
    made, content = entry("harmless", b"x")
    made.pax_headers = {"path": "/etc/passwd"}
    with pytest.raises(ArchiveInvalid):
        passed(tar((made, content)))
    link, _ = entry("link", type=tarfile.LNKTYPE, linkname="good")
    link.pax_headers = {"linkpath": "/etc/shadow"}
    with pytest.raises(ArchiveInvalid):
        passed(tar(entry("good", b"x"), (link, b"")))


@pytest.mark.parametrize(
    ("header", "value"),
    [("size", "-1"), ("size", "-512"), ("path", "a\0b"), ("uid", "-1"), ("path", ""), ("size", "1e99")],
)
def test_headers_that_say_what_cannot_be(header: str, value: str) -> None:
    made, content = entry("a", b"x")
    made.pax_headers = {header: value}
    with contextlib.suppress(ArchiveInvalid):
        # What tarfile itself makes harmless may pass as that.
        assert set(passed(tar((made, content)))) <= {"a"}


@pytest.mark.parametrize("time", ["nan", "inf", "-1", "1e300", "99999999999"])
def test_times_that_no_engine_takes_are_none(time: str) -> None:
    made, content = entry("a", b"x")
    made.pax_headers = {"mtime": time}
    assert passed(tar((made, content)))["a"][0].mtime == 0


def test_headers_about_all_entries_are_few() -> None:
    data = b"".join(
        tarfile.TarInfo.create_pax_global_header({f"key{number}": "x" * 1000})
        for number in range(tars.MAX_GLOBAL + 1)
    )
    with pytest.raises(ArchiveInvalid, match="headers"):
        passed(data + tar(entry("a")))


def test_names_are_not_too_long_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_NAMES", 1000)
    assert len(passed(tar(*(entry(f"{number:0100}") for number in range(10))))) == 10
    with pytest.raises(ArchiveInvalid, match="long"):
        passed(tar(*(entry(f"{number:0100}") for number in range(11))))


def test_no_nonsense_is_anything_but_refused() -> None:
    """Bytes exchanged at random, headers above all."""
    random = Random(6)
    made, content = entry("folder/" + "n" * 120, b"x" * 600)
    made.pax_headers = {"mtime": "1.5", "comment": "ü"}
    good = tar(entry("a", b"x"), (made, content), entry("l", type=tarfile.SYMTYPE, linkname="n" * 150))
    good += tar(entry("m" * 200, b"y"), form=tarfile.GNU_FORMAT)
    for _ in range(600):
        data = bytearray(good)
        for _ in range(random.randint(1, 8)):
            data[random.randrange(len(data))] = random.choice(b"\0\xff0719- =\nx")
        with contextlib.suppress(ArchiveInvalid, FileTooLarge):
            list(checked(io.BytesIO(_with_sums(data)), limit=LIMIT))


def _with_sums(data: bytearray) -> bytes:
    """With the sum of each header right, so that it is read."""
    for at in range(0, len(data) - 511, 512):
        block = data[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(data)


def test_headers_before_headers_end() -> None:
    with pytest.raises(ArchiveInvalid):
        passed(_long_name(b"n" * 10) * 2000 + tar(entry("a")))


def _long_name(name: bytes) -> bytes:
    made = tarfile.TarInfo("././@LongLink")
    made.type, made.size = tarfile.GNUTYPE_LONGNAME, len(name)
    return made.tobuf(tarfile.GNU_FORMAT) + name.ljust(512, b"\0")


def test_sparse_files_are_refused() -> None:
    """A few hundred bytes would become a terabyte."""
    out = io.BytesIO()
    made = tarfile.TarInfo("hole")
    made.size = 0
    made.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "hole",
        "GNU.sparse.realsize": str(2**40),
    }
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        content = b"1\n0\n0\n".ljust(512, b"\0")
        made.size = len(content)
        archive.addfile(made, io.BytesIO(content))
    with pytest.raises((ArchiveInvalid, FileTooLarge)):
        passed(out.getvalue())


def test_sizes_and_numbers_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar(entry("a", b"x" * 600_000), entry("b", b"x" * 600_000))
    with pytest.raises(FileTooLarge) as caught:
        passed(data)
    assert caught.value.extensions == {"limit": LIMIT}
    assert len(passed(data, limit=1_200_000)) == 2
    monkeypatch.setattr(tars, "MAX_ENTRIES", 3)
    with pytest.raises(ArchiveInvalid):
        passed(tar(*(entry(str(number)) for number in range(4))))


def test_headers_that_are_too_large_are_not_read() -> None:
    made, _ = entry("a")
    made.pax_headers = {"comment": "x" * 100_000}
    with pytest.raises(ArchiveInvalid, match="header"):
        passed(tar((made, b"")))
    with pytest.raises(ArchiveInvalid, match="header"):
        passed(tar(entry("n" * 100_000), form=tarfile.GNU_FORMAT))


class Slow(io.RawIOBase):
    """Gives a byte or a few at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(self._step, size))


@pytest.mark.parametrize("step", [1, 511, 513])
def test_a_slow_body_is_as_good(step: int) -> None:
    data = tar(entry("a", b"x" * 3000), entry("b", b"y"))
    out = io.BytesIO(b"".join(checked(Slow(data, step), limit=LIMIT)))
    with tarfile.open(fileobj=out) as archive:
        assert archive.getnames() == ["a", "b"]


@pytest.mark.parametrize(
    "broken",
    [
        lambda data: b"",
        lambda data: b"not a tar at all" * 100,
        lambda data: data[:700],
        lambda data: b"\x1f\x8b" + data,
        lambda data: data[:512] + b"\xff" * 512 + data[1024:1536] + b"z" * 4096,
    ],
)
def test_what_is_no_tar(broken: Callable[[bytes], bytes]) -> None:
    data = broken(tar(entry("a", b"x" * 1000), entry("b", b"y")))
    with pytest.raises(ArchiveInvalid):
        list(checked(io.BytesIO(data), limit=LIMIT))


def test_an_empty_tar_is_one() -> None:
    assert passed(tar()) == {}


def test_nothing_is_kept_in_memory() -> None:
    """A tar of a gigabyte goes through in pieces: as it is read, it is sent on."""

    class Endless:
        def __init__(self) -> None:
            made = tarfile.TarInfo("big")
            made.size = 2**30
            self.head = made.tobuf()
            self.read_so_far = 0

        def read(self, size: int) -> bytes:
            found = self.head[:size] if self.head else b"\0" * size
            self.head = self.head[len(found) :] if self.head else b""
            self.read_so_far += len(found)
            return found

    source, sent = Endless(), 0
    for chunk in checked(source, limit=2**31):
        sent += len(chunk)
        assert len(chunk) <= tars.CHUNK
        assert source.read_so_far - sent < 2_000_000
    assert sent >= 2**30


def test_one_file_there_and_back() -> None:
    attributes = {"mode": 0o600, "mtime": 5.0, "uid": 1, "gid": 2}
    data = b"".join(one_file("a/b/ü", iter([b"con", b"tent"]), 7, attributes))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["a/b/ü"]
    found, content = first_file(io.BytesIO(data))
    assert (found.size, found.mode, found.uid, found.gid) == (7, 0o600, 1, 2)
    assert b"".join(content) == b"content"


@pytest.mark.parametrize("data", [b"", tar(), tar(entry("d", type=tarfile.DIRTYPE))])
def test_no_file_to_be_read(data: bytes) -> None:
    with pytest.raises(ArchiveInvalid):
        first_file(io.BytesIO(data))
