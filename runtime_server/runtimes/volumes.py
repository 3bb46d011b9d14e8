"""Named volumes as their owners see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from runtime_server.engine import base
from runtime_server.engine import labels as tags
from runtime_server.engine.base import Engine
from runtime_server.errors import EngineFailed, EngineTimeout, VolumeInUse, VolumeNotFound
from runtime_server.models import RuntimeStatus, Volume, VolumeDeleted, VolumeList
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.waits import SlowLane
from runtime_server.store.store import Store


class Volumes:
    """The named volumes of an instance, which starts make.

    Args:
        engine: has them.
        store: knows which runtimes were started with them.
        lane: bounds those who wait for sizes.
    """

    def __init__(self, engine: Engine, store: Store, lane: SlowLane) -> None:
        self._engine = engine
        self._store = store
        self._lane = lane

    def list(self, caller: Caller, *, owner: str | None = None, sizes: bool = False) -> VolumeList:
        """The caller's volumes, an admin's are everybody's, by owner and name.

        Args:
            caller: who asks.
            owner: only this owner's; for all but admins, others have none.
            sizes: also measure them.

        Raises:
            TooManyWaiting: sizes are asked for, and all threads that may wait do.
            EngineUnreachable, EngineTimeout, EngineFailed: the engine doesn't say.
        """
        found = [each for each in self._visible(caller) if owner in (None, _owner(each))]
        measured: Mapping[str, int] = {}
        if sizes and found:
            # An engine that is measuring for another, that can't, or takes too long, has none to tell.
            with self._lane.place(), suppress(EngineFailed, EngineTimeout):
                measured = self._engine.volume_sizes()
        users = self._users()
        told = [
            Volume(
                name=_name(each),
                owner=_owner(each),
                volume=each.name,
                size_bytes=measured.get(each.name),
                in_use_by=list(users.get((_owner(each), _name(each)), ())),
            )
            for each in found
        ]
        return VolumeList(volumes=sorted(told, key=lambda each: (each.owner, each.name)))

    def delete(self, caller: Caller, name: str, *, owner: str | None = None) -> VolumeDeleted:
        """Remove a volume with all that is in it.

        Args:
            caller: who asks.
            name: its owner's name for it, or the engine's.
            owner: whose; None: the caller's, else, for an admin, the only one of that name.

        Raises:
            VolumeNotFound: there is none.
            VolumeInUse: a container mounts it.
            EngineUnreachable, EngineTimeout: it may be removed later all the same.
        """
        found = self._find(caller, name, owner)
        key = (_owner(found), _name(found))
        try:
            changed = self._engine.remove_volume(found.name)
        except base.VolumeInUse:
            raise VolumeInUse(
                "A runtime has the volume; it can be removed once the runtime is removed.",
                runtime_ids=list(self._users().get(key, ())),
            ) from None
        message = "The volume is removed." if changed else "The volume is removed already."
        return VolumeDeleted(name=key[1], owner=key[0], message=message, changed=changed)

    def _visible(self, caller: Caller) -> Sequence[base.Volume]:
        return [each for each in self._engine.list_volumes(tags.VOLUME) if caller.sees(_owner(each))]

    def _find(self, caller: Caller, name: str, owner: str | None) -> base.Volume:
        visible = [each for each in self._visible(caller) if owner in (None, _owner(each))]
        named = [each for each in visible if _name(each) == name]
        own = [each for each in named if _owner(each) == caller.owner]
        for found in ([each for each in visible if each.name == name], own, named):
            if len(found) > 1:
                raise VolumeNotFound("Several owners have a volume of that name; `owner` says whose is meant.")
            if found:
                return found[0]
        raise VolumeNotFound("No volume has that name.")

    def _users(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """Runtimes by a volume's owner and name: those with a container, running or not."""
        found: dict[tuple[str, str], list[str]] = {}
        for record in self._store.present():
            if record.status is not RuntimeStatus.STARTING and record.container_id is None:
                continue
            for volume in record.spec.get("volumes", ()):
                source = str(volume.get("host_path", ""))
                if not source.startswith("/"):
                    found.setdefault((record.owner, source), []).append(record.runtime_id)
        return found


def _owner(volume: base.Volume) -> str:
    return volume.labels.get(tags.OWNER, "")


def _name(volume: base.Volume) -> str:
    return volume.labels.get(tags.VOLUME, "")
