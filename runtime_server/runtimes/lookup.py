"""Which runtime a caller means, and how it is now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runtime_server.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    RuntimeNotFound,
    StorageUnavailable,
)
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.sync import Liveness, Sync
from runtime_server.store.records import Record
from runtime_server.store.store import Store


class Lookup:
    """Finds records, for those who may see them.

    Args:
        store: records.
        sync: looks at the engine.
        liveness: whether the store can be trusted.
        rebuilding: while this file is there, records are missing.
    """

    def __init__(self, store: Store, sync: Sync, liveness: Liveness, rebuilding: Path) -> None:
        self._store = store
        self._sync = sync
        self._liveness = liveness
        self._rebuilding = rebuilding

    def find(self, caller: Caller, name: str) -> Record:
        """The runtime of that id, else the caller's own of that alias, else, for an admin, the only one of it.

        An id goes first: nobody can name a runtime of theirs so that an admin takes it for another.

        Raises:
            RuntimeNotFound: there is none, or none for this caller.
            StorageUnavailable: the records are being rebuilt, or can't be read.
        """
        record = self._store.get(name)
        if record is None or not caller.sees(record.owner):
            record = self._store.by_alias(caller.owner, name)
        if record is None and caller.admin:
            named = self._store.named(name)
            if len({each.owner for each in named}) > 1:
                raise RuntimeNotFound("Several owners have a runtime of that name; an id says which is meant.")
            record = named[0] if named else None
        if record is None:
            self.refuse_while_rebuilding()
            raise RuntimeNotFound("No runtime has that id or alias.")
        return record

    def current(self, record: Record) -> Record:
        """The record, after a look at the engine where the store can't be trusted to be up to date."""
        return self.all_current([record])[0]

    def all_current(self, records: Sequence[Record]) -> Sequence[Record]:
        """As ``current``, asking an engine that fails no more than once: each question may take its timeout."""
        if self._liveness.live():
            return records
        current = list(records)
        with suppress(EngineFailed, EngineUnreachable, EngineTimeout, StorageUnavailable):
            for index, record in enumerate(records):
                current[index] = self._sync.sync(record)
        return current

    def refuse_while_rebuilding(self) -> None:
        """A runtime, or a session's, may exist without its record: a second start would double it.

        Raises:
            StorageUnavailable: it is so.
        """
        if self._rebuilding.exists():
            raise StorageUnavailable("The records are being rebuilt from the containers' labels.", retry_after=1)
