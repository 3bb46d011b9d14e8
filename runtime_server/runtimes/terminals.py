"""Terminals in runtimes, and the tickets that let a browser open one."""

from __future__ import annotations

import secrets
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from runtime_server.engine.inside import ExecSession
from runtime_server.errors import Problem, Unauthorized
from runtime_server.models import ExecRequest, TerminalTicket, utc
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.execs import Execs
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.policy_exec import exec_spec
from runtime_server.runtimes.states import Action, target
from runtime_server.settings import Settings
from runtime_server.store.operations import Operations
from runtime_server.store.records import Operation

KIND = "ticket"
VALID = 30.0
"""Seconds that a ticket is worth something."""
SHELL = ["/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh"]
"""What a terminal runs that names nothing: bash where there is one."""
TERM = {"TERM": "xterm-256color"}


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in characters."""

    rows: int
    columns: int


class Terminals:
    """Opens terminals.

    Args:
        settings: rules.
        execs: starts what runs in them.
        operations: where tickets are kept, as hashes.
        lookup: finds runtimes.
    """

    def __init__(self, *, settings: Settings, execs: Execs, operations: Operations, lookup: Lookup) -> None:
        self._settings = settings
        self._execs = execs
        self._operations = operations
        self._lookup = lookup

    def open(self, caller: Caller, name: str, request: ExecRequest, size: Size | None) -> ExecSession:
        """A command in a terminal; closing it doesn't end the command, ``kill`` does.

        Args:
            caller: who asks.
            name: the runtime's id or alias.
            request: what to run.
            size: the terminal's at the beginning; None: the engine's own.

        Raises:
            RuntimeNotFound, InvalidState, PolicyRefused
            CommandNotFound, CommandNotExecutable, UserUnknown, SpecRejected: mostly only as it is read.
        """
        record = self._lookup.find(caller, name)
        target(Action.EXEC, record)
        session = self._execs.begin(record, exec_spec(self._settings, request, interactive=True))
        if size is not None:
            session.resize(size.rows, size.columns)
        return session

    def ticket(self, caller: Caller, name: str) -> TerminalTicket:
        """Let somebody without the key open one terminal in this runtime, as the caller would.

        Raises:
            RuntimeNotFound: there is none.
        """
        record = self._lookup.find(caller, name)
        ticket, end = secrets.token_urlsafe(32), time.time() + VALID
        self._operations.claim(
            Operation(
                id=uuid.uuid4().hex,
                kind=KIND,
                owner=caller.owner,
                key=_digest(ticket),
                holder="",
                lease_until=0.0,
                expires_at=end,
                payload={"runtime_id": record.runtime_id, "admin": caller.admin},
            )
        )
        expires = utc(end)
        assert expires is not None
        return TerminalTicket(ticket=ticket, expires_at=expires)

    def redeem(self, ticket: str, name: str) -> Caller:
        """Whom the ticket stands for; it is worth nothing from now on.

        Raises:
            Unauthorized: it isn't one, is used up or too old, or is for another runtime.
        """
        found = self._operations.take(KIND, _digest(ticket))
        if found is not None and (found.expires_at or 0) > time.time():
            caller = Caller(found.owner, admin=bool(found.payload["admin"]))
            with suppress(Problem):
                if self._lookup.find(caller, name).runtime_id == found.payload["runtime_id"]:
                    return caller
        raise Unauthorized("The ticket is used up, too old, or for another runtime.")


def _digest(ticket: str) -> str:
    return sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()
