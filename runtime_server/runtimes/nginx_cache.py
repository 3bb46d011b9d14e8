"""The look-ups that nginx keeps for a second or two: noted as they are answered, and taken back before a freeze.

nginx keeps each answer in a file whose name is the MD5 of the look-up's key, and asks again once that file is gone.
What a runtime's keys were is noted in empty files, shared by all workers; their times tell when it was last called.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import md5
from pathlib import Path

import structlog

log = structlog.get_logger("runtime_server.gateway")

VALID = 1
"""Seconds for which nginx is told to keep an answer; it counts whole seconds of its clock, so it may keep it twice
as long."""
LONGEST = 2.0 * VALID
"""Seconds after its answer that a look-up can still route a request, where it isn't taken back."""
MOST = 64
"""Look-ups of one runtime that are kept at once: a caller can make up as many keys as it likes."""


class NginxCache:
    """The kept look-ups of all runtimes.

    Args:
        notes: the folder of notes; it exists.
        cache: the folder in which nginx keeps answers.
    """

    def __init__(self, notes: Path, cache: Path) -> None:
        self._notes = notes
        self._cache = cache
        self._said = False

    def note(self, runtime_id: str, key: str) -> bool:
        """Note that a look-up is being answered: before the runtime's state is read, or a freeze could miss it.

        Args:
            runtime_id: of a runtime that there is.
            key: nginx's key for the answer.

        Returns:
            Whether the answer may be kept.
        """
        # As latin-1, which WSGI made of the bytes that nginx sent.
        name = md5(key.encode("latin-1"), usedforsecurity=False).hexdigest()
        path = self._notes / runtime_id / name
        try:
            os.utime(path)
        except FileNotFoundError:
            return self._make(path)
        except OSError:
            return False
        return True

    def _make(self, path: Path) -> bool:
        folder = path.parent
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with os.scandir(folder) as found:
                times = {each.path: each.stat().st_mtime for each in found}
            if len(times) >= MOST:
                old = time.time() - 2 * LONGEST
                for each in [each for each, at in times.items() if at < old]:
                    # Without its note nobody could take it back.
                    (self._cache / Path(each).name).unlink(missing_ok=True)
                    os.unlink(each)
                    del times[each]
            if len(times) >= MOST:
                # It counts as a call all the same.
                os.utime(next(iter(times)))
                return False
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            return False
        return True

    def last(self, runtime_id: str) -> float | None:
        """When the runtime was last looked up, Unix seconds; None: it wasn't."""
        latest = None
        with suppress(OSError), os.scandir(self._notes / runtime_id) as found:
            latest = max((each.stat().st_mtime for each in found), default=None)
        return latest

    def take_back(self, runtime_id: str) -> bool:
        """Have nginx ask again at the next request to the runtime.

        An answer that is under way may be kept after that, for as long as any.

        Returns:
            Whether all are gone; nginx may keep its files where this process can't remove them.
        """
        try:
            names = os.listdir(self._notes / runtime_id)
        except OSError:
            return True  # it was never looked up
        try:
            for name in names:
                (self._cache / name).unlink(missing_ok=True)
        except OSError as error:
            if not self._said:
                self._said = True
                log.warning(
                    "nginx's look-ups can't be taken back: pauses wait for their end",
                    folder=str(self._cache),
                    reason=error.strerror,
                )
            return False
        return True

    def forget(self, runtime_id: str) -> None:
        """Take back what there is, and drop the notes."""
        self.take_back(runtime_id)
        shutil.rmtree(self._notes / runtime_id, ignore_errors=True)


@contextmanager
def taken_back(cache: NginxCache | None, runtime_id: str) -> Iterator[None]:
    """Have no look-up lead to a runtime's address when what happens meanwhile may give it to another.

    Those that are kept are taken back before; those that were under way, after.

    Args:
        cache: None: there is no gateway.
        runtime_id: whose.
    """
    if cache is None:
        yield
        return
    cache.take_back(runtime_id)
    try:
        yield
    finally:
        cache.take_back(runtime_id)
