"""What the client does inside of runtimes."""

from __future__ import annotations

from typing import Literal

from runtime_server.client.calls import Calls, runtime_path
from runtime_server.client.logs import LogStream


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
