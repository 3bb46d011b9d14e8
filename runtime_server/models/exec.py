"""Commands in a runtime on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, field_validator

from runtime_server.models.base import AbsolutePath, Answer, EnvironmentName, PlainText, Request, Word


class ExecRequest(Request):
    """The body of ``POST /runtimes/{id}/exec``."""

    command: PlainText | list[PlainText] = Field(
        description="Words of a command, or a string for `/bin/sh -c`.", examples=[["ls", "-l"], "ls | wc -l"]
    )
    environment: dict[EnvironmentName, PlainText] = Field(
        default_factory=dict, repr=False, description="Variables beyond the runtime's."
    )
    working_dir: AbsolutePath | None = Field(None, description="Working directory; none: the runtime's.")
    user: Word | None = Field(None, description="User, `name`, `uid` or `uid:gid`; none: the runtime's.")
    stdin: str | None = Field(None, repr=False, description="Its whole input; none: empty.")
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        60.0, description="Seconds after which it is killed, with all that it has started; the server has a limit."
    )
    tty: bool = Field(False, description="Give it a terminal: both its outputs are `stdout` then.")
    encoding: Literal["utf-8", "base64"] = Field(
        "utf-8",
        description="Of `stdin`, `stdout` and `stderr`. As `utf-8`, bytes that aren't are replaced in the outputs.",
    )
    output_limit: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Bytes of each output that are kept, the rest is dropped; none: the server's limit."
    )
    stream: bool = Field(False, description="Answer bit by bit: an `ExecChunk` a line, then an `ExecEnd`.")

    @field_validator("command")
    @classmethod
    def _not_empty(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and not value[0]):
            raise ValueError("must name a command")
        return value

    @property
    def words(self) -> tuple[str, ...]:
        """The command's words."""
        return ("/bin/sh", "-c", self.command) if isinstance(self.command, str) else tuple(self.command)


class ExecOutcome(Answer):
    """How a command ended."""

    exec_id: str = Field(description="The engine's id of the command.")
    exit_code: int | None = Field(None, description="Exit status; 137 where it was killed; null: not known.")
    timed_out: bool = Field(False, description="Whether it was killed for its timeout.")
    killed: bool | None = Field(
        None, description="With `timed_out`: false where it couldn't be reached, and may go on in the container."
    )
    duration: float = Field(description="Seconds.")
    finished_at: AwareDatetime = Field(description="When.")


class ExecResult(ExecOutcome):
    """The answer of ``POST /runtimes/{id}/exec``."""

    stdout: str = Field(description="Its standard output.")
    stderr: str = Field(description="Its standard error.")
    truncated: bool = Field(False, description="Whether some of its output was dropped.")
    encoding: Literal["utf-8", "base64"] = Field("utf-8", description="Of the outputs.")
    warnings: list[str] = Field(default_factory=list, description="Unknown fields that were ignored.")


class ExecChunk(Answer):
    """A line of a streamed answer: a piece of output."""

    stream: Literal["stdout", "stderr"] = Field(description="Where it was written to.")
    data: str = Field(description="The text, or base64 where that was asked for.")


class ExecEnd(ExecOutcome):
    """The last line of a streamed answer but for the stream's own."""


class TerminalTicket(Answer):
    """The answer of ``POST /runtimes/{id}/terminal/ticket``."""

    ticket: str = Field(repr=False, description="Stands for the key in one handshake, as the query's `ticket`.")
    expires_at: AwareDatetime = Field(description="When it is worth nothing any more.")
