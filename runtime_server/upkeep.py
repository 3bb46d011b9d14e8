"""What an operator does from the command line to a whole instance."""

from __future__ import annotations

import time
from contextlib import closing, suppress

from runtime_server.engine import labels as tags
from runtime_server.engine.base import ContainerMissing, VolumeInUse
from runtime_server.engine.docker import DockerEngine
from runtime_server.errors import EngineFailed
from runtime_server.models import RuntimeStatus
from runtime_server.network.firewall import Firewall, FirewallFailed
from runtime_server.runtimes import starts, stops
from runtime_server.settings import Settings
from runtime_server.state import State, locate
from runtime_server.store.database import Database
from runtime_server.store.store import Store


def drain(settings: Settings, timeout: float) -> bool:
    """Refuse new starts from now on, and wait for work in flight.

    Args:
        settings: whose state directory.
        timeout: seconds to wait at most.

    Returns:
        Whether all work has ended.
    """
    state = locate(settings)
    state.draining.touch(mode=0o600)
    end = time.monotonic() + timeout
    store = _store(state)
    try:
        while store.operations.running(starts.KIND, stops.KIND):
            if time.monotonic() >= end:
                return False
            time.sleep(0.1)
        return True
    finally:
        store.database.close()


def undrain(settings: Settings) -> None:
    """Accept starts again."""
    locate(settings).draining.unlink(missing_ok=True)


def purge(settings: Settings) -> int:
    """Remove all containers of this instance, its network and firewall rules, and mark the records.

    Returns:
        How many containers were removed.

    Raises:
        EngineUnreachable, EngineTimeout: the engine doesn't answer.
    """
    state = locate(settings)
    engine = _engine(settings, state)
    store = _store(state)
    removed = 0
    try:
        for listed in engine.list():
            with suppress(ContainerMissing):
                removed += engine.remove(listed.container_id)
        if settings.network:
            with suppress(EngineFailed):  # somebody else's container is in it
                engine.remove_network(settings.network)
        state.network.unlink(missing_ok=True)
        with suppress(FirewallFailed):  # who may not remove rules hasn't set any
            Firewall(state.firewall).remove(state.instance)
        now = time.time()
        for record in store.present():
            store.change(
                record.runtime_id,
                status=RuntimeStatus.REMOVED,
                status_detail="Purged by the operator.",
                removed_at=now,
                stopped_at=record.stopped_at or now,
                seen_at=now,
            )
        return removed
    finally:
        engine.close()
        store.database.close()


def workspaces(settings: Settings) -> int:
    """How many workspaces this instance has.

    Raises:
        EngineUnreachable, EngineTimeout: the engine doesn't answer.
    """
    with closing(_engine(settings, locate(settings))) as engine, suppress(EngineFailed):
        return len(engine.list_volumes(tags.WORKSPACE))
    return 0  # an engine that doesn't let itself be asked for volumes has none of ours


def purge_workspaces(settings: Settings) -> int:
    """Remove the workspaces of this instance, with all that is in them; those that are in use stay.

    Returns:
        How many were removed.

    Raises:
        EngineUnreachable, EngineTimeout: the engine doesn't answer.
    """
    state = locate(settings)
    store, removed = _store(state), 0
    with closing(_engine(settings, state)) as engine, closing(store.database):
        for volume in engine.list_volumes(tags.WORKSPACE):
            with suppress(VolumeInUse):
                removed += engine.remove_volume(volume.name)
                store.workspaces.forget([volume.name])
    return removed


def _engine(settings: Settings, state: State) -> DockerEngine:
    return DockerEngine(state.instance, address=settings.engine, timeout=settings.engine_timeout)


def _store(state: State) -> Store:
    return Store(Database(state.database))
