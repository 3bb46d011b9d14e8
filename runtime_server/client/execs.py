"""Commands in runtimes: their output as it comes."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from runtime_server.client.closing import Closing
from runtime_server.client.ndjson import is_control, objects
from runtime_server.client.transport import OpenReply
from runtime_server.errors import IncompatibleServer
from runtime_server.models import ExecChunk, ExecEnd


class ExecStream(Closing, Iterator[ExecChunk]):
    """A command's output, piece by piece. Closed before its end, the command is killed, as it is where the connection
    is lost: what it would have written then is lost, too, so that this isn't resumed.

    A context manager, and to be closed where it isn't read to its end. For one thread.

    Attributes:
        result: how the command ended, once its output has been read to the end.
    """

    def __init__(self, reply: OpenReply) -> None:
        self._reply = reply
        self._chunks = self._iterate()
        self.result: ExecEnd | None = None

    def _iterate(self) -> Iterator[ExecChunk]:
        for found in objects(self._reply):
            if is_control(found):
                continue
            try:
                if "stream" in found:
                    yield ExecChunk.model_validate(found)
                else:
                    self.result = ExecEnd.model_validate(found)
            except ValidationError:
                raise IncompatibleServer("a line of the stream isn't an ExecChunk of this API") from None
        self._reply.close()

    def __next__(self) -> ExecChunk:
        return next(self._chunks)

    def close(self) -> None:
        """End it, and the command if it still runs."""
        self._reply.close()
