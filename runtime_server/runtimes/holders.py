"""Who holds work: each process keeps a file locked while it lives, so that its death is seen at once.

A lease alone would make everybody wait for its end after a crash; a lock is freed by the kernel.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runtime_server.errors import RuntimeBusy, StorageUnavailable
from runtime_server.store.operations import Operations
from runtime_server.store.records import Operation

LEASE = 30.0
"""Seconds that work stays its holder's without renewal, for a holder that hangs but lives."""
LOCK_WAIT = 15.0
"""Seconds that a call waits for another that works on the same runtime."""


class Holder:
    """This process, as a holder of operations. Made after fork, at the first use.

    Args:
        folder: where holders' files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._id = ""
        self._active: set[str] = set()

    @property
    def id(self) -> str:
        """This process's name as a holder."""
        with self._lock:
            if self._descriptor is None:
                self._id = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
                self._descriptor = self._open()
            return self._id

    def _open(self) -> int:
        try:
            descriptor = os.open(self._folder / self._id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnavailable("The state directory can't be written.", retry_after=2) from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def lease(self) -> float:
        """The end of a lease that is taken now."""
        return time.time() + LEASE

    def operation(
        self,
        kind: str,
        owner: str,
        key: str,
        *,
        expires_at: float | None = None,
        fingerprint: str | None = None,
        payload: dict[str, Any] | None = None,
    ) -> Operation:
        """Work that this process holds from now on, not recorded yet.

        Args:
            kind: what is done.
            owner: whose work it is.
            key: what nobody else of this owner may do at the same time.
            expires_at: Unix seconds from which it is forgotten; never without.
            fingerprint: of the request that it answers.
            payload: what is needed to go on with it.
        """
        return Operation(
            id=uuid.uuid4().hex,
            kind=kind,
            owner=owner,
            key=key,
            holder=self.id,
            lease_until=self.lease(),
            expires_at=expires_at,
            fingerprint=fingerprint,
            payload=payload or {},
        )

    def keep(self, operation: Operation) -> None:
        """Keep the operation's lease up from now on."""
        self._active.add(operation.id)

    def release(self, operation: Operation) -> None:
        """Keep it up no longer."""
        self._active.discard(operation.id)

    @contextmanager
    def working(self, operation: Operation) -> Iterator[None]:
        """Keep the operation's lease up meanwhile; one that nobody works on here any more runs out."""
        self.keep(operation)
        try:
            yield
        finally:
            self.release(operation)

    def renew(self, operations: Operations) -> None:
        """Extend the leases of what this process works on; called well within each ``LEASE``."""
        active = tuple(self._active.copy())
        if active:
            operations.renew(active, self.lease())

    def alive(self, operation: Operation) -> bool:
        """Whether the operation's holder lives and its lease runs."""
        if not operation.holder or operation.lease_until < time.time():
            return False
        return self.living(operation.holder)

    def living(self, holder: str) -> bool:
        """Whether the process that goes by this name lives."""
        return bool(holder) and (holder == self._id or self._locked(holder))

    def _locked(self, holder: str) -> bool:
        try:
            descriptor = os.open(self._folder / holder, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            with suppress(FileNotFoundError):
                (self._folder / holder).unlink()
            return False
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Give everything up that this process holds."""
        with self._lock:
            if self._descriptor is not None:
                with suppress(FileNotFoundError):
                    (self._folder / self._id).unlink()
                os.close(self._descriptor)
                self._descriptor = None
                self._id = ""


@contextmanager
def runtime_lock(folder: Path, runtime_id: str, *, wait: float) -> Iterator[bool]:
    """Hold one runtime's lock over threads and processes, so that store and engine change in the same order.

    Args:
        folder: where lock files lie.
        runtime_id: whose.
        wait: seconds to try for.

    Yields:
        Whether it was got.

    Raises:
        StorageUnavailable: the lock file can't be made.
    """
    try:
        descriptor = os.open(f"{folder}/{runtime_id}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnavailable("The state directory can't be written.", retry_after=2) from error
    try:
        yield _flock(descriptor, wait)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, runtime_id: str, *, wait: float = LOCK_WAIT) -> Iterator[None]:
    """As ``runtime_lock``, for a call that does nothing without it.

    Raises:
        RuntimeBusy: another call has it.
        StorageUnavailable: the lock file can't be made.
    """
    with runtime_lock(folder, runtime_id, wait=wait) as got:
        if not got:
            raise RuntimeBusy("Another call works on this runtime.", retry_after=1)
        yield


def _flock(descriptor: int, wait: float) -> bool:
    end = time.monotonic() + wait
    pause = 0.002
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        else:
            return True
