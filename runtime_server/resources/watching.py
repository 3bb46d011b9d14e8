"""What runtimes use, have been through, and what happens to them."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

import falcon
from pydantic import Field, field_validator

from runtime_server import errors, models
from runtime_server.errors import BadRequest
from runtime_server.models import RuntimeEvent, RuntimeStatus, Word
from runtime_server.resources import described
from runtime_server.resources.naming import named
from runtime_server.runtimes.news import Position, Wanted, entry
from runtime_server.store.events import Event
from runtime_server.web import sse
from runtime_server.web.answers import set_answer
from runtime_server.web.body import read_query
from runtime_server.web.context import ApiRequest
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.queries import NoQuery, Query
from runtime_server.web.streaming import NDJSON, Ndjson, Style, stream

LAST_EVENT_ID = "Last-Event-ID"


class StatsQuery(Query):
    """The query of ``GET /runtimes/{runtime_id}/stats``."""

    stream: bool = Field(False, description="One after the other until the runtime ends, as `application/x-ndjson`.")
    interval: Annotated[float, Field(ge=0.5, le=3600, allow_inf_nan=False)] = Field(
        1.0, description="With `stream`: seconds between two of them."
    )


class EventsQuery(Query):
    """The query of ``GET /events``."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"status"})

    after: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None, description="Only what came after this id; none: `Last-Event-ID`, else only what comes from now on."
    )
    follow: bool = Field(True, description="Go on for ever; false: end after what there is.")
    runtime: Word | None = Field(None, description="Only of the runtime of that id or alias.")
    owner: Word | None = Field(None, description="Only of this owner's, where the caller is an admin.")
    status: list[RuntimeStatus] = Field(
        default_factory=list, description="Only changes to these states; repeated, or with commas."
    )
    format: Literal["ndjson", "sse"] | None = Field(
        None, description="The answer's form; none: `Accept` decides, `text/event-stream` or NDJSON."
    )

    @field_validator("status", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return [part.strip() for each in value for part in each.split(",") if part.strip()]
        return value


class StatsOf(Resource):
    """``/runtimes/{runtime_id}/stats``."""

    operations = {
        "GET": Operation(
            id="readStats",
            summary="Tell what a runtime uses, now or again and again.",
            query=StatsQuery,
            answers={
                200: Answered(
                    "What it uses; with `stream` one `Stats` a line.",
                    models.Stats,
                    described.STATS,
                    lines={NDJSON: models.Stats},
                )
            },
            raises=(*described.ONE, *described.ENGINE, errors.InvalidState, errors.TooManyStreams),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Tell what a runtime uses."""
        query, caller, name = read_query(req, StatsQuery), req.context.caller, named(req, runtime_id)
        usage, streams = self._inside.usage, self._services.streams
        if query.stream:
            style = Ndjson[models.Stats](lambda item: item.model_dump_json().encode())
            stream(req, resp, streams, lambda: usage.open(caller, name, query.interval), style)
        else:
            set_answer(req, resp, usage.look(caller, name))


class HistoryOf(Resource):
    """``/runtimes/{runtime_id}/history``."""

    operations = {
        "GET": Operation(
            id="readHistory",
            summary="Tell what states a runtime has been in.",
            query=NoQuery,
            answers={200: Answered("The history.", models.RuntimeHistory, described.HISTORY)},
            raises=described.ONE,
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Tell what states a runtime has been in."""
        read_query(req, NoQuery)
        set_answer(req, resp, self._inside.news.history(req.context.caller, named(req, runtime_id)))


class EventsOf(Resource):
    """``/events``."""

    operations = {
        "GET": Operation(
            id="followEvents",
            summary="Follow what happens to the caller's runtimes; an admin's are everybody's.",
            query=EventsQuery,
            answers={
                200: Answered(
                    "A `RuntimeEvent` a line, after a `position`; or the same as server-sent events.",
                    media_type=NDJSON,
                    also={sse.MEDIA_TYPE: None},
                    lines={NDJSON: models.RuntimeEvent},
                )
            },
            raises=(*described.ONE, errors.TooManyStreams),
        )
    }

    def on_get(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Follow what happens."""
        query, caller, news = read_query(req, EventsQuery), req.context.caller, self._inside.news
        wanted = Wanted(
            after=_after(req) if query.after is None else query.after,
            runtime=query.runtime,
            owner=query.owner,
            statuses=query.status,
            follow=query.follow,
        )
        stream(req, resp, self._services.streams, lambda: news.open(caller, wanted), _style(req, query))


def _after(req: ApiRequest) -> int | None:
    given = req.get_header(LAST_EVENT_ID)
    if not given:
        return None
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        raise BadRequest(f"{LAST_EVENT_ID} must be the id of an event.")
    return int(given)


def _style(req: ApiRequest, query: EventsQuery) -> Style[Event | Position]:
    form = query.format
    if form is None:
        form = "sse" if req.client_prefers((NDJSON, sse.MEDIA_TYPE)) == sse.MEDIA_TYPE else "ndjson"
    return sse.ServerSentEvents(_event, "status") if form == "sse" else Ndjson(_line)


def _line(item: Event | Position) -> bytes:
    return json.dumps({"position": item.id}).encode() if isinstance(item, Position) else _json(item)


def _event(item: Event | Position) -> tuple[int, bytes | None]:
    return item.id, None if isinstance(item, Position) else _json(item)


def _json(event: Event) -> bytes:
    found = RuntimeEvent(
        **entry(event).model_dump(),
        runtime_id=event.runtime_id,
        name=event.name,
        session_id=event.session_id,
        owner=event.owner,
        image=event.image,
    )
    return found.model_dump_json().encode()
