"""Two apps in one server, told apart by the socket that a request came in by: no header of a caller can do that."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class BySocket:
    """The WSGI app of a server that listens on several sockets.

    Args:
        app: answers on all others.
        path: of the Unix socket.
        own: answers there.
    """

    def __init__(self, app: WSGIApplication, path: Path, own: WSGIApplication) -> None:
        self._app = app
        self._path = str(path)
        self._own = own

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as WSGI."""
        app = self._own if self._is_own(environ.get("gunicorn.socket")) else self._app
        return app(environ, start_response)

    def _is_own(self, socket: Any) -> bool:
        # gunicorn's own key, of all servers'; under another the gateway isn't reachable at all.
        return socket is not None and socket.getsockname() == self._path
