"""What the client does inside of runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import pydantic_core

from runtime_server.client.calls import Calls, new_key, post, runtime_path, seconds
from runtime_server.client.execs import ExecStream
from runtime_server.client.logs import LogStream
from runtime_server.client.ndjson import NDJSON
from runtime_server.client.replies import parse
from runtime_server.client.transport import Call
from runtime_server.models import ExecRequest, ExecResult, TerminalTicket

if TYPE_CHECKING:
    from runtime_server.client.terminal import Terminal

EXEC_TIMEOUT = 60.0
"""The server's default."""


class InsideCalls(Calls):
    """Methods of ``RuntimeServerClient``."""

    def logs(
        self,
        runtime_id: str,
        *,
        follow: bool = False,
        tail: int | Literal["all"] = "all",
        since: str | float | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LogStream:
        """A runtime's output, line by line (``GET /runtimes/{id}/logs``).

        Args:
            runtime_id: id or alias.
            follow: go on until the runtime ends; pauses and restarts of it don't end it, nor do lost connections.
            tail: only this many of the last lines, counted over both streams.
            since: only from there on: RFC 3339, or Unix seconds.
            stdout: with standard output.
            stderr: with standard error.

        Returns:
            An iterator of lines, each with its line feed; ``"".join(each.line for each in client.logs(…))`` is all.

        Raises:
            ValueError: ``since`` isn't a time.
        """
        query = [("follow", "true")] if follow else []
        query += [(name, "false") for name, wanted in (("stdout", stdout), ("stderr", stderr)) if not wanted]
        moment = f"{since:.9f}" if isinstance(since, int | float) else since
        return LogStream(self._transport, runtime_path(runtime_id) + "/logs", tuple(query), str(tail), moment)

    def exec_in_runtime(
        self,
        runtime_id: str,
        command: str | Sequence[str] | ExecRequest | Mapping[str, Any],
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> ExecResult:
        """Run a command in a running runtime, to its end (``POST /runtimes/{id}/exec``).

        Args:
            runtime_id: id or alias.
            command: words, a string for ``/bin/sh -c``, or an ``ExecRequest`` or its fields as a dict.
            idempotency_key: as for ``start_runtime``: the command is started once, however often the call is sent.
            fields: fields of ``ExecRequest``: ``environment``, ``working_dir``, ``user``, ``stdin``, ``timeout``
                (seconds, default 60), ``tty``, ``encoding``, ``output_limit``.

        Returns:
            Exit code and output. A command that fails or times out is an answer, too.

        Raises:
            CommandNotFound, CommandNotExecutable: it isn't in the runtime. For a string it's the shell that isn't.
            InvalidState: the runtime is paused, or doesn't run.
            ExecOutcomeUnknown: the server lost the command's output; it may have run.
        """
        body = _exec_body(command, fields)
        patience = seconds(body.get("timeout", EXEC_TIMEOUT))
        call = post(runtime_path(runtime_id) + "/exec", body, idempotency_key, patience=patience)
        return parse(ExecResult, self._transport.send(call))

    @overload
    def exec(
        self, runtime_id: str, command: str | Sequence[str], /, *, stream: Literal[False] = False, **fields: Any
    ) -> ExecResult: ...

    @overload
    def exec(
        self, runtime_id: str, command: str | Sequence[str], /, *, stream: Literal[True], **fields: Any
    ) -> ExecStream: ...

    def exec(
        self, runtime_id: str, command: str | Sequence[str], /, *, stream: bool = False, **fields: Any
    ) -> ExecResult | ExecStream:
        """Run a command in a running runtime, its output at the end or, with ``stream``, as it comes.

        Args:
            runtime_id: id or alias.
            command: words, or a string for ``/bin/sh -c``.
            stream: return an iterator of ``ExecChunk``, which has the ``result`` once it is at its end.
            fields: as for ``exec_in_runtime``.

        Raises:
            As ``exec_in_runtime``; with ``stream`` some of it while reading.
        """
        if not stream:
            return self.exec_in_runtime(runtime_id, command, **fields)
        key = fields.pop("idempotency_key", None) or new_key()
        body = pydantic_core.to_json({**_exec_body(command, fields), "stream": True})
        path = runtime_path(runtime_id) + "/exec"
        return ExecStream(self._transport.open(Call("POST", path, body=body, key=key, media_type=NDJSON)))

    def terminal(
        self,
        runtime_id: str,
        command: str | None = None,
        /,
        *,
        user: str | None = None,
        working_dir: str | None = None,
        rows: int | None = None,
        columns: int | None = None,
    ) -> Terminal:
        """Open a terminal in a running runtime (``GET /runtimes/{id}/terminal``, a WebSocket).

        Args:
            runtime_id: id or alias.
            command: for ``/bin/sh -c``; none: an interactive shell.
            user: other than the runtime's.
            working_dir: other than the runtime's.
            rows: the terminal's height, with ``columns``.
            columns: its width.

        Raises:
            InvalidState: the runtime is paused, or doesn't run.
            TooManyStreams: no thread is free for it; nothing is tried again here.
        """
        from runtime_server.client.terminal import Terminal

        given = {"command": command, "user": user, "working_dir": working_dir, "rows": rows, "columns": columns}
        query = tuple((name, str(value)) for name, value in given.items() if value is not None)
        return Terminal(self._transport, runtime_path(runtime_id) + "/terminal", query)

    def make_terminal_ticket(self, runtime_id: str) -> TerminalTicket:
        """A ticket with which a browser opens one terminal (``POST /runtimes/{id}/terminal/ticket``)."""
        call = Call("POST", runtime_path(runtime_id) + "/terminal/ticket")
        return parse(TerminalTicket, self._transport.send(call))


def _exec_body(command: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(command, ExecRequest):
        return {**command.model_dump(mode="json", exclude_unset=True), **fields}
    if isinstance(command, Mapping):
        return {**command, **fields}
    return {"command": command if isinstance(command, str) else list(command), **fields}  # type: ignore[call-overload]
