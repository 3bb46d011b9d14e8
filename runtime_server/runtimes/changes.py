"""Changes of runtimes that there are: limits on the engine, and what only this service knows of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime_server.engine.base import ContainerMissing, Engine
from runtime_server.engine.limits import NewLimits
from runtime_server.errors import EngineTimeout, InvalidState, LimitOutOfRange, StorageUnavailable
from runtime_server.models import RuntimeStatus, StartRequest, UpdateRequest, UpdateResponse
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.holders import locked
from runtime_server.runtimes.kept import LIMITS, KeptChanges
from runtime_server.runtimes.lookup import Lookup
from runtime_server.runtimes.policy import Policy
from runtime_server.runtimes.quotas import Quotas
from runtime_server.runtimes.renewals import Renewals
from runtime_server.runtimes.states import TRANSITIONS, Action, invalid, refusal, target
from runtime_server.runtimes.sync import Sync
from runtime_server.runtimes.views import Views
from runtime_server.store.records import Record
from runtime_server.store.store import LIVE, Store


class Changes:
    """Changes runtimes.

    Args:
        engine: has the limits.
        store: records.
        lookup, sync: find runtimes, and mend records that the engine contradicts.
        locks: the folder of runtimes' locks.
        policy: says which limits there are.
        quotas: what owners may have.
        renewals, kept: what labels don't know.
        views: makes what callers see.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        lookup: Lookup,
        sync: Sync,
        locks: Path,
        policy: Policy,
        quotas: Quotas,
        renewals: Renewals,
        kept: KeptChanges,
        views: Views,
    ) -> None:
        self._engine = engine
        self._store = store
        self._lookup = lookup
        self._sync = sync
        self._locks = locks
        self._policy = policy
        self._quotas = quotas
        self._renewals = renewals
        self._kept = kept
        self._views = views

    def change(self, caller: Caller, name: str, request: UpdateRequest) -> UpdateResponse:
        """Change what the request names of a runtime, all of it or nothing.

        Raises:
            RuntimeNotFound, InvalidState, RuntimeBusy, PolicyRefused, QuotaExceeded
            LimitOutOfRange: the engine can't give a limit, or can't take one away.
            EngineUnreachable, EngineTimeout: limits may be changed all the same.
        """
        runtime_id = self._lookup.find(caller, name).runtime_id
        with locked(self._locks, runtime_id):
            record = self._lookup.find(caller, runtime_id)
            target(Action.UPDATE, record)
            return self._change(caller, record, request)

    def _change(self, caller: Caller, record: Record, request: UpdateRequest) -> UpdateResponse:
        asked = _asked(record, request)
        self._policy.check_labels(asked["labels"])
        wanted = StartRequest.model_validate({**record.spec, **asked}) if record.spec else None
        limits, sizes = self._limits(record, request, wanted)
        values: dict[str, Any] = {**sizes, "labels": asked["labels"]}
        if record.spec:
            values["spec"] = _spec(record, asked)
        if "ttl" in request.model_fields_set:
            values["expires_at"] = None if request.ttl is None else time.time() + request.ttl
        if "retention" in request.model_fields_set:
            values["retention"] = request.retention
        if limits:
            self._set_limits(record, limits, sizes)
        changed = self._put(record, values)
        if "expires_at" in values:
            self._renewals.keep(record.runtime_id, changed.expires_at)
        self._kept.keep(changed)
        if request.model_fields_set:
            told = ", ".join(sorted(request.model_fields_set))
            self._store.note(record.runtime_id, f"Changed: {told}.")
        pids = None if wanted is None else self._policy.limits(wanted)[2]
        return UpdateResponse.model_validate(
            {
                **dict(self._views.runtime(changed, caller)),
                "cpus": changed.cpus,
                "memory_bytes": changed.memory,
                "pids_limit": pids,
                "retention": changed.retention,
            }
        )

    def _limits(
        self, record: Record, request: UpdateRequest, wanted: StartRequest | None
    ) -> tuple[NewLimits, dict[str, Any]]:
        """What to tell the engine, and the columns that follow from it."""
        named = request.model_fields_set.intersection(LIMITS)
        if not named:
            return NewLimits(), {}
        if wanted is None:
            raise refusal("What the runtime was started with isn't known any more.", record.status)
        cpus, memory, pids = self._policy.limits(wanted)
        sizes: dict[str, Any] = {}
        # Told even where the record has them: an attempt that was cut short may have written them down alone.
        if "cpus" in named and (cpus, record.cpus) != (None, None):
            sizes["cpus"] = _given("A CPU limit", cpus)
        if "memory" in named and (memory, record.memory) != (None, None):
            sizes["memory"] = _given("A memory limit", memory)
        processes = (pids or 0) if "pids_limit" in named else None
        return NewLimits(sizes.get("cpus"), sizes.get("memory"), processes), sizes

    def _set_limits(self, record: Record, limits: NewLimits, sizes: Mapping[str, Any]) -> None:
        """Have the engine set them. What grows is written down before, so that it is counted whatever happens."""
        if record.container_id is None:
            raise invalid(Action.UPDATE, record.status)
        grown = {name: value for name, value in sizes.items() if (getattr(record, name) or value) < value}
        counted = self._quotas.of(record.owner).to_grow() if grown and record.status in LIVE else None
        if grown:
            self._put(record, grown, counted)
        try:
            self._engine.set_limits(record.container_id, limits)
        except EngineTimeout:
            raise  # it may have them now
        except BaseException as error:
            if grown:
                with suppress(StorageUnavailable):
                    self._store.change(record.runtime_id, **{name: getattr(record, name) for name in grown})
            if isinstance(error, ContainerMissing | InvalidState):
                raise invalid(Action.UPDATE, self._sync.locked(record).status) from None
            raise

    def _put(self, record: Record, values: Mapping[str, Any], limits: Any = None) -> Record:
        only = tuple(TRANSITIONS[Action.UPDATE])
        changed = self._store.change(record.runtime_id, only_from=only, limits=limits, **values)
        if changed is None:
            raise invalid(Action.UPDATE, self._status(record))
        return changed

    def _status(self, record: Record) -> RuntimeStatus:
        now = self._store.get(record.runtime_id)
        return RuntimeStatus.REMOVED if now is None else now.status


def _asked(record: Record, request: UpdateRequest) -> dict[str, Any]:
    """The fields of a start as they are to be; null for those that are to have their default."""
    asked: dict[str, Any] = {name: getattr(request, name) for name in request.model_fields_set.intersection(LIMITS)}
    labels: dict[str, str | None] = dict(record.labels)
    if "labels" in request.model_fields_set:
        labels = {} if request.labels is None else {**labels, **request.labels}
    asked["labels"] = {name: value for name, value in labels.items() if value is not None}
    return asked


def _spec(record: Record, asked: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in record.spec.items() if name not in asked}
    return kept | {name: value for name, value in asked.items() if value not in (None, {})}


def _given(what: str, value: float | None) -> float:
    if value is None:
        raise LimitOutOfRange(f"{what} can be changed, but not taken away.")
    return value
