"""Containers' output, of engines that speak Docker's HTTP API."""

from __future__ import annotations

from collections import deque

from runtime_server.engine.answers import mapped
from runtime_server.engine.docker_calls import DockerCalls
from runtime_server.engine.docker_streams import EngineConnection
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.inside import LogEntry, LogQuery
from runtime_server.engine.multiplexed import Demultiplexer
from runtime_server.errors import EngineFailed
from runtime_server.models.logs import nanoseconds

TAIL = 100
"""Lines that are kept of a container that ends."""


class DockerLogs(DockerCalls):
    """Output, whole or bit by bit."""

    def logs(self, container: str, tail: int = TAIL) -> str:
        """See ``Engine``."""
        with self._call("logs", container) as client:
            output = client.logs(container, stdout=True, stderr=True, tail=tail)
        return output.decode("utf-8", "replace")

    def log_entries(self, container: str, query: LogQuery) -> DockerLogFeed:
        """See ``InsideEngine``."""
        with self._call("logs", container) as client:
            connection = EngineConnection(
                client,
                "GET",
                f"/containers/{container}/logs",
                params=_params(query),
                timeout=self._timeout,
            )
        return DockerLogFeed(connection)


class DockerLogFeed:
    """Entries as they come; see ``Feed``."""

    def __init__(self, connection: EngineConnection) -> None:
        self._connection = connection
        self._frames = Demultiplexer()
        self._ready: deque[LogEntry] = deque()

    def receive(self, timeout: float) -> LogEntry | None:
        """See ``Feed``."""
        with mapped("logs"):
            while not self._ready:
                data = self._connection.receive(timeout)
                if data is None:
                    return None
                if not data:
                    raise FeedEnded
                self._ready.extend(entry(*frame) for frame in self._frames.feed(data))
        return self._ready.popleft()

    def close(self) -> None:
        """See ``Feed``."""
        self._connection.close()


def _params(query: LogQuery) -> dict[str, str]:
    params = {
        "stdout": "1" if query.stdout else "0",
        "stderr": "1" if query.stderr else "0",
        "follow": "1" if query.follow else "0",
        "tail": "all" if query.tail is None else str(query.tail),
        "timestamps": "1",
    }
    if query.since is not None:
        params["since"] = "{}.{:09d}".format(*divmod(query.since, 1_000_000_000))
    return params


def entry(stream: str, payload: bytes) -> LogEntry:
    """An entry from a frame, which begins with its time and a space.

    Raises:
        EngineFailed: it doesn't.
    """
    time, _, data = payload.partition(b" ")
    try:
        return LogEntry(stream, nanoseconds(time.decode("ascii")), data)
    except ValueError:
        raise EngineFailed("The container engine sent output that can't be read.") from None
