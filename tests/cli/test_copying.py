"""Files between here and a runtime, and tars that mean harm."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from runtime_server import RuntimeServerClient
from runtime_server.cli.unpacking import Refused, unpack
from tests.cli.conftest import Run, data


@pytest.fixture
def runtime(client: RuntimeServerClient) -> str:
    return client.start_runtime(image="busybox", name="web").runtime_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "src"
    (made / "sub").mkdir(parents=True)
    (made / "one").write_bytes(b"1\n")
    (made / "one").chmod(0o750)
    (made / "sub" / "two").write_bytes(b"22\n")
    (made / "link").symlink_to("/one/that/leads/nowhere")
    return made


def test_a_file_there_and_back(run: Run, client: RuntimeServerClient, runtime: str, folder: Path) -> None:
    run("cp", str(folder / "one"), "web:/tmp")
    run("cp", str(folder / "one"), "web:/tmp/other")
    assert client.get_file("web", "/tmp/one") == client.get_file("web", "/tmp/other") == b"1\n"
    assert {each.name: each.mode for each in client.list_files("web", "/tmp")} == {"one": "0750", "other": "0750"}
    run("cp", "web:/tmp/one", str(folder / "back"))
    run("cp", "web:/tmp/one", str(folder / "sub"))
    for copied in (folder / "back", folder / "sub" / "one"):
        assert copied.read_bytes() == b"1\n"
        assert copied.stat().st_mode & 0o7777 == 0o750
    assert "isn't a folder" in run("cp", str(folder / "one"), "web:/tmp/none/", code=1).stderr
    assert "isn't a folder" in run("cp", "web:/tmp/one", f"{folder}/none/", code=1).stderr


def test_a_folder_there_and_back(run: Run, client: RuntimeServerClient, runtime: str, folder: Path) -> None:
    for target, place in (("/tmp", "/tmp/src"), ("/tmp/new", "/tmp/new")):
        run("cp", str(folder), f"web:{target}")
        assert [each.name for each in client.list_files("web", place)] == ["link", "one", "sub"]
    run("cp", f"{folder}/.", "web:/tmp/new/sub")
    assert [each.name for each in client.list_files("web", "/tmp/new/sub")] == ["link", "one", "sub", "two"]
    back = folder.parent / "back"
    assert data(run("cp", "-o", "json", "web:/tmp/src", str(back))) == {"path": str(back), "entries": 5, "bytes": 5}
    assert sorted(path.name for path in back.iterdir()) == ["link", "one", "sub"]
    assert os.readlink(back / "link") == "/one/that/leads/nowhere"
    back.joinpath("sub").chmod(0o700)
    run("cp", "web:/tmp/src", str(back))
    assert (back / "src" / "sub" / "two").read_bytes() == b"22\n"
    run("cp", "web:/tmp/src/.", str(back))
    assert (back / "sub" / "two").read_bytes() == b"22\n"


def test_tars_by_stdin_and_stdout(run: Run, client: RuntimeServerClient, runtime: str) -> None:
    client.put_file("web", "/tmp/one", b"1")
    sent = run("cp", "web:/tmp/one", "-").stdout_bytes
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        assert tar.getnames() == ["one"]
    run("cp", "-", "web:/tmp/unpacked", input=sent)
    assert client.get_file("web", "/tmp/unpacked/one") == b"1"


def test_whether_a_folder_is_one(run: Run, client: RuntimeServerClient, runtime: str, folder: Path) -> None:
    """A folder with nothing in it but a file of its own name lists the same as that file."""
    client.put_file("web", "/tmp/same/same", b"x")
    run("cp", str(folder / "one"), "web:/tmp/same")
    assert client.get_file("web", "/tmp/same/one") == b"1\n"


def test_listing_and_deleting(run: Run, client: RuntimeServerClient, runtime: str) -> None:
    client.put_file("web", "/tmp/d/one", b"1")
    header, row = run("files", "ls", "web:/tmp/d").stdout.splitlines()
    assert header.split() == ["MODE", "OWNER", "SIZE", "CHANGED", "NAME"]
    assert row.split()[-1] == "one"
    assert data(run("files", "ls", "-o", "json", "web:/tmp/d"))["entries"][0]["name"] == "one"
    run("files", "rm", "web:/tmp/d", code=4)
    run("files", "rm", "-r", "web:/tmp/d")
    run("files", "ls", "web:/tmp/d", code=3)


def test_what_isnt_between_here_and_there(run: Run, runtime: str, folder: Path) -> None:
    for places in (("web:/a", "web:/b"), ("./a", "/b")):
        assert "RUNTIME:PATH" in run("cp", *places, code=2).stderr
    assert "No such file" in run("cp", f"{folder}/nothing", "web:/tmp", code=1).stderr
    run("cp", "web:/nothing", str(folder), code=3)
    assert "RUNTIME:PATH" in run("files", "ls", "./tmp", code=2).stderr


def packed(*members: tuple[str, bytes, str], **more: int) -> io.BytesIO:
    """A tar of members: name, type, content or where it leads."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, text in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, more.get("mode", 0o755)
            if kind == tarfile.REGTYPE:
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text.encode()))
            else:
                entry.linkname = text
                tar.addfile(entry)
    out.seek(0)
    return out


FILE, FOLDER, LINK, HARD, PIPE = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("d", FOLDER, ""), ("d/../../evil", FILE, "x")],
        [("d", FOLDER, ""), ("d/l", LINK, "OUTSIDE"), ("d/l/evil", FILE, "x")],
        [("d", FOLDER, ""), ("d/l", LINK, "OUTSIDE"), ("d/l/evil", LINK, "x")],
        [("d", FOLDER, ""), ("d/l", LINK, "OUTSIDE"), ("d/l/evil", FOLDER, "")],
        [("d", FOLDER, ""), ("d/l", LINK, "OUTSIDE"), ("d/h", HARD, "d/l/secret")],
        [("d", FOLDER, ""), ("d/h", HARD, "d/../../outside/secret")],
        [("d", FOLDER, ""), ("d/l", LINK, "OUTSIDE/secret"), ("d/h", HARD, "d/l")],
    ],
    ids=[
        "up",
        "through a link",
        "link below a link",
        "folder below a link",
        "hard link",
        "hard up",
        "hard to a link",
    ],
)
def test_what_leads_out_is_refused(members: list[tuple[str, bytes, str]], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("kept")
    into = tmp_path / "into"
    with pytest.raises(Refused):
        unpack(packed(*((name, kind, text.replace("OUTSIDE", str(outside))) for name, kind, text in members)), into)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "kept"
    assert not (tmp_path / "evil").exists()


def test_a_link_of_an_earlier_copy_isnt_followed(tmp_path: Path) -> None:
    outside, into = tmp_path / "outside", tmp_path / "into"
    outside.mkdir()
    (outside / "f").write_text("kept")
    unpack(packed(("d", FOLDER, ""), ("d/l", LINK, str(outside)), ("d/f", LINK, str(outside / "f"))), into)
    with pytest.raises(Refused):
        unpack(packed(("d", FOLDER, ""), ("d/l/f", FILE, "evil")), into)
    unpack(packed(("d", FOLDER, ""), ("d/l", FOLDER, ""), ("d/l/f", FILE, "mine"), ("d/f", FILE, "mine")), into)
    assert (outside / "f").read_text() == "kept"
    assert (into / "l" / "f").read_text() == (into / "f").read_text() == "mine"


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    done = unpack(
        packed(("d", FOLDER, ""), ("d/f", FILE, "x"), ("d/p", PIPE, ""), ("d/h", HARD, "d/f"), mode=0o6755),
        tmp_path / "into",
    )
    assert (done.entries, done.left_out) == (3, ["d/p"])
    assert (tmp_path / "into" / "h").read_text() == "x"
    assert (tmp_path / "into" / "f").stat().st_mode & 0o7777 == 0o755
    with pytest.raises(Refused):
        unpack(io.BytesIO(b"no tar at all" * 100), tmp_path / "other")
