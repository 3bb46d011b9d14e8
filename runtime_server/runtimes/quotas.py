"""What each owner may have and send: limits on runtimes, and on requests."""

from __future__ import annotations

import fcntl
import math
import os
import struct
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from runtime_server.errors import RateLimited, StorageUnavailable
from runtime_server.models import parse_size
from runtime_server.settings import OwnerLimits, Settings
from runtime_server.store.usage import Limits

BURST = 2.0
"""Seconds' worth of requests that an owner may send at once after a pause; always at least one request."""


class Quotas:
    """The operator's limits on runtimes, by setting.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: Settings) -> None:
        host = settings.max_running
        self._common = Limits(
            max_runtimes=settings.max_runtimes_per_owner,
            max_running=settings.max_running_per_owner,
            max_cpus=settings.max_cpus_per_owner,
            max_memory=parse_size(settings.max_memory_per_owner),
            host_max_running=host,
        )
        self._owners = {owner: _limits(own, self._common) for owner, own in settings.owner_limits.items()}

    def of(self, owner: str) -> Limits:
        """The owner's limits, the host's among them."""
        return self._owners.get(owner, self._common)


def _limits(own: OwnerLimits, common: Limits) -> Limits:
    return Limits(
        max_runtimes=common.max_runtimes if own.max_runtimes is None else own.max_runtimes,
        max_running=common.max_running if own.max_running is None else own.max_running,
        max_cpus=common.max_cpus if own.max_cpus is None else own.max_cpus,
        max_memory=common.max_memory if own.max_memory is None else parse_size(own.max_memory),
        host_max_running=common.host_max_running,
    )


class Rates:
    """A token bucket for each owner, shared by all processes of one state directory, so that it is exact.

    A bucket is a file of one number, changed under its lock: the moment at which the bucket will be full again
    (the generic cell rate algorithm, ITU-T I.371).

    Args:
        settings: the rates.
        folder: where the buckets lie; it exists.
        clock: seconds, the same in all processes.
    """

    def __init__(self, settings: Settings, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._common = settings.requests_per_second
        self._owners = {
            owner: own.requests_per_second
            for owner, own in settings.owner_limits.items()
            if own.requests_per_second is not None
        }
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, int] = {}

    @property
    def any(self) -> bool:
        """Whether anybody's requests are limited."""
        return bool(self._common or any(self._owners.values()))

    def take(self, owner: str) -> None:
        """Count a request.

        Raises:
            RateLimited: it is one too many; it isn't counted.
            StorageUnavailable: the bucket can't be read or written.
        """
        rate = self._owners.get(owner, self._common)
        if not rate:
            return
        try:
            wait = self._take(owner, 1 / rate, max(BURST, 1 / rate))
        except OSError as error:
            raise StorageUnavailable("The state directory can't be written.", retry_after=2) from error
        if wait > 0:
            raise RateLimited(f"At most {rate:g} requests a second.", retry_after=math.ceil(wait))

    def _take(self, owner: str, interval: float, burst: float) -> float:
        """Seconds until there is a token; 0 where one was taken."""
        # The lock is for this process's threads: they share the file description, whose lock doesn't part them.
        with self._lock:
            descriptor = self._bucket(owner)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                now = self._clock()
                kept = os.pread(descriptor, 8, 0)
                full: float = struct.unpack("d", kept)[0] if len(kept) == 8 else now
                if not now <= full <= now + burst:  # long full, or the clock was set back
                    full = now
                wait = full + interval - burst - now
                if wait > 1e-9:
                    return wait
                os.pwrite(descriptor, struct.pack("d", full + interval), 0)
                return 0.0
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _bucket(self, owner: str) -> int:
        descriptor = self._buckets.get(owner)
        if descriptor is None:
            path = self._folder / sha256(owner.encode()).hexdigest()[:32]
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._buckets[owner] = descriptor
        return descriptor

    def close(self) -> None:
        """Close the buckets."""
        with self._lock:
            for descriptor in self._buckets.values():
                os.close(descriptor)
            self._buckets.clear()
