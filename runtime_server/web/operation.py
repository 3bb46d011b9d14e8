"""The route table's entries, and what every resource shares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from runtime_server.errors import (
    BadRequest,
    BodyTooLarge,
    IdempotencyInFlight,
    IdempotencyKeyReused,
    InternalError,
    MalformedJson,
    PolicyRefused,
    Problem,
    RateLimited,
    ServerUnavailable,
    StorageUnavailable,
    Unauthorized,
    UnsupportedMediaType,
    ValidationFailed,
)
from runtime_server.settings import Settings

if TYPE_CHECKING:
    from runtime_server.builds.builds import Builds
    from runtime_server.runtimes.calls import Calls
    from runtime_server.runtimes.inside import Inside
    from runtime_server.runtimes.manager import RuntimeManager
    from runtime_server.runtimes.scrape import Scrape
    from runtime_server.runtimes.workspaces import Workspaces
    from runtime_server.web.streaming import Streams


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer that an operation can give.

    Args:
        description: what it means.
        model: its JSON; None where it isn't JSON.
        example: a value of the model.
        media_type: where ``model`` is None; empty: it has no body.
        also: other media types in which it comes, with the model of each, None where it isn't JSON.
        lines: of a stream: the media types in which it comes instead if it is asked for, and what each line is.
    """

    description: str
    model: type[BaseModel] | None = None
    example: Mapping[str, Any] | Sequence[Any] | None = None
    media_type: str = "application/json"
    lines: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    also: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a route, as the API's documentation tells it.

    Args:
        id: its name, unique in the API.
        summary: one sentence.
        answers: by status.
        request: model of the body; None where it has none.
        form: whether the body is a multipart form, not JSON.
        body: media types of a body that is bytes.
        query: model of the query parameters.
        raises: the problems of its own; those that every operation of its kind has are added.
        public: answered without an API key.
        mutating: takes an ``Idempotency-Key``.
        ticketed: may come with a ticket instead of a key, which its responder redeems.
        example: a body.
    """

    id: str
    summary: str
    answers: Mapping[int, Answered]
    request: type[BaseModel] | None = None
    form: bool = False
    body: tuple[str, ...] = ()
    query: type[BaseModel] | None = None
    raises: tuple[type[Problem], ...] = ()
    public: bool = False
    mutating: bool = False
    ticketed: bool = False
    example: Mapping[str, Any] | None = None

    @property
    def media_type(self) -> str:
        """Of the body."""
        return "multipart/form-data" if self.form else "application/json"

    @property
    def problems(self) -> tuple[type[Problem], ...]:
        """Everything that it can raise, in the order of status and code."""
        # Policy refuses runtimes, whatever they ask; nginx says that one asks too much, and that nobody answers.
        found: set[type[Problem]] = {InternalError, PolicyRefused, RateLimited, ServerUnavailable, *self.raises}
        if not self.public:
            found |= {Unauthorized, StorageUnavailable}
        if self.query is not None:
            found |= {BadRequest, ValidationFailed}
        if self.request is not None:
            found |= {BadRequest, BodyTooLarge, UnsupportedMediaType, ValidationFailed}
            found |= set() if self.form else {MalformedJson}
        if self.body:
            found |= {BadRequest, UnsupportedMediaType}
        if self.mutating:
            found |= {BadRequest, IdempotencyInFlight, IdempotencyKeyReused}
        return tuple(sorted(found, key=lambda each: (each.status, each.code)))


@dataclass(frozen=True, slots=True)
class Route:
    """A path and its resource, which says what each method does."""

    path: str
    resource: type[Resource]

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it: without what Falcon is told of its parameters."""
        return re.sub(r"{(\w+):\w+}", r"{\1}", self.path)

    @property
    def operations(self) -> Mapping[str, Operation]:
        """By method."""
        return self.resource.operations

    @property
    def public(self) -> bool:
        """Whether it is answered without an API key."""
        return all(each.public for each in self.operations.values())

    @property
    def ticketed(self) -> bool:
        """Whether a ticket does instead of a key."""
        return any(each.ticketed for each in self.operations.values())


@dataclass(frozen=True, slots=True)
class Services:
    """What resources are made of."""

    settings: Settings
    manager: RuntimeManager
    calls: Calls
    workspaces: Workspaces
    builds: Builds
    inside: Inside
    streams: Streams
    metrics: Scrape
    routes: tuple[Route, ...] = field(default=(), repr=False)


class Resource:
    """A Falcon resource. GET answers HEAD too (RFC 9110, section 9.1).

    Attributes:
        operations: what each method does, for the API's documentation and for what all operations share.
    """

    operations: ClassVar[Mapping[str, Operation]]

    def __init__(self, services: Services) -> None:
        self._services = services
        self._manager = services.manager
        self._calls = services.calls
        self._builds = services.builds
        self._inside = services.inside

    def __init_subclass__(cls) -> None:
        on_get = vars(cls).get("on_get")
        if on_get is not None:
            type.__setattr__(cls, "on_head", on_get)
