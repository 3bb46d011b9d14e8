"""Working on builds: in threads of the process that has taken them, and again elsewhere when that is gone."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any

import structlog

from runtime_server.builds.log import SUFFIX as LOG
from runtime_server.builds.log import BuildLog
from runtime_server.engine import labels as tags
from runtime_server.engine.base import Engine
from runtime_server.engine.building import Builder, BuildHalted, BuildRefused, BuildSpec
from runtime_server.errors import EngineFailed, EngineTimeout, EngineUnreachable, Problem, StorageUnavailable
from runtime_server.models import BuildState
from runtime_server.runtimes.holders import Holder
from runtime_server.settings import Settings
from runtime_server.store.builds import BuildQueue
from runtime_server.store.operations import Operations
from runtime_server.store.records import Operation

log = structlog.get_logger("runtime_server.builds")

MAX_DEATHS = 3
"""How many workers may end while they work on one build, which then is the likeliest reason."""
LOOK = 1.0
"""Seconds between two looks whether a build is still this process's, and wanted."""
LEAST_KEPT = 3600.0
"""Seconds that an ended build can be read at least, whatever RETENTION says."""

# Not under the prefix of the containers' labels: a container has its image's labels too.
LABELS = "runtime-server-build."
"""Begins the labels of built images: ``instance``, ``owner`` and ``id``."""


class Runs:
    """This process's part in the work on builds.

    Args:
        settings: limits, network, push.
        instance: this instance's id.
        engine: is asked whether it answers.
        builder: builds.
        queue: gives builds.
        operations: where their outcome goes.
        holder: this process.
        folder: of contexts and logs.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        instance: str,
        engine: Engine,
        builder: Builder,
        queue: BuildQueue,
        operations: Operations,
        holder: Holder,
        folder: Path,
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._engine = engine
        self._builder = builder
        self._queue = queue
        self._operations = operations
        self._holder = holder
        self._folder = folder
        self._closing = Event()
        self._pool = ThreadPoolExecutor(max_workers=settings.max_builds, thread_name_prefix="build")

    @property
    def network(self) -> str:
        """Of RUN steps: none where runtimes begin no connections either."""
        return "none" if self._settings.egress == "none" else self._settings.build_network

    def advance(self) -> None:
        """Begin the builds whose turn it is, as far as there are places.

        Raises:
            StorageUnavailable: the queue can't be read or written.
        """
        while not self._closing.is_set():
            taken = self._queue.take(self._holder.id, self._holder.lease(), self._holder.alive)
            if taken is None:
                return
            self._holder.keep(taken)
            try:
                self._pool.submit(self._work, taken)
            except RuntimeError:  # closed meanwhile
                self._let_go(taken)

    def _work(self, operation: Operation) -> None:
        if self._closing.is_set():
            self._let_go(operation)
            return
        try:
            self._run(operation)
        except StorageUnavailable as problem:
            log.error("a build's outcome can't be kept", build_id=operation.key, detail=problem.detail)
        except Exception:
            log.exception("a build failed", build_id=operation.key)
        finally:
            self._holder.release(operation)
        with suppress(StorageUnavailable):
            self.advance()

    def _run(self, operation: Operation) -> None:
        began = time.monotonic()
        log.info("a build begins", build_id=operation.key, owner=operation.owner)
        with closing(BuildLog(self._folder / (operation.key + LOG))) as written:
            outcome = self._outcome(operation, written)
        if outcome is None:
            return
        outcome["finished_at"] = time.time()
        if self._operations.finish(operation, _encoded(outcome), outcome["finished_at"] + self.kept):
            self.context(operation).unlink(missing_ok=True)
            seconds = round(time.monotonic() - began, 3)
            status = str(outcome["status"])
            log.info("a build has ended", build_id=operation.key, owner=operation.owner, status=status, s=seconds)

    @property
    def kept(self) -> float:
        """Seconds that an ended build can be read."""
        return max(self._settings.retention, LEAST_KEPT)

    def context(self, operation: Operation) -> Path:
        """The build's context."""
        return self._folder / str(operation.payload["context"])

    def _outcome(self, operation: Operation, written: BuildLog) -> dict[str, Any] | None:
        """How it ends; None where it is no longer this process's to say."""
        deaths = operation.payload.get("deaths", 0)
        if deaths >= MAX_DEATHS:
            return failed(BuildState.INTERNAL_ERROR, f"The build's worker has ended {deaths} times.")
        if deaths:
            written.note("The worker that ran this build has ended; it begins again.")
        halt = _Halt(operation, self._operations, self._holder, self._closing, self._settings.build_timeout)
        try:
            self._builder.build(self._spec(operation), written.write, halt)
        except BuildHalted:
            return self._halted(operation, halt, written)
        except BuildRefused as refused:
            status = BuildState.FAILURE if self._engine_answers() else BuildState.INTERNAL_ERROR
            return failed(status, str(refused), written)
        except Problem as problem:
            return failed(BuildState.INTERNAL_ERROR, problem.detail, written)
        except Exception as error:
            return self._unforeseen(operation, halt, error)
        return {"status": BuildState.SUCCESS, "error": None}

    def _unforeseen(self, operation: Operation, halt: _Halt, error: Exception) -> dict[str, Any] | None:
        if halt.lost():  # and with it its context
            return None
        log.error("a build failed", build_id=operation.key, exc_info=error)
        return failed(BuildState.INTERNAL_ERROR, "Something unforeseen happened; the server's log has it.")

    def _halted(self, operation: Operation, halt: _Halt, written: BuildLog) -> dict[str, Any] | None:
        if halt.timed_out:
            sentence = f"The build took longer than {self._settings.build_timeout:g} s."
            return failed(BuildState.TIMEOUT, sentence, written)
        if halt.closing:
            self._let_go(operation)
        return None

    def _spec(self, operation: Operation) -> BuildSpec:
        payload = operation.payload
        labels = {"instance": self._instance, "owner": operation.owner, "id": operation.key}
        # A Dockerfile that claims an instance would make it the owner of whatever anybody runs of the image.
        overriding = {tags.INSTANCE: ""}
        return BuildSpec(
            context=self.context(operation),
            tags=(payload["image"], *payload["tags"]),
            labels={LABELS + name: value for name, value in labels.items()} | overriding,
            network=self.network,
            push=self._settings.registry_push,
        )

    def _engine_answers(self) -> bool:
        try:
            self._engine.ping()
        except (EngineUnreachable, EngineTimeout, EngineFailed):
            return False
        return True

    def _let_go(self, operation: Operation) -> None:
        """Let another process take it at once."""
        self._holder.release(operation)
        with suppress(StorageUnavailable):
            self._operations.release(operation)

    def close(self) -> None:
        """End what is worked on; another process begins it anew."""
        self._closing.set()
        self._pool.shutdown(wait=True)


class _Halt:
    """Says when a build is to end: its time is up, it is another's, nobody wants it, or this process closes."""

    def __init__(
        self, operation: Operation, operations: Operations, holder: Holder, closing: Event, timeout: float
    ) -> None:
        self._operation = operation
        self._operations = operations
        self._holder_id = holder.id
        self._closing = closing
        self._ends = time.monotonic() + timeout
        self._looked = time.monotonic()
        self._lost = False
        self.timed_out = False
        self.closing = False

    def __call__(self) -> bool:
        now = time.monotonic()
        self.closing = self.closing or self._closing.is_set()
        self.timed_out = not self.closing and (self.timed_out or now >= self._ends)
        if now - self._looked >= LOOK:
            self._looked = now
            self._lost = self.lost()
        return self.closing or self.timed_out or self._lost

    def lost(self) -> bool:
        """Whether it is another's, or over: asked anew."""
        try:
            return not self._operations.held(self._operation.id, self._holder_id)
        except StorageUnavailable:
            return self._lost


def failed(status: BuildState, sentence: str, written: BuildLog | None = None) -> dict[str, Any]:
    """An outcome without an image. A client shows ``error`` to its user, who has no other log."""
    tail = written.tail() if written is not None else ""
    return {"status": status, "error": f"{sentence}\n{tail}" if tail else sentence}


def _encoded(outcome: dict[str, Any]) -> bytes:
    return json.dumps(outcome).encode()
