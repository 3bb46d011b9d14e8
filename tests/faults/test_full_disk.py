"""The state directory on a disk without a free byte or inode."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.client.retry import RetryPolicy
from runtime_server.errors import StorageUnavailable
from tests.faults.server import Site, eventually, job
from tests.faults.tally import GONE, Tally


class SmallDisk:
    """A file system in memory of a few megabytes, mounted on ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        options = "size=4m,nr_inodes=256,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    def fill(self) -> None:
        """To the brim: blocks and inodes. The log goes first, whose own blocks would take some more writes."""
        with contextlib.closing(sqlite3.connect(self.folder / "state.db")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with contextlib.suppress(OSError), (self.folder / "filler-0").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(OSError, match="No space left"):
            _touch(self.folder / f"filler-{number}" for number in range(1, 1000))
        free = os.statvfs(self.folder)
        assert (free.f_bavail, free.f_favail) == (0, 0)

    def free(self) -> None:
        """Give back what ``fill`` took."""
        for file in self.folder.glob("filler-*"):
            file.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


def _touch(files: Iterable[Path]) -> None:
    for file in files:
        file.touch()


@pytest.fixture
def disk(site: Site) -> Iterator[SmallDisk]:
    made = SmallDisk(site.state_dir)
    try:
        yield made
    finally:
        made.free()
        site.close()
        made.unmount()


def test_a_full_disk_refuses_starts_and_lets_stops_through(disk: SmallDisk, site: Site, tally: Tally) -> None:
    server = site.start(env={"RUNTIME_SERVER_SWEEP_INTERVAL": "1"})
    with server.client(retry=RetryPolicy(max_attempts=1)) as hasty, server.client() as client:
        ids = {
            name: client.start_runtime(job(name)).runtime_id for name in ("stay", "stop", "remove", "pause", "die")
        }
        tally.operation(5)
        disk.fill()
        tally.fault("full disk")

        for _ in range(4):
            with pytest.raises(StorageUnavailable) as refused:
                hasty.start_runtime(job("refused"))
            assert refused.value.retryable
            assert refused.value.retry_after is not None
        _read(hasty, ids["stay"])
        assert hasty.stop_runtime(ids["stop"], timeout=0).status == "stopped"
        assert hasty.remove_runtime(ids["remove"]).status == "removed"
        with contextlib.suppress(StorageUnavailable):
            hasty.pause_runtime(ids["pause"])
        site.docker.kill(ids["die"], "KILL")
        tally.operation(8)
        states = dict(site.states())
        assert (states["stop"], states.get("remove"), states["stay"]) == ("exited", None, "running")
        assert "refused" not in states

        disk.free()
        intended = {"stay": "running", "stop": "exited", "remove": GONE, "die": "exited", "refused": GONE}
        intended["pause"] = states["pause"]
        tally.verify(site, client, intended)
        eventually(lambda: client.ready().ready, "ready again")
        client.start_runtime(job("after"))
        client.pause_runtime(ids["stay"])
        tally.operation(2)
        tally.verify(site, client, intended | {"after": "running", "stay": "paused"})


def _read(client: RuntimeServerClient, runtime_id: str) -> None:
    """Reading works, or says that the storage doesn't; nothing else."""
    for _ in range(4):
        with contextlib.suppress(StorageUnavailable):
            assert client.get_runtime(runtime_id).status == "running"
        with contextlib.suppress(StorageUnavailable):
            assert client.list_runtimes() is not None
