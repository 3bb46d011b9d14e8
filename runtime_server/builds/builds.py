"""What callers can do with image builds; every method takes who calls, and shows nobody another's."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from runtime_server.builds import archive
from runtime_server.builds import context as contexts
from runtime_server.builds import log as logs
from runtime_server.builds.context import Upload
from runtime_server.builds.names import Names
from runtime_server.builds.runs import Runs, failed
from runtime_server.engine.base import Engine
from runtime_server.engine.building import Builder
from runtime_server.errors import BuildNotFound, IdempotencyKeyReused, ServerDraining, StorageUnavailable
from runtime_server.models import (
    BuildAccepted,
    BuildRequest,
    BuildState,
    BuildStatus,
    ImageExists,
    ImageInfo,
    RegistryPrefix,
    parse_size,
    utc,
)
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.waits import SlowLane
from runtime_server.settings import Settings
from runtime_server.store.builds import BUILD, QUEUED, BuildQueue
from runtime_server.store.records import Operation

QUEUE_TTL = 1800.0
"""Seconds after which a build that waits has expired: OpenHands' builder gives up as soon."""
TIDY = 60.0
"""Seconds between two looks for files that no build has."""
ORPHANED = 3600.0
"""Seconds after which a context that belongs to no build isn't being received any more."""


class Builds:
    """Image builds.

    Args:
        settings: the operator's.
        instance: this instance's id.
        folder: of contexts and logs; it exists.
        engine: has the images.
        builder: tells whether it can build.
        queue: where builds wait.
        runs: works on them.
        lane: bounds the requests whose context is being received.
        draining: while this file is there, no new builds are accepted.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        instance: str,
        folder: Path,
        engine: Engine,
        builder: Builder,
        queue: BuildQueue,
        runs: Runs,
        lane: SlowLane,
        draining: Path,
    ) -> None:
        self._instance = instance
        self._folder = folder
        self._engine = engine
        self._builder = builder
        self._queue = queue
        self._runs = runs
        self._lane = lane
        self._draining = draining
        self._names = Names(settings)
        self._unpacked = parse_size(settings.max_build_unpacked)
        self.max_context = parse_size(settings.max_build_context)
        self._tidied = time.monotonic()

    def registry_prefix(self, caller: Caller) -> RegistryPrefix:
        """What the names of the caller's images begin with.

        Raises:
            PolicyRefused: no images are built here.
        """
        return RegistryPrefix(registry_prefix=self._names.prefix(caller))

    def image_exists(self, caller: Caller, image: str) -> ImageExists:
        """Whether the engine has an image.

        Raises:
            ImageReferenceInvalid: it isn't a reference.
            EngineUnreachable, EngineTimeout, EngineFailed: the engine doesn't say.
        """
        facts = self._engine.image_facts(image) if self._names.visible(caller, image) else None
        if facts is None:
            return ImageExists(exists=False)
        info = ImageInfo(upload_time=utc(facts.created_at), image_size_bytes=facts.size)
        return ImageExists(exists=True, image=info)

    @contextmanager
    def upload(self, caller: Caller, *, keyed: bool) -> Iterator[Upload]:
        """Where a context is received, gone afterwards unless it is kept.

        Args:
            caller: who sends it.
            keyed: the call has an idempotency key: it may be the repeat of one that was accepted.

        Raises:
            PolicyRefused: no images are built here.
            BuilderUnavailable: nothing here can build.
            TooManyBuilds: as many of the caller's wait as may.
            TooManyWaiting: all threads for slow requests are taken.
        """
        self._names.prefix(caller)
        self._builder.check()
        if not keyed:
            self._queue.refuse_beyond(caller.owner)
        with self._lane.place(), Upload(self._folder, self.max_context) as upload:
            yield upload

    def submit(
        self, caller: Caller, request: BuildRequest, upload: Upload, *, key: str | None = None
    ) -> BuildAccepted:
        """Queue a build up.

        Args:
            caller: who builds.
            request: the image's names.
            upload: its context, received to its end; kept where the build is accepted.
            key: the idempotency key, from which the build's id comes.

        Raises:
            PolicyRefused, ImageReferenceInvalid: a name isn't the caller's to give.
            BuildContextInvalid: the context can't be used.
            TooManyBuilds: as many of the caller's wait as may.
            ServerDraining: no new builds are accepted.
        """
        image, *tags = self._names.checked(caller, [request.target_image, *request.tags])
        archive.check(upload.path, unpacked=self._unpacked)
        now = time.time()
        operation = Operation(
            id=uuid.uuid4().hex,
            kind=BUILD,
            owner=caller.owner,
            key=self._derived(caller, key) if key else f"build-{uuid.uuid4().hex[:12]}",
            holder="",
            lease_until=0.0,
            stage=QUEUED,
            queued_at=now,
            payload={
                "image": image,
                "tags": tags,
                "context": upload.path.name,
                "digest": upload.digest,
                "created_at": now,
            },
        )
        if self._draining.exists() and self._queue.find(caller.owner, operation.key) is None:
            raise ServerDraining("The server is draining: it accepts no new builds.", retry_after=5)
        there = self._queue.add(operation)
        if there.id == operation.id:
            upload.keep()
        elif there.payload["digest"] != upload.digest:
            raise IdempotencyKeyReused("This Idempotency-Key was used before, for another build.")
        with suppress(StorageUnavailable):  # the reconciler looks again
            self._runs.advance()
        return BuildAccepted(build_id=there.key)

    def _derived(self, caller: Caller, key: str) -> str:
        """The id of the build that an owner's idempotency key stands for: two attempts meet at one build."""
        parts = (BUILD, self._instance, caller.owner, key)
        return f"build-{sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"

    def status(self, caller: Caller, build_id: str) -> BuildStatus:
        """A build.

        Raises:
            BuildNotFound: there is none of the caller's.
        """
        return _status(self._find(caller, build_id))

    def log(self, caller: Caller, build_id: str) -> bytes:
        """All that a build has written so far.

        Raises:
            BuildNotFound: there is none of the caller's.
        """
        operation = self._find(caller, build_id)
        try:
            return (self._folder / (operation.key + logs.SUFFIX)).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StorageUnavailable("The build's log can't be read.", retry_after=2) from error

    def cancel(self, caller: Caller, build_id: str) -> BuildStatus:
        """End a build; one that has ended stays as it is.

        Raises:
            BuildNotFound: there is none of the caller's.
        """
        operation = self._find(caller, build_id)
        self._end(operation, failed(BuildState.CANCELLED, "The build was cancelled."))
        return _status(self._find(caller, build_id))

    def _end(self, operation: Operation, outcome: dict[str, Any]) -> None:
        now = time.time()
        if self._queue.end(operation, outcome | {"finished_at": now}, now + self._runs.kept):
            self._runs.context(operation).unlink(missing_ok=True)

    def _find(self, caller: Caller, build_id: str) -> Operation:
        found = self._queue.find(None if caller.admin else caller.owner, build_id)
        if found is None:
            raise BuildNotFound("No build of yours has this id.")
        return found

    def tick(self) -> None:
        """What one process does again and again: begin what was left or waits, and forget what is over."""
        with suppress(StorageUnavailable):
            self._expire()
            self._runs.advance()
            if time.monotonic() - self._tidied >= TIDY:
                self._tidied = time.monotonic()
                self.tidy()

    def _expire(self) -> None:
        for operation in self._queue.undone():
            if operation.stage == QUEUED and (operation.queued_at or 0.0) < time.time() - QUEUE_TTL:
                self._end(
                    operation, failed(BuildState.EXPIRED, f"The build has waited for more than {QUEUE_TTL:g} s.")
                )

    def tidy(self) -> None:
        """Remove the files of builds that are over or forgotten, and of requests that broke off."""
        kept = self._queue.kept()
        needed = {str(each.payload["context"]) for each in kept.values() if not each.done}
        over = {str(each.payload["context"]) for each in kept.values() if each.done}
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.suffix == logs.SUFFIX:
                    gone = path.stem not in kept
                else:
                    orphaned = path.suffix == contexts.SUFFIX and path.stat().st_mtime < time.time() - ORPHANED
                    gone = path.name not in needed and (path.name in over or orphaned)
                if gone:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """End what this process works on; another begins it anew."""
        self._runs.close()


def _status(operation: Operation) -> BuildStatus:
    outcome: dict[str, Any] = json.loads(operation.answer) if operation.answer else {}
    on_its_way = BuildState.QUEUED if operation.stage == QUEUED else BuildState.WORKING
    payload = operation.payload
    return BuildStatus(
        build_id=operation.key,
        status=BuildState(outcome.get("status", on_its_way)),
        image=payload["image"],
        tags=payload["tags"],
        error=outcome.get("error"),
        created_at=datetime.fromtimestamp(payload["created_at"], UTC),
        started_at=utc(payload.get("started_at")),
        finished_at=utc(outcome.get("finished_at")),
    )
