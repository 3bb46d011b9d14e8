"""What an engine says of the machine that it runs on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runtime_server.engine.docker_calls import DockerCalls


@dataclass(frozen=True, slots=True)
class HostFacts:
    """From ``GET /info``.

    Attributes:
        root: the folder of its images and containers, on its own machine; None where it doesn't tell.
        time: its clock; None where it doesn't tell (Podman).
    """

    root: Path | None
    time: datetime | None


class DockerHost(DockerCalls):
    """See ``DockerCalls``."""

    def facts(self) -> HostFacts:
        """What is known of the machine.

        Raises:
            EngineUnreachable, EngineTimeout, EngineFailed
        """
        with self._call("info") as client:
            found = client.info()
        root = found.get("DockerRootDir")
        return HostFacts(Path(root) if root else None, _time(found.get("SystemTime")))

    def close(self) -> None:
        """Give back connections."""
        self._lazy.close()


def _time(text: object) -> datetime | None:
    """RFC 3339 with nanoseconds, of which Python knows six digits."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
