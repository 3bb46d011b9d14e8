"""What no caller waits for: work that is done once the answer has been sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import falcon

from runtime_server.web.context import ApiRequest

_WORK = "runtime_server.afterwards"
TAKEN_OVER = "runtime_server.taken_over"
"""The environment's name for what goes on with the connection instead of a body."""


def afterwards(req: ApiRequest, work: Callable[[], object]) -> None:
    """Do this once the answer's last byte has been sent, or its reader has left."""
    req.env.setdefault(_WORK, []).append(work)


class App(falcon.App[ApiRequest, falcon.Response]):
    """A Falcon app that does such work when its answers are closed (PEP 3333: after the last byte)."""

    def __call__(self, env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI."""
        body = super().__call__(env, start_response)
        # Falcon drops the body of a 101, as it must.
        body = env.pop(TAKEN_OVER, body)
        return _Closing(body, env[_WORK]) if _WORK in env else body


class _Closing:
    """A body that does the work when the server closes it."""

    def __init__(self, body: Iterable[bytes], work: list[Callable[[], object]]) -> None:
        self._body = body
        self._work = work

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Close the body, and do the work, whatever fails of it."""
        with ExitStack() as stack:
            for each in reversed(self._work):
                stack.callback(each)
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
