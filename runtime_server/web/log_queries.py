"""The query of ``GET /runtimes/{runtime_id}/logs``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from runtime_server.engine.inside import LogQuery
from runtime_server.models.logs import nanoseconds
from runtime_server.web.queries import Query


def _moment(value: str) -> str:
    nanoseconds(value)
    return value


class LogsQuery(Query):
    """Which output, and in which form."""

    stdout: bool = Field(True, description="With standard output.")
    stderr: bool = Field(True, description="With standard error.")
    tail: Annotated[int, Field(ge=0, le=1_000_000_000)] | Literal["all"] = Field(
        "all", description="Only this many of the last lines, counted over both streams."
    )
    since: Annotated[str, StringConstraints(max_length=64), AfterValidator(_moment)] | None = Field(
        None, description="Only from this moment on: RFC 3339, or Unix seconds with up to nine decimals."
    )
    timestamps: bool = Field(False, description="Plain text with each line's time before it; NDJSON always has it.")
    follow: bool = Field(False, description="Go on until the runtime ends.")
    format: Literal["text", "ndjson"] | None = Field(
        None, description="The answer's form; none: `Accept` decides, `text/plain` or `application/x-ndjson`."
    )

    @field_validator("tail", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 12 else value

    @property
    def wanted(self) -> LogQuery:
        """As the engine is asked."""
        return LogQuery(
            stdout=self.stdout,
            stderr=self.stderr,
            follow=self.follow,
            tail=None if self.tail == "all" else self.tail,
            since=None if self.since is None else nanoseconds(self.since),
        )
