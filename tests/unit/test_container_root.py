"""A container's files through the host: no link, detour or exchange leads out. Tried on folders of this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime_server.engine.container_root import MAX_DEPTH, ContainerRoot, TooDeep, walked
from runtime_server.engine.files import FileKind, FolderNotEmpty, NotAFolder, PathMissing, ReadOnly


class Tree:
    """``root`` stands for a container's; ``outside`` is what must never be reached."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.outside = folder / "outside"
        for each in (self.root, self.outside, self.root / "srv/deep", self.root / "etc"):
            each.mkdir(parents=True, exist_ok=True)
        (self.outside / "secret").write_text("secret")
        (self.root / "etc/passwd").write_text("root")
        (self.root / "srv/file").write_text("content")
        (self.root / "srv/deep/er").write_text("")
        self.access = ContainerRoot("nobody", os.getpid())
        self.descriptor = os.open(self.root, os.O_PATH | os.O_DIRECTORY)

    def listed(self, path: str, most: int = 100) -> list[str]:
        return [each.name for each in self.access.listed(self.descriptor, path, most)[0]]

    def delete(self, path: str, *, recursive: bool = False) -> None:
        self.access.deleted(self.descriptor, path, recursive=recursive)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    yield made
    os.close(made.descriptor)


def test_what_is_in_a_folder(tree: Tree) -> None:
    os.chmod(tree.root / "srv/file", 0o4751)
    os.utime(tree.root / "srv/file", (1, 1_700_000_000))
    (tree.root / "srv/link").symlink_to("/etc/passwd")
    os.mkfifo(tree.root / "srv/pipe")
    (tree.root / "srv/ümläut").touch()
    Path(os.fsdecode(os.fsencode(tree.root / "srv/") + b"/\xff")).touch()
    entries, more = tree.access.listed(tree.descriptor, "/srv", 100)
    found = {each.name: each for each in entries}
    assert list(found) == sorted(found)
    assert not more
    file = found["file"]
    assert (file.kind, file.size, file.mode, file.mtime) == (FileKind.FILE, 7, 0o4751, 1_700_000_000)
    assert file.ids == (os.getuid(), os.getgid())
    assert (found["link"].kind, found["link"].target) == (FileKind.LINK, "/etc/passwd")
    assert found["deep"].kind is FileKind.FOLDER
    assert found["pipe"].kind is FileKind.OTHER
    assert "ümläut" in found
    assert "\udcff" in found  # PEP 383
    few, more = tree.access.listed(tree.descriptor, "/srv", 2)
    assert ([each.name for each in few], more) == (sorted(found)[:2], True)


@pytest.mark.parametrize("path", ["/", "", ".", "/srv/..", "/../..", "//srv/../.", "/srv/deep/../../../../.."])
def test_the_root_is_the_root(tree: Tree, path: str) -> None:
    assert tree.listed(path) == ["etc", "srv"]


@pytest.mark.parametrize(
    "target",
    [
        "OUTSIDE",
        "../outside",
        "../../../../../../../../../../OUTSIDE",
        "/proc/self/root/OUTSIDE",
        "up/outside",
        "/up/outside",
    ],
)
def test_no_link_leads_out(tree: Tree, target: str) -> None:
    (tree.root / "up").symlink_to("..")
    (tree.root / "way").symlink_to(target.replace("OUTSIDE", str(tree.outside)))
    with pytest.raises(PathMissing):
        tree.listed("/way")
    with pytest.raises(PathMissing):
        tree.delete("/way/secret")
    tree.delete("/way")
    assert (tree.outside / "secret").exists()


def test_links_lead_within(tree: Tree) -> None:
    (tree.root / "absolute").symlink_to("/srv/deep")
    (tree.root / "srv/relative").symlink_to("../srv/./deep")
    (tree.root / "chain").symlink_to("absolute/../relative")
    for path in ("/absolute", "/srv/relative", "/chain", "/chain/../deep"):
        assert tree.listed(path) == ["er"]
    with walked(tree.descriptor, "/absolute", follow=False) as (_, name):
        assert name == "absolute"
    tree.delete("/chain/er")
    assert not (tree.root / "srv/deep/er").exists()
    (tree.root / "loop").symlink_to("loop")
    (tree.root / "a").symlink_to("b")
    (tree.root / "b").symlink_to("a")
    for path in ("/loop", "/a/x"):
        with pytest.raises(PathMissing):
            tree.listed(path)


def test_deleting(tree: Tree) -> None:
    tree.delete("/srv/file")
    assert not (tree.root / "srv/file").exists()
    with pytest.raises(FolderNotEmpty):
        tree.delete("/srv")
    tree.delete("/srv", recursive=True)
    assert not (tree.root / "srv").exists()
    with pytest.raises(PathMissing):
        tree.delete("/srv")
    with pytest.raises(NotAFolder):
        tree.delete("/etc/passwd/x")
    with pytest.raises(ReadOnly):
        tree.delete("/", recursive=True)
    (tree.root / "empty").mkdir()
    tree.delete("/empty")
    with pytest.raises(NotAFolder):
        tree.listed("/etc/passwd")
    with pytest.raises(PathMissing):
        tree.listed("/etc/" + "n" * 300)


def test_deleting_a_folder_follows_no_link_in_it(tree: Tree) -> None:
    (tree.root / "srv/out").symlink_to(tree.outside)
    (tree.root / "srv/deep/out").symlink_to("../../../outside")
    tree.delete("/srv", recursive=True)
    assert (tree.outside / "secret").exists()


def test_folders_may_be_nested_deeper_than_this_process_has_descriptors(tree: Tree) -> None:
    """By whoever is inside, by folders or by links; nobody else's calls suffer from it."""
    here = os.open(tree.root / "srv/deep", os.O_RDONLY)
    for _ in range(MAX_DEPTH * 2):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TooDeep):
        tree.delete("/srv/deep", recursive=True)
    with pytest.raises(PathMissing):
        tree.listed("/srv/deep" + "/d" * MAX_DEPTH)
    assert tree.listed("/srv/deep" + "/d" * (MAX_DEPTH - 2)) == ["d"]
    for number in range(10):
        (tree.root / f"l{number}").symlink_to(f"/l{number + 1}" if number < 9 else "/srv/deep" + "/d" * 90)
    (tree.root / "srv/deep" / ("d/" * 90) / "l10").symlink_to("/l0/d/d")
    with pytest.raises(PathMissing):
        tree.listed("/l0/l10")
    assert len(os.listdir("/proc/self/fd")) <= before  # what other tests left may have gone meanwhile


def test_a_folder_that_is_exchanged_for_a_link_all_the_time(tree: Tree) -> None:
    """Somebody inside tries to have what is outside listed or deleted."""
    real, aside, link = tree.root / "srv/deep", tree.root / "srv/aside", tree.root / "srv/link"
    link.symlink_to(tree.outside)
    over = threading.Event()

    def exchange() -> None:
        while not over.is_set():
            os.rename(real, aside)
            os.rename(link, real)
            os.rename(real, link)
            os.rename(aside, real)

    attacker = threading.Thread(target=exchange)
    attacker.start()
    try:
        for _ in range(300):
            with suppress(PathMissing, NotAFolder):
                assert tree.listed("/srv/deep") == ["er"]
            try:
                tree.delete("/srv/deep/secret")
                raise AssertionError("the secret was reached")
            except (PathMissing, NotAFolder):
                pass
    finally:
        over.set()
        attacker.join(60)
    assert (tree.outside / "secret").exists()


def test_what_is_no_container_of_the_engines_is_not_opened() -> None:
    for pid in (None, os.getpid()):
        with ContainerRoot("0123456789abcdef" * 4, pid).opened() as descriptor:
            assert descriptor is None


def test_another_namespaces_ids() -> None:
    from runtime_server.engine.container_root import _inner

    assert _inner([], 1000) == 1000
    assert _inner([(0, 100_000, 65_536)], 100_033) == 33
    assert _inner([(0, 100_000, 65_536)], 0) == 65534
    assert _inner([(0, 0, 4_294_967_295)], 7) == 7
