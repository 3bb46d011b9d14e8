"""Metrics of several processes as those of one: prometheus-client's files of values, one set for each process.

Processes are told apart by a name and known to live by a lock on their file, not by their process id: servers that
share a state directory may be in different process namespaces, and ids are given again. What a dead process counted
is folded into files of the dead, by whichever process looks next, so that no counter goes back and no file is left.

The files are in memory where there is a place for that. A page of a mapped file that the disk is busy writing holds
up who changes it, and with it, in Python, all other threads.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from runtime_server.metrics.instruments import Metrics
from runtime_server.paths import NotPrivate, check_private

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder in it is this user's own, which is checked
SIZES: Final = {"counter": 1 << 20, "histogram": 1 << 20, "gauge_livesum": 1 << 16}
"""Bytes of a process's files. Room for all series that there can be, taken at once: where a mapped file had to grow
with no room left, the process would be killed by a SIGBUS."""
FOLDED: Final = ("counter", "histogram")
"""Those that stay when their process has died."""
DEAD: Final = "dead"
"""Stands for a process's name in the files of those that are no more."""

_FOLDER = "runtime-server-"
_STATE = "state"
_ALIVE = ".alive"
_log = structlog.get_logger("runtime_server.metrics")


class Shared:
    """The metrics of all processes that work on one state directory.

    Args:
        state_dir: that directory.
        memory: where the files' folder is made, if it can be; else it is in the state directory.
    """

    def __init__(self, state_dir: Path, *, memory: Path = MEMORY) -> None:
        self._state_dir = state_dir
        self._memory = memory
        # Servers in different containers may have the same path for different directories.
        found = state_dir.stat()
        identity = b"%s\0%d:%d" % (os.fsencode(state_dir), found.st_dev, found.st_ino)
        name = hashlib.sha256(identity).hexdigest()[:16]
        in_memory = os.access(memory, os.W_OK)
        self.folder = memory / f"{_FOLDER}{name}" if in_memory else state_dir / "metrics"
        self._lock = state_dir / "metrics.lock"
        self._pid = 0
        self._name = ""
        self._descriptor: int | None = None

    def join(self) -> Metrics:
        """This process's instruments; all that is made in it from now on counts in its files.

        Raises:
            OSError: there is no room for them.
            NotPrivate: the folder is another user's.
        """
        self._enter()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)
        # prometheus-client chooses by the environment when it is imported, which may have been before.
        values.ValueClass = values.MultiProcessValue(self._identity)
        return Metrics(CollectorRegistry(auto_describe=False))

    def _identity(self) -> str:
        if self._pid != os.getpid():  # forked since
            self._enter()
        return self._name

    def _enter(self) -> None:
        name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        with self._locked(), ExitStack() as undo:
            self._make_folder()
            for kind in FOLDED:
                _allocate(self._path(kind, DEAD), SIZES[kind])
            self._fold()
            for kind, size in SIZES.items():
                undo.callback(self._path(kind, name).unlink, missing_ok=True)
                _allocate(self._path(kind, name), size)
            # The mark comes last: what has none is half made, and goes.
            mark = self.folder / f"{name}{_ALIVE}"
            undo.callback(mark.unlink, missing_ok=True)
            descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            undo.pop_all()
        if self._descriptor is not None and self._pid == os.getpid():
            os.close(self._descriptor)
        self._pid, self._name, self._descriptor = os.getpid(), name, descriptor

    def _make_folder(self) -> None:
        if not self.folder.exists():
            self._clear_memory()
            self.folder.mkdir(mode=0o700)
            (self.folder / _STATE).write_bytes(os.fsencode(self._state_dir))
        check_private(self.folder, self.folder.lstat())

    def collect(self) -> Iterable[Metric]:
        """What all processes have counted, the dead ones included. A collector of prometheus-client's.

        Where the folder was taken away (systemd-logind does so when its user leaves), it begins anew.
        """
        if self._pid == os.getpid() and not self._path("counter", self._name).exists():
            self._enter()
        with self._locked():
            self._fold()
            return list(MultiProcessCollector(None, str(self.folder)).collect())

    def leave(self) -> None:
        """This process counts no more; the last one takes the folder away."""
        with suppress(OSError), self._locked():
            if self._descriptor is not None and self._pid == os.getpid():
                os.close(self._descriptor)
                self._descriptor = None
            self._fold()
            if not any(self.folder.glob(f"*{_ALIVE}")):
                shutil.rmtree(self.folder, ignore_errors=True)

    def _fold(self) -> None:
        """Add what dead processes counted to the files of the dead. What they were about to do is nobody's."""
        for mark in list(self.folder.glob(f"*{_ALIVE}")):
            if _is_locked(mark):
                continue
            name = mark.name.removesuffix(_ALIVE)
            for kind in FOLDED:
                # One that can't be read was never counted in.
                with suppress(OSError, ValueError, struct.error):
                    _add(self._path(kind, name), self._path(kind, DEAD))
                self._path(kind, name).unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
        known = {DEAD, *(each.name.removesuffix(_ALIVE) for each in self.folder.glob(f"*{_ALIVE}"))}
        for file in self.folder.glob("*.db"):
            if file.stem.rpartition("_")[2] not in known:
                file.unlink(missing_ok=True)

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / f"{kind}_{name}.db"

    def _clear_memory(self) -> None:
        """Remove the folders of state directories that are no more: their last process was killed."""
        for folder in self._memory.glob(f"{_FOLDER}*"):
            with suppress(OSError, NotPrivate):
                check_private(folder, folder.lstat())
                if any(map(_is_locked, folder.glob(f"*{_ALIVE}"))):
                    continue  # a server's whose directory can't be seen from here
                if not Path(os.fsdecode((folder / _STATE).read_bytes())).exists():
                    shutil.rmtree(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _allocate(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _add(source: Path, target: Path) -> None:
    kept = MmapedDict(str(target))
    try:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(source)):
            kept.write_value(key, kept.read_value(key)[0] + value, 0.0)
    finally:
        kept.close()


def joined(state_dir: Path) -> tuple[Metrics, Shared | None]:
    """The process's metrics, shared with the state directory's other processes; its own where they can't be."""
    shared = Shared(state_dir)
    try:
        return shared.join(), shared
    except Exception as error:  # whatever it is, a server without metrics is better than none
        _log.warning("metrics are each worker's own: they can't be shared", reason=str(error))
        return Metrics(), None
