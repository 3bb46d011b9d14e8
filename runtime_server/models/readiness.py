"""What a start can declare of when its runtime is ready."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from runtime_server.models.base import PlainText, Port, Request

UrlPath = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x20\x7f#]*$", max_length=1024)]


class HttpReady(Request):
    """Ready once a path answers with a status of 200 to 399."""

    type: Literal["http"]
    path: UrlPath | list[UrlPath] = Field(
        default_factory=lambda: ["/health", "/alive"],
        description="Path, or several of which any will do.",
        min_length=1,
        max_length=8,
    )
    port: Port | None = Field(None, description="Port inside the container; none: the main service's.")


class CommandReady(Request):
    """Ready once a command in the container ends with status 0."""

    type: Literal["command"]
    command: list[PlainText] = Field(min_length=1, max_length=128, description="The command and its arguments.")


class LogReady(Request):
    """Ready once the output has a line that holds a text."""

    type: Literal["log"]
    text: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="What the line holds, to the letter."
    )


class RunningReady(Request):
    """Ready as soon as the container runs."""

    type: Literal["running"]


ReadyCheck = Annotated[HttpReady | CommandReady | LogReady | RunningReady, Field(discriminator="type")]
"""When a runtime is ready; until then it is ``starting``."""
