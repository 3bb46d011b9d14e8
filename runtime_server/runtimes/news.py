"""What happens to runtimes, told as it happens: from the store, so that every process tells the same."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from runtime_server.engine.feeds import FeedEnded
from runtime_server.errors import StorageUnavailable
from runtime_server.models import HistoryEntry, RuntimeHistory, RuntimeStatus, utc
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.lookup import Lookup
from runtime_server.store.events import Event, Events
from runtime_server.store.store import Store

POLL = 0.1
"""Seconds between two looks at whether there is something new: one look for all who follow in this process."""
PAGE = 500
"""Events that are read at once."""
KEPT = 1000
"""Events that are remembered for those who follow: each is read once in a process, not once for each of them."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reader begins: the id after which everything comes."""

    id: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events.

    Attributes:
        after: only those after this id; None: only those from now on.
        runtime: only of the runtime of that id or alias.
        owner: only of this owner's; for all but admins, others have none.
        statuses: only of changes to one of these; empty: all.
        follow: go on for ever.
    """

    after: int | None = None
    runtime: str | None = None
    owner: str | None = None
    statuses: Collection[RuntimeStatus] = ()
    follow: bool = True


class News:
    """Opens what happens, and looks back.

    Args:
        store: has the history.
        lookup: finds runtimes.
    """

    def __init__(self, store: Store, lookup: Lookup) -> None:
        self._store = store
        self._lookup = lookup
        self._watch = Watch(store.events)

    def history(self, caller: Caller, name: str) -> RuntimeHistory:
        """What a runtime has been through, the oldest first.

        Raises:
            RuntimeNotFound: there is none.
        """
        record = self._lookup.find(caller, name)
        found = self._store.events.after(0, runtime_id=record.runtime_id, limit=10_000)
        return RuntimeHistory(runtime_id=record.runtime_id, entries=[entry(each) for each in found])

    def open(self, caller: Caller, wanted: Wanted) -> NewsFeed:
        """What happens to the caller's runtimes, an admin's are everybody's.

        Raises:
            RuntimeNotFound: there is no such runtime.
        """
        runtime_id = None if wanted.runtime is None else self._lookup.find(caller, wanted.runtime).runtime_id
        if wanted.owner is not None and not caller.sees(wanted.owner):
            return NewsFeed(self._store.events, self._watch, wanted, owner="", runtime_id=runtime_id)
        owner = wanted.owner if caller.admin else caller.owner
        return NewsFeed(self._store.events, self._watch, wanted, owner=owner, runtime_id=runtime_id)


class Watch:
    """One look at the store for all who follow in this process; none while nobody does.

    Args:
        events: is looked at.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._changed = threading.Condition()
        self._last = -1
        self._recent: deque[Event] = deque()
        self._known_from = -1
        self._followers = 0
        self._looking = False

    def wait(self, after: int, timeout: float) -> tuple[int, Sequence[Event]] | None:
        """Return once there is something after that id, at the latest after ``timeout`` seconds.

        Returns:
            The events after that id, whosever, and the last id up to which those are all; None where only the store
            knows them.
        """
        with self._changed:
            self._followers += 1
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="news", daemon=True).start()
            try:
                self._changed.wait_for(lambda: self._last > after, timeout)
                if not 0 <= self._known_from <= after:
                    return None
                return max(after, self._last), [each for each in self._recent if each.id > after]
            finally:
                self._followers -= 1

    def _look(self) -> None:
        while True:
            found: Sequence[Event] = ()
            last, before = self._last, self._last
            try:
                last = self._events.last()
                found = self._events.after(before, limit=PAGE) if 0 <= before < last else ()
            except StorageUnavailable:
                last = before  # or what lies between would be told to nobody
            with self._changed:
                if last != before:
                    self._remember(before, last, found)
                    self._changed.notify_all()
                if not self._followers:
                    self._looking = False
                    return
            time.sleep(POLL)

    def _remember(self, before: int, last: int, found: Sequence[Event]) -> None:
        if before < 0 or len(found) == PAGE:
            self._recent.clear()
            self._known_from = self._last = last
            return
        self._recent.extend(found)
        # One that was written after the look at the last id is here, too.
        self._last = max(last, found[-1].id if found else 0)
        while len(self._recent) > KEPT:
            self._known_from = self._recent.popleft().id


class NewsFeed:
    """Events, after the position that they begin at; see ``Feed``."""

    def __init__(
        self, events: Events, watch: Watch, wanted: Wanted, *, owner: str | None, runtime_id: str | None
    ) -> None:
        self._events = events
        self._watch = watch
        self._wanted = wanted
        self._owner = owner
        self._runtime_id = runtime_id
        last = events.last()
        # One that is yet to come is of a database that was lost.
        self._after = last if wanted.after is None else min(wanted.after, last)
        self._ready: deque[Event] = deque()
        self._told = False
        self._behind = True

    def receive(self, timeout: float) -> Event | Position | None:
        """See ``Feed``."""
        if not self._told:
            self._told = True
            return Position(self._after)
        if not self._ready and self._behind:
            self._read()
        if not self._ready:
            if not self._wanted.follow:
                raise FeedEnded("complete")
            self._take(self._watch.wait(self._after, timeout))
        return self._ready.popleft() if self._ready else None

    def _take(self, news: tuple[int, Sequence[Event]] | None) -> None:
        if news is None:
            self._read()
            return
        self._after, found = news
        self._ready.extend(each for each in found if self._is_wanted(each))

    def _is_wanted(self, event: Event) -> bool:
        return (
            self._owner in (None, event.owner)
            and self._runtime_id in (None, event.runtime_id)
            and (not self._wanted.statuses or event.status in self._wanted.statuses)
        )

    def _read(self) -> None:
        last = self._events.last()
        found = self._events.after(
            self._after,
            owner=self._owner,
            runtime_id=self._runtime_id,
            statuses=self._wanted.statuses,
            limit=PAGE,
        )
        self._ready.extend(found)
        if len(found) == PAGE:
            self._after = found[-1].id
        else:
            # What was there by then and isn't among them isn't wanted, and needn't be looked at again.
            self._after = max(self._after, last, found[-1].id if found else 0)
        self._behind = len(found) == PAGE

    def close(self) -> None:
        """See ``Feed``."""


def entry(event: Event) -> HistoryEntry:
    """An event as a runtime's history shows it."""
    at = utc(event.at)
    assert at is not None
    return HistoryEntry(id=event.id, at=at, status=event.status, detail=event.detail)
