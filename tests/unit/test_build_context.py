"""Contexts on their way into a file."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_server.builds.context import Upload
from runtime_server.errors import BodyTooLarge, BuildContextInvalid, StorageUnavailable
from tests.forms import archive

CONTEXT = archive()
TEXT = base64.b64encode(CONTEXT)


@pytest.fixture
def upload(tmp_path: Path) -> Iterator[Upload]:
    with Upload(tmp_path, 10_000) as made:
        yield made


def receive(upload: Upload, data: bytes, size: int) -> None:
    """Take it in pieces of that size."""
    for at in range(0, len(data), size):
        upload.write(data[at : at + size])
    upload.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 10_000])
@pytest.mark.parametrize(
    "sent",
    [
        TEXT,
        CONTEXT,
        base64.encodebytes(CONTEXT),
        TEXT.replace(b"A", b"A\r\n"),
        b"  " + TEXT + b"\n",
    ],
    ids=["base64", "raw", "lines", "crlf", "space"],
)
def test_however_it_comes_it_is_the_same(upload: Upload, sent: bytes, size: int) -> None:
    receive(upload, sent, size)
    assert upload.path.read_bytes() == CONTEXT
    assert upload.digest == f"sha256:{hashlib.sha256(CONTEXT).hexdigest()}"
    assert stat.S_IMODE(upload.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "sent", [b"", b"H", b"H4sI!!!!", b"H4sIA", b"QUI=QUI=", b"====", b"=", b"H4sI\xff\xff\xff\xff", b"{}", b"H4-_"]
)
def test_what_is_neither(upload: Upload, sent: bytes) -> None:
    for size in (1, 100):
        with Upload(upload.path.parent, 10_000) as made, pytest.raises(BuildContextInvalid):
            receive(made, sent, size)


def test_nothing_has_come(upload: Upload) -> None:
    assert not upload.began
    upload.write(b"H")
    assert upload.began


@pytest.mark.parametrize("encode", [bytes, base64.b64encode])
def test_too_much(tmp_path: Path, encode: type[bytes]) -> None:
    data = b"\x1f\x8b" + bytes(1000)
    with Upload(tmp_path, len(data)) as fits:
        fits.write(encode(data))
        fits.finish()
    with pytest.raises(BodyTooLarge) as refused, Upload(tmp_path, len(data) - 1) as large:
        large.write(encode(data))
    assert refused.value.extensions["limit"] == len(data) - 1
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_kept_stays(tmp_path: Path) -> None:
    with Upload(tmp_path, 10_000) as gone:
        gone.write(TEXT)
    with Upload(tmp_path, 10_000) as kept:
        kept.write(TEXT)
        kept.finish()
        kept.keep()
    assert list(tmp_path.iterdir()) == [kept.path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Upload(tmp_path, 10_000_000) as upload:
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), upload._file.fileno())
        with pytest.raises(StorageUnavailable):
            upload.write(b"\x1f\x8b" + bytes(1_000_000))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        Upload(tmp_path / "none", 10)
