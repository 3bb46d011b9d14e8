"""Commands in runtimes: run to their end or streamed, within a time, and once for each key."""

from __future__ import annotations

import base64
import time
from contextlib import closing, suppress
from dataclasses import dataclass

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import ExecOutput, ExecSession, ExecSpec
from runtime_server.errors import ExecOutcomeUnknown, InvalidState, Problem, ValidationFailed
from runtime_server.models import ExecRequest, ExecResult, utc
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.holders import Holder
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.policy_exec import exec_spec
from runtime_server.runtimes.states import Action, invalid, target
from runtime_server.runtimes.sync import Sync
from runtime_server.runtimes.waits import SlowLane
from runtime_server.settings import Settings
from runtime_server.store.operations import Operations
from runtime_server.store.records import Operation, Record

KIND = "exec"
ENDING = 5.0
"""Seconds that a killed command gets to be gone: what it has written last may still come."""
WAIT = 1.0
"""Seconds of one wait for output."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. ``duration`` in seconds, ``at`` in Unix seconds."""

    exec_id: str
    exit_code: int | None
    timed_out: bool
    killed: bool | None
    duration: float
    at: float


class Execs:
    """Runs commands.

    Args:
        settings: limits and rules.
        engine: runs them.
        operations: where those with a key are recorded.
        holder: this process.
        lane: bounds those that wait for their end.
        lookup, sync: find runtimes, and mend records that the engine contradicts.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        engine: Engine,
        operations: Operations,
        holder: Holder,
        lane: SlowLane,
        lookup: Lookup,
        sync: Sync,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._operations = operations
        self._holder = holder
        self._lane = lane
        self._lookup = lookup
        self._sync = sync

    def run(self, caller: Caller, name: str, request: ExecRequest, *, key: str | None = None) -> ExecResult:
        """Run a command to its end.

        Args:
            caller: who asks.
            name: the runtime's id or alias.
            request: what to run.
            key: the idempotency key. With one, a command is started once, even if its worker dies.

        Raises:
            RuntimeNotFound, InvalidState, PolicyRefused, TooManyWaiting
            CommandNotFound, CommandNotExecutable, UserUnknown, SpecRejected: it couldn't be started.
            ExecOutcomeUnknown: an attempt with this key started it and lost its output, as when its worker died.
        """
        most = self._settings.max_exec_output
        limit = most if request.output_limit is None else min(request.output_limit, most)
        outputs = {"stdout": _Kept(limit), "stderr": _Kept(limit)}
        with self._lane.place(), closing(self.open(caller, name, request, key=key)) as feed:
            ended = None
            while ended is None:
                found = feed.receive(WAIT)
                if isinstance(found, Ended):
                    ended = found
                elif found is not None:
                    outputs[found.stream].add(found.data)
        return ExecResult(
            exec_id=ended.exec_id,
            exit_code=ended.exit_code,
            timed_out=ended.timed_out,
            killed=ended.killed,
            duration=round(ended.duration, 3),
            finished_at=utc(ended.at),
            stdout=outputs["stdout"].text(request.encoding),
            stderr=outputs["stderr"].text(request.encoding),
            truncated=any(each.truncated for each in outputs.values()),
            encoding=request.encoding,
        )

    def open(self, caller: Caller, name: str, request: ExecRequest, *, key: str | None = None) -> ExecFeed:
        """Start a command, whose output comes bit by bit.

        Raises:
            As ``run``, but for what is known only once it runs.
        """
        record = self._lookup.find(caller, name)
        target(Action.EXEC, record)
        spec = exec_spec(self._settings, request)
        given = _input(request)
        claim = self._claim(caller, key)
        try:
            session = self.begin(record, spec)
        except Problem as problem:
            # One that may be carried out all the same, by an engine that was too slow to say so, stays claimed.
            if claim is not None and problem.status != 504:
                self._operations.drop(claim.id)
            raise
        if claim is not None:
            self._operations.progress(claim.id, session.exec_id)
        if given is not None:
            session.send(given)
            session.end_input()
        return ExecFeed(session, min(request.timeout, self._settings.max_exec))

    def begin(self, record: Record, spec: ExecSpec) -> ExecSession:
        """Start it; where the engine contradicts the record, the record is mended and the command refused."""
        try:
            return self._engine.exec(record.container_id or record.runtime_id, spec)
        except (ContainerMissing, InvalidState):
            now = self._sync.sync(record)
            raise invalid(Action.EXEC, now.status) from None

    def _claim(self, caller: Caller, key: str | None) -> Operation | None:
        """Note that a command with this key begins.

        Raises:
            ExecOutcomeUnknown: one has begun, and nobody has its output any more.
        """
        if key is None:
            return None
        claim = self._holder.operation(
            KIND,
            caller.owner,
            key,
            expires_at=time.time() + self._settings.idempotency_ttl,
        )
        while not self._operations.claim(claim):
            before = self._operations.find(KIND, caller.owner, key)
            if before is not None and (before.expires_at or 0) > time.time():
                raise self._lost(before)
            if before is not None:
                self._operations.drop(before.id)
        return claim

    def _lost(self, before: Operation) -> ExecOutcomeUnknown:
        exec_id = before.progress
        state = self._engine.exec_state(exec_id) if exec_id else None
        running, code = state if state is not None else (None, None)
        return ExecOutcomeUnknown(
            "An earlier attempt of this call started the command, and its output is lost; it isn't run again.",
            exec_id=exec_id,
            running=running,
            exit_code=code,
        )


class ExecFeed:
    """A command's output, and how it ended as the last item; see ``Feed``. Closed before that, the command is killed.

    Args:
        session: the command.
        timeout: seconds after which it is killed.
    """

    def __init__(self, session: ExecSession, timeout: float) -> None:
        self._session = session
        self._began = time.monotonic()
        self._deadline = self._began + timeout
        self._killed: bool | None = None
        self._over = self._told = False

    def receive(self, timeout: float) -> ExecOutput | Ended | None:
        """See ``Feed``."""
        if self._told:
            raise FeedEnded("exited")
        ends = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if now >= self._deadline and not self._give_up():
                return self._ended()
            try:
                found = self._session.receive(max(0.0, min(ends, self._deadline) - now))
            except FeedEnded:
                self._over = True
                return self._ended()
            if found is not None or time.monotonic() >= ends:
                return found

    def _give_up(self) -> bool:
        """Kill it, where that hasn't been done; whether it is worth to wait for its end."""
        if self._killed is not None:
            return False
        self._killed = self._session.kill()
        self._deadline = time.monotonic() + ENDING
        return self._killed

    def _ended(self) -> Ended:
        self._told = True
        code = self._session.exit_code() if self._over else None
        now = time.monotonic()
        timed_out = self._killed is not None
        return Ended(self._session.exec_id, code, timed_out, self._killed, now - self._began, time.time())

    def close(self) -> None:
        """See ``Feed``."""
        try:
            if not self._over and self._killed is None:
                with suppress(Problem):
                    self._killed = self._session.kill()
        finally:
            self._session.close()


class _Kept:
    """The beginning of an output."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.truncated = False

    def add(self, data: bytes) -> None:
        room = self._limit - len(self._data)
        self._data += data[:room]
        self.truncated = self.truncated or len(data) > room

    def text(self, encoding: str) -> str:
        if encoding == "base64":
            return base64.b64encode(self._data).decode("ascii")
        if self.truncated:
            return self._data.decode("utf-8", "ignore" if _cut_within(self._data) else "replace")
        return self._data.decode("utf-8", "replace")


def _cut_within(data: bytes | bytearray) -> bool:
    """Whether all but a character that was cut at the end is UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end == len(data) and error.reason == "unexpected end of data"
    return False


def _input(request: ExecRequest) -> bytes | None:
    if request.stdin is None:
        return None
    if request.encoding == "utf-8":
        return request.stdin.encode()
    try:
        return base64.b64decode(request.stdin, validate=True)
    except ValueError:
        wrong = [{"loc": ["stdin"], "msg": "is not base64", "type": "value_error"}]
        raise ValidationFailed("stdin: is not base64.", errors=wrong) from None
