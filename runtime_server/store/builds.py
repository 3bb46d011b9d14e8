"""The queue of image builds: which are worked on, and whose turn is next.

A build is an operation of the kind ``build``; its context and its log are files. While it waits its ``stage`` is
``queued``, and nobody holds it: any process may take it. Owners take turns: the one with the fewest builds at work is
next, among equals the one that has waited longest.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from runtime_server.errors import TooManyBuilds
from runtime_server.store.database import Database
from runtime_server.store.operations import Operations
from runtime_server.store.records import Operation
from runtime_server.store.schema import operations

BUILD = "build"
QUEUED = "queued"
RETRY_AFTER = 30.0
"""Seconds after which a refused build may be sent again; OpenHands' builder waits as long by itself."""

_columns = operations.c
_BUILDS = sa.select(operations).where(_columns.kind == BUILD)
_UNDONE = _BUILDS.where(_columns.done.is_(False))


class BuildQueue:
    """Builds in the database.

    Args:
        database: where operations are.
        operations_: writes them.
        places: how many are worked on at once, over all processes.
        waiting: how many of one owner may wait.
    """

    def __init__(self, database: Database, operations_: Operations, *, places: int, waiting: int) -> None:
        self._database = database
        self._operations = operations_
        self._places = places
        self._waiting = waiting

    def add(self, operation: Operation) -> Operation:
        """Queue a build up; where its key is there already, that is the build.

        Raises:
            TooManyBuilds: it would have to wait, and as many of the owner's wait as may.
        """
        with self._database.transaction() as connection:
            key = (_columns.owner == operation.owner, _columns.key == operation.key)
            there = connection.execute(_BUILDS.where(*key)).first()
            if there is not None:
                return Operation(**there._asdict())
            undone = [Operation(**row._asdict()) for row in connection.execute(_UNDONE)]
            self._check(undone, operation.owner)
            self._operations.insert(connection, operation)
        return operation

    def refuse_beyond(self, owner: str) -> None:
        """Look whether a build of the owner could be added now.

        Raises:
            TooManyBuilds: it couldn't.
        """
        self._check(self.undone(), owner)

    def _check(self, undone: Collection[Operation], owner: str) -> None:
        waiting = [each for each in undone if each.stage == QUEUED]
        theirs = sum(each.owner == owner for each in waiting)
        if len(undone) >= self._places and theirs >= self._waiting:
            raise TooManyBuilds(
                f"{theirs} builds of yours are waiting, as many as may (RUNTIME_SERVER_MAX_QUEUED_BUILDS).",
                retry_after=RETRY_AFTER,
            )

    def undone(self) -> list[Operation]:
        """All that wait or are worked on."""
        with self._database.connection() as connection:
            return [Operation(**row._asdict()) for row in connection.execute(_UNDONE)]

    def kept(self) -> dict[str, Operation]:
        """All that there are, by their ids."""
        with self._database.connection() as connection:
            return {row.key: Operation(**row._asdict()) for row in connection.execute(_BUILDS)}

    def find(self, owner: str | None, build_id: str) -> Operation | None:
        """The owner's build of that id; None as the owner: anybody's."""
        query = _BUILDS.where(_columns.key == build_id)
        if owner is not None:
            query = query.where(_columns.owner == owner)
        with self._database.connection() as connection:
            row = connection.execute(query).first()
        return None if row is None else Operation(**row._asdict())

    def take(self, holder: str, lease_until: float, alive: Callable[[Operation], bool]) -> Operation | None:
        """The next build to work on, now held by ``holder``: one whose worker is gone, else one that waits.

        Args:
            holder: this process.
            lease_until: the end of its lease.
            alive: whether an operation's holder lives.
        """
        if self._next(self.undone(), alive) is None:
            return None
        with self._database.transaction() as connection:
            undone = [Operation(**row._asdict()) for row in connection.execute(_UNDONE)]
            chosen = self._next(undone, alive)
            if chosen is None:
                return None
            payload = chosen.payload | {"started_at": chosen.payload.get("started_at") or time.time()}
            if chosen.stage != QUEUED and chosen.holder:
                payload["deaths"] = payload.get("deaths", 0) + 1
            taken = dataclasses.replace(
                chosen, holder=holder, lease_until=lease_until, stage=None, payload=payload, queued_at=None
            )
            connection.execute(
                sa.update(operations)
                .where(_columns.id == chosen.id)
                .values(holder=holder, lease_until=lease_until, stage=None, queued_at=None, payload=payload)
            )
        return taken

    def _next(self, undone: list[Operation], alive: Callable[[Operation], bool]) -> Operation | None:
        at_work = [each for each in undone if each.stage != QUEUED and alive(each)]
        left = [each for each in undone if each.stage != QUEUED and not alive(each)]
        if len(at_work) >= self._places:
            return None
        if left:
            return left[0]
        owners = [each.owner for each in at_work]
        waiting = sorted(
            (each for each in undone if each.stage == QUEUED),
            key=lambda each: (owners.count(each.owner), each.queued_at or 0.0, each.id),
        )
        return waiting[0] if waiting else None

    def end(self, operation: Operation, outcome: dict[str, Any], expires_at: float) -> bool:
        """Note how a build ended, whoever works on it; False where it had ended before.

        Nobody holds it any more: who works on it sees that it isn't its own.
        """
        statement = (
            sa.update(operations)
            .where(_columns.id == operation.id, _columns.done.is_(False))
            .values(done=True, holder="", stage=None, answer=json.dumps(outcome).encode(), expires_at=expires_at)
        )
        with self._database.connection() as connection:
            return connection.execute(statement).rowcount == 1
