"""What runtimes use, have been through, and what happens to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Literal, TypeVar, overload

from pydantic import BaseModel, ValidationError

from runtime_server.client.calls import Calls, runtime_path
from runtime_server.client.closing import Closing
from runtime_server.client.ndjson import NDJSON, Resuming, is_control
from runtime_server.client.replies import parse
from runtime_server.client.transport import Call, Transport
from runtime_server.errors import IncompatibleServer
from runtime_server.models import RuntimeEvent, RuntimeHistory, RuntimeStatus, Stats

M = TypeVar("M", bound=BaseModel)


class ModelStream(Closing, Iterator[M], Generic[M]):
    """Answers, one after the other. A lost connection is made anew.

    A context manager, and to be closed where it isn't read to its end. For one thread. Nothing is sent before the
    first is read.

    Args:
        transport: gets them.
        model: each of them.
    """

    def __init__(self, transport: Transport, model: type[M]) -> None:
        self._model = model
        self._source = Resuming(transport, self._call)
        self._found = self._iterate()

    @property
    def ended(self) -> str | None:
        """What the stream's end said, once that was reached."""
        return self._source.ended

    def _call(self) -> Call:
        """What to send for a stream that goes on where this one is."""
        raise NotImplementedError

    def _pass(self, found: dict[str, Any]) -> None:
        """Take note of a line of the stream's own."""

    def _iterate(self) -> Iterator[M]:
        for found in self._source:
            if is_control(found):
                self._pass(found)
                continue
            try:
                yield self._model.model_validate(found)
            except ValidationError:
                name = self._model.__name__
                raise IncompatibleServer(f"a line of the stream isn't of this API's {name}") from None

    def __next__(self) -> M:
        return next(self._found)

    def close(self) -> None:
        """End it."""
        self._source.close()


class StatsStream(ModelStream[Stats]):
    """What a runtime uses, again and again, until it ends; ``ended`` is its status then."""

    def __init__(self, transport: Transport, path: str, interval: float) -> None:
        self._path = path
        self._interval = interval
        super().__init__(transport, Stats)

    def _call(self) -> Call:
        query = (("stream", "true"), ("interval", f"{self._interval:g}"))
        return Call("GET", self._path, query=query, media_type=NDJSON)


class EventStream(ModelStream[RuntimeEvent]):
    """Events in the order of their ids. A lost connection is made anew, and no event is lost or repeated by it.

    Attributes:
        last_id: all up to this id has been read; None before the server has said where the stream begins. Another
            stream goes on there with it as ``since_id``.
    """

    def __init__(self, transport: Transport, query: tuple[tuple[str, str], ...], since_id: int | None) -> None:
        self._query = query
        self.last_id = since_id
        super().__init__(transport, RuntimeEvent)

    def _call(self) -> Call:
        after = () if self.last_id is None else (("after", str(self.last_id)),)
        return Call("GET", "/events", query=(*self._query, *after), media_type=NDJSON)

    def _pass(self, found: dict[str, Any]) -> None:
        position = found.get("position")
        if isinstance(position, int):
            self.last_id = position

    def _iterate(self) -> Iterator[RuntimeEvent]:
        for event in super()._iterate():
            if self.last_id is not None and event.id <= self.last_id:
                continue
            self.last_id = event.id
            yield event


class WatchingCalls(Calls):
    """Methods of ``RuntimeServerClient``."""

    @overload
    def stats(self, runtime_id: str, *, stream: Literal[False] = False) -> Stats: ...

    @overload
    def stats(self, runtime_id: str, *, stream: Literal[True], interval: float = 1.0) -> StatsStream: ...

    def stats(self, runtime_id: str, *, stream: bool = False, interval: float = 1.0) -> Stats | StatsStream:
        """What a runtime uses (``GET /runtimes/{id}/stats``).

        Args:
            runtime_id: id or alias.
            stream: return an iterator that goes on until the runtime ends; lost connections don't end it.
            interval: with ``stream``: seconds between two, 0.5 to 3600.

        Raises:
            InvalidState: it doesn't run; with ``stream`` while reading.
        """
        path = runtime_path(runtime_id) + "/stats"
        if stream:
            return StatsStream(self._transport, path, interval)
        return parse(Stats, self._transport.send(Call("GET", path)))

    def history(self, runtime_id: str) -> RuntimeHistory:
        """What states a runtime has been in, the oldest first (``GET /runtimes/{id}/history``)."""
        return parse(RuntimeHistory, self._transport.send(Call("GET", runtime_path(runtime_id) + "/history")))

    def events(
        self,
        *,
        since_id: int | None = None,
        runtime: str | None = None,
        owner: str | None = None,
        status: RuntimeStatus | str | Iterable[RuntimeStatus | str] = (),
        follow: bool = True,
    ) -> EventStream:
        """What happens to this key's owner's runtimes, an admin's are everybody's (``GET /events``).

        Args:
            since_id: only what came after this event; 0: all that is remembered; none: only what comes from now on,
                which is when the first is read.
            runtime: only of the runtime of that id or alias.
            owner: only of this owner's; for admins.
            status: only changes to this status, or to one of several.
            follow: go on for ever; false: end after what there is.
        """
        statuses = [status] if isinstance(status, str) else list(status)
        query = [] if runtime is None else [("runtime", runtime)]
        query += [] if owner is None else [("owner", owner)]
        query += [("status", str(each)) for each in statuses]
        query += [] if follow else [("follow", "false")]
        return EventStream(self._transport, tuple(query), since_id)
