"""Tidying up when somebody asks for it; what is beyond its retention goes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from runtime_server.engine.base import Engine
from runtime_server.errors import AdminOnly, Problem, StorageUnavailable
from runtime_server.models import PruneFailure, PruneReport, PruneRequest
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.policy_workspaces import workspace_id
from runtime_server.runtimes.stops import ENDED, Stops
from runtime_server.runtimes.waits import SlowLane
from runtime_server.runtimes.workspaces import Workspaces
from runtime_server.store.store import Store

MOST = 100
"""How much of each kind one call removes."""


class Housekeeping:
    """Removes what has ended and what nobody uses.

    Args:
        engine: has what builds have left.
        store: knows what has ended.
        stops: removes runtimes.
        workspaces: removes workspaces.
        lane: bounds those who wait for it.
        retention: seconds that an unused workspace stays; 0: for ever.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        stops: Stops,
        workspaces: Workspaces,
        lane: SlowLane,
        retention: float,
    ) -> None:
        self._engine = engine
        self._store = store
        self._stops = stops
        self._workspaces = workspaces
        self._lane = lane
        self._retention = retention

    def prune(self, caller: Caller, request: PruneRequest) -> PruneReport:
        """Remove what the request names of the caller's own, of everybody's where it is an admin.

        Raises:
            AdminOnly: another owner's, or what belongs to nobody, is asked for.
            TooManyWaiting: all threads for slow requests are taken.
        """
        if not caller.admin and (request.build_cache or request.owner not in (None, caller.owner)):
            raise AdminOnly("Only an admin may remove what belongs to others, or to nobody.")
        owner = request.owner if caller.admin else caller.owner
        failed: list[PruneFailure] = []
        with self._lane.place():
            runtimes = self._ended(owner, request) if request.runtimes else []
            workspaces = self._unused(owner, request) if request.workspaces else []
            more = len(runtimes) > MOST or len(workspaces) > MOST
            cache = self._cache(request, failed) if request.build_cache else None
            runtimes, workspaces = runtimes[:MOST], workspaces[:MOST]
            if not request.dry_run:
                runtimes = _done(runtimes, self._remove, failed)
                workspaces = _done(workspaces, lambda each: self._workspaces.delete(caller, each), failed)
        return PruneReport(
            dry_run=request.dry_run,
            runtimes=list(runtimes),
            workspaces=list(workspaces),
            build_cache_bytes=cache,
            failed=failed,
            more=more,
        )

    def _ended(self, owner: str | None, request: PruneRequest) -> Sequence[str]:
        before = time.time() - request.older_than
        return [
            each.runtime_id
            for each in self._store.ended()
            if owner in (None, each.owner) and (each.stopped_at or each.created_at) <= before
        ]

    def _unused(self, owner: str | None, request: PruneRequest) -> Sequence[str]:
        longest = request.workspaces_unused_for
        if longest is None:
            longest = self._retention or None
        if longest is None:
            return []
        known = self._store.workspaces.last_used(owner)
        unused = self._store.workspaces.unused_since(time.time() - longest)
        return [workspace_id(each) for each in unused if each in known]

    def _remove(self, runtime_id: str) -> None:
        record = self._store.get(runtime_id)
        if record is None or record.status not in ENDED:
            return
        try:
            # Not one that is restarted meanwhile.
            begun = self._stops.begin(record, timeout=0.0, remove=True, only_from=ENDED)
        except StorageUnavailable:
            self._stops.stop(record, timeout=0.0, remove=True)
            return
        if begun is not None:
            self._stops.finish(*begun)

    def _cache(self, request: PruneRequest, failed: list[PruneFailure]) -> int:
        work = self._engine.build_cache if request.dry_run else self._engine.prune_build_cache
        try:
            return work(request.older_than)
        except Problem as problem:
            failed.append(PruneFailure(id="build_cache", code=problem.code, detail=problem.detail))
            return 0


def _done(wanted: Sequence[str], work: Callable[[str], object], failed: list[PruneFailure]) -> Sequence[str]:
    """Those for which the work was done."""
    found = []
    for each in wanted:
        try:
            work(each)
            found.append(each)
        except Problem as problem:
            failed.append(PruneFailure(id=each, code=problem.code, detail=problem.detail))
    return found
