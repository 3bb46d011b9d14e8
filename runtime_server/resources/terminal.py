"""Terminals in runtimes over WebSocket."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Annotated, Any

import falcon
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from wsproto.events import BytesMessage, Event, TextMessage

from runtime_server import errors, models
from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import ExecSession
from runtime_server.errors import Problem
from runtime_server.models import AbsolutePath, ExecRequest, PlainText, Word
from runtime_server.resources import described
from runtime_server.resources.naming import named
from runtime_server.runtimes.terminals import SHELL, TERM, Size
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import NoQuery, Query
from runtime_server.web.streaming import Streams
from runtime_server.web.websocket import FAILED, GOING_AWAY, NORMAL, WebSocket, check_origin, take_over

TICK = 1.0
"""Seconds at most between two looks at whether the server is to go on."""
MAX_BACKLOG = 1_048_576
"""Bytes that may wait for a command to take them; until then nothing more is read."""
MAX_CONTROL = 4096
"""Characters of a message about the terminal itself."""
DEAD = 3
"""Heartbeats without any word after which the other side counts as gone."""

Characters = Annotated[int, Field(ge=1, le=4096)]


class TerminalQuery(Query):
    """The query of ``GET /runtimes/{runtime_id}/terminal``."""

    command: PlainText | None = Field(None, description="For `/bin/sh -c`; none: an interactive shell.")
    user: Word | None = Field(None, description="User, `name`, `uid` or `uid:gid`; none: the runtime's.")
    working_dir: AbsolutePath | None = Field(None, description="Working directory; none: the runtime's.")
    rows: Characters | None = Field(None, description="Height; with `columns`.")
    columns: Characters | None = Field(None, description="Width; with `rows`.")
    ticket: Word | None = Field(None, description="Instead of a key, for browsers: of `POST …/terminal/ticket`.")

    @property
    def request(self) -> ExecRequest:
        """What to run."""
        command = self.command or SHELL
        return ExecRequest(command=command, environment=TERM, user=self.user, working_dir=self.working_dir, tty=True)

    @property
    def size(self) -> Size | None:
        """The terminal's, where both are given."""
        return None if self.rows is None or self.columns is None else Size(self.rows, self.columns)


class TerminalSize(BaseModel):
    """A message's ``resize``."""

    model_config = ConfigDict(extra="forbid")

    rows: Characters
    columns: Characters


class Terminal(Resource):
    """``/runtimes/{runtime_id}/terminal``."""

    operations = {
        "GET": Operation(
            id="openTerminal",
            summary="Open a terminal in a running runtime, over WebSocket.",
            query=TerminalQuery,
            answers={
                101: Answered(
                    "Binary messages are what is typed and shown. Text messages are JSON: `resize` with `rows` and "
                    "`columns` from the client; `exit` with `exit_code`, or `error` with a problem, from the server.",
                    media_type="",
                )
            },
            raises=(
                *described.ONE,
                *described.ENGINE,
                errors.InvalidState,
                errors.PolicyRefused,
                errors.UpgradeRequired,
                errors.TerminalUnavailable,
                errors.TooManyStreams,
            ),
            ticketed=True,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Open a terminal."""
        query, name, terminals = read_query(req, TerminalQuery), named(req, runtime_id), self._inside.terminals
        check_origin(req, self._services.settings.origins)
        connection = WebSocket(req)
        if query.ticket is not None and not req.context.authenticated:
            req.context.caller = terminals.redeem(query.ticket, name)
        caller, streams = req.context.caller, self._services.streams
        open_talk = lambda: _Session(terminals.open(caller, name, query.request, query.size), streams)  # noqa: E731
        take_over(req, resp, connection, streams.lane.place, open_talk)


class TerminalTickets(Resource):
    """``/runtimes/{runtime_id}/terminal/ticket``."""

    operations = {
        "POST": Operation(
            id="makeTerminalTicket",
            summary="Make a ticket with which a browser, that can't send a key, opens one terminal within 30 s.",
            query=NoQuery,
            answers={
                201: Answered(
                    "The ticket.",
                    models.TerminalTicket,
                    {"ticket": "mW9…", "expires_at": "2026-01-31T12:00:30Z"},
                )
            },
            raises=described.ONE,
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Make a ticket."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._inside.terminals.ticket(req.context.caller, named(req, runtime_id)), 201)


class _Session:
    """A command's terminal, talked to over a WebSocket; see ``Talk``."""

    def __init__(self, session: ExecSession, streams: Streams) -> None:
        self._session = session
        self._streams = streams
        self._control = ""
        self._over = False
        self._heard = self._said = time.monotonic()

    def run(self, connection: WebSocket) -> None:
        """See ``Talk``."""
        connection.watch(self._streams.heartbeat)
        self._heard = self._said = time.monotonic()
        code = NORMAL
        try:
            while connection.open and not self._over:
                if self._streams.ending():
                    code = GOING_AWAY
                    return
                self._pass_output(connection)
                self._pass_input(connection)
                if not self._alive(connection):
                    return
        except Problem as problem:
            code = FAILED
            with suppress(OSError):
                connection.send_text(json.dumps({"error": problem.to_body()}, default=str))
        except (OSError, ContainerMissing):
            pass  # the other side has left, or there is nothing left to talk to
        finally:
            connection.close(code)

    def _pass_output(self, connection: WebSocket) -> None:
        try:
            full = self._session.backlog > MAX_BACKLOG
            # Several looks a heartbeat, or a silence would be noticed only when it has lasted too long.
            wait = 0.0 if connection.pending else min(TICK, self._streams.heartbeat / 2)
            found = self._session.receive(wait, None if full else connection.fileno())
            if found is not None:
                connection.send_bytes(found.data)
        except FeedEnded:
            self._over = True
            connection.send_text(json.dumps({"exit": {"exit_code": self._session.exit_code()}}))

    def _pass_input(self, connection: WebSocket) -> None:
        if self._over or self._session.backlog > MAX_BACKLOG:
            return
        for event in connection.receive():
            self._heard = time.monotonic()
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            self._session.send(bytes(event.data))
        elif isinstance(event, TextMessage):
            self._control = (self._control + event.data)[: MAX_CONTROL + 1]
            if event.message_finished:
                message, self._control = self._control, ""
                self._act(message)

    def _act(self, message: str) -> None:
        """Do what a text message says; one that says nothing known is passed over, for clients that are newer."""
        with suppress(ValueError, ValidationError, RecursionError):
            found: Any = json.loads(message)
            if isinstance(found, dict) and "resize" in found:
                size = TerminalSize.model_validate(found["resize"])
                self._session.resize(size.rows, size.columns)

    def _alive(self, connection: WebSocket) -> bool:
        now, heartbeat = time.monotonic(), self._streams.heartbeat
        if self._session.backlog > MAX_BACKLOG:
            self._heard = now  # nothing is read meanwhile
            return not connection.gone
        if now - self._heard > heartbeat * DEAD:
            return False
        if now - max(self._said, self._heard) > heartbeat:
            self._said = now
            connection.ping()
        return True

    def close(self) -> None:
        """End the command, whoever is still there to see it."""
        try:
            if not self._over:
                with suppress(Problem):
                    self._session.kill()
        finally:
            self._session.close()
