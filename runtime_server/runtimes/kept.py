"""What was changed of runtimes, kept beside the database: containers' labels say what they were started with."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime_server.paths import put_whole
from runtime_server.store.records import Record

LIMITS = ("cpus", "memory", "pids_limit")
"""The limits of a start that can be changed."""


class KeptChanges:
    """A file for each changed runtime.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, record: Record) -> None:
        """Remember what the record has now. On a full disk the database alone knows it."""
        spec = {name: record.spec.get(name) for name in LIMITS}
        kept = {"spec": spec, "labels": record.labels, "retention": record.retention}
        with suppress(OSError):
            put_whole(self._folder / record.runtime_id, json.dumps(kept))

    def applied(self, record: Record) -> Record:
        """A record that was made of a container's labels, with what was changed since."""
        try:
            kept: dict[str, Any] = json.loads((self._folder / record.runtime_id).read_text())
            labels, retention = dict(kept["labels"]), kept["retention"]
            limits = {name: value for name, value in kept["spec"].items() if value is not None}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return record
        spec = {name: value for name, value in record.spec.items() if name not in kept["spec"]}
        spec |= {**limits, "labels": labels} if record.spec else {}
        return dataclasses.replace(record, labels=labels, retention=retention, spec=spec)

    def forget(self, runtime_id: str) -> None:
        """Remember nothing of it any more."""
        (self._folder / runtime_id).unlink(missing_ok=True)
