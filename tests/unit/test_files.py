"""Files as answers show them: names and times are whatever somebody in a container makes them."""

from __future__ import annotations

import pytest

from runtime_server.engine.files import FileEntry, FileKind
from runtime_server.models import FileListing
from runtime_server.runtimes.files import info, moment


@pytest.mark.parametrize("mtime", [1e15, -1e15, float(2**63), float("nan"), float("inf")])
def test_times_that_no_date_stands_for(mtime: float) -> None:
    assert moment(mtime) is None
    assert info(FileEntry("a", FileKind.FILE, mtime=mtime)).mtime is None


def test_times() -> None:
    found = moment(1_700_000_000.5)
    assert found is not None
    assert found.isoformat() == "2023-11-14T22:13:20.500000+00:00"
    assert moment(-1.0) is not None


def test_names_that_are_no_text() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    shown = info(FileEntry(name, FileKind.LINK, target="/" + name))
    assert (shown.name, shown.target) == ("caf\ufffd", "/caf\ufffd")
    assert "caf\ufffd" in FileListing(path="/", entries=[shown]).model_dump_json()
