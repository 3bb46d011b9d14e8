"""Wakes the processes that wait for something in the database, which has no way to do so.

Each that waits has a named pipe in a folder (fifo(7)); who has something for the others writes a byte into all of
them. Bytes may be lost, as with a full pipe or a process that comes just now, so waits have an end.

PERF: looking into the database instead, a hundred times a second in each process, took a third of what a server's
processes spent on sixteen starts at once.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path


class Bell:
    """One kind of news. Thread-safe but for ``wait``, which is one thread's.

    Args:
        folder: where the pipes are; made at need.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: tuple[Path, int] | None = None

    def ring(self) -> None:
        """Wake all that wait; those that have died since leave nothing behind. Never fails."""
        with suppress(OSError):
            for name in os.listdir(self._folder):
                with suppress(OSError):
                    self._knock(self._folder / name)

    def _knock(self, pipe: Path) -> None:
        if not stat.S_ISFIFO(pipe.lstat().st_mode):
            return
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody has it open any more
                pipe.unlink(missing_ok=True)
            return
        try:
            os.write(descriptor, b"!")  # where it is full, it wakes all the same
        finally:
            os.close(descriptor)

    def wait(self, seconds: float) -> bool:
        """Whether it was rung, within so long. Rings count from the beginning of the first wait on."""
        try:
            descriptor = self._listen()
        except OSError:  # the folder can't be written
            time.sleep(seconds)
            return False
        poll = select.poll()  # select(2) knows no descriptor beyond 1023
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(seconds * 1000):
            if not os.fstat(descriptor).st_nlink:  # whoever took the pipe away: nobody could ring it
                self.close()
            return False
        with suppress(BlockingIOError):
            os.read(descriptor, 65536)
        return True

    def _listen(self) -> int:
        if self._mine is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            # Under another name until it can be written to: who rings would take it for a dead process's.
            made, path = self._folder.with_suffix(f".{uuid.uuid4().hex}"), self._folder / uuid.uuid4().hex
            os.mkfifo(made, 0o600)
            with ExitStack() as undo:
                undo.callback(made.unlink)
                # Read and write, so that it never is at its end.
                descriptor = os.open(made, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                undo.callback(os.close, descriptor)
                made.rename(path)
                undo.pop_all()
            self._mine = path, descriptor
        return self._mine[1]

    def close(self) -> None:
        """Wait no more."""
        if self._mine is not None:
            (path, descriptor), self._mine = self._mine, None
            with suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(descriptor)
