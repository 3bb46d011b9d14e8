"""Records from what their containers carry: what a start asked for goes into a label, and comes back out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runtime_server.engine import labels as tags
from runtime_server.engine.base import Snapshot
from runtime_server.models import RESERVED_PREFIX
from runtime_server.runtimes import policy_workspaces, views
from runtime_server.runtimes.sessions import is_session
from runtime_server.store.records import Record

_NAMES_ONLY = ("environment", "labels")
"""Their values are in the container beside the label, and the environment's are secret."""


def spec_label(spec: Mapping[str, Any]) -> str:
    """A record's ``spec`` as its container's label: of the environment and of labels, the names alone."""
    return json.dumps({**spec, **{each: sorted(spec[each]) for each in _NAMES_ONLY if each in spec}})


def adopted(snapshot: Snapshot, at: float) -> Record:
    """The record of a container that carries our labels and has none.

    Args:
        snapshot: the container.
        at: Unix time of the look at it.
    """
    labels = snapshot.labels
    key = next(
        (snapshot.environment[name] for name in tags.SESSION_KEY_VARIABLES if name in snapshot.environment), None
    )
    spec = _spec(snapshot)
    return Record(
        runtime_id=labels[tags.RUNTIME_ID],
        owner=labels.get(tags.OWNER, ""),
        name=labels.get(tags.NAME),
        session_id=labels.get(tags.SESSION_ID),
        image=labels.get(tags.IMAGE, snapshot.image),
        created_at=_number(labels.get(tags.CREATED_AT)) or snapshot.created_at or at,
        expires_at=_number(labels.get(tags.EXPIRES_AT)),
        retention=_number(labels.get(tags.RETENTION)),
        auto_remove=labels.get(tags.AUTO_REMOVE) == "true",
        spec=spec,
        labels=spec.get("labels", {}) if spec else _foreign(labels),
        session_api_key=key if _keyed(snapshot, spec) else None,
        cpus=snapshot.cpus,
        memory=snapshot.memory,
        workspace=policy_workspaces.volume_name(labels.get(tags.INSTANCE, ""), labels.get(tags.OWNER, ""), spec),
        **views.facts(snapshot, at),
    )


def _keyed(snapshot: Snapshot, spec: Mapping[str, Any]) -> bool:
    """Whether the session key in its environment is ours: a session's, or one that nobody else can have put there."""
    if is_session(snapshot.labels.get(tags.SESSION_ID), snapshot.labels.get(tags.NAME)):
        return True
    asked = spec.get("environment", {})
    found = {snapshot.environment.get(name) for name in tags.SESSION_KEY_VARIABLES}
    return bool(spec) and len(found) == 1 and not any(name in asked for name in tags.SESSION_KEY_VARIABLES)


def _spec(snapshot: Snapshot) -> dict[str, Any]:
    """What the start asked for; empty where the label can't be read."""
    try:
        spec: dict[str, Any] = json.loads(snapshot.labels.get(tags.SPEC, ""))
        for name, values in (("environment", snapshot.environment), ("labels", snapshot.labels)):
            if name in spec:
                spec[name] = {each: values[each] for each in spec[name] if each in values}
    except (ValueError, TypeError):
        return {}
    return spec


def _foreign(labels: Mapping[str, str]) -> dict[str, str]:
    """All labels that aren't ours: the caller's, and the image's."""
    return {key: value for key, value in labels.items() if not key.startswith(RESERVED_PREFIX)}


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
