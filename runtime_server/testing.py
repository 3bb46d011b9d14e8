"""For tests of your own: a WSGI app as a requests adapter, and the whole service on the in-memory engine."""

from __future__ import annotations

import contextlib
import io
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse

from runtime_server.client import RuntimeServerClient

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication
    from pydantic_settings import PydanticBaseSettingsSource

    from runtime_server.engine.memory import MemoryEngine
    from runtime_server.settings import Settings

TEST_URL = "http://testserver"


class WsgiAdapter(BaseAdapter):
    """Runs a WSGI app in the calling thread (PEP 3333). Bodies are streamed; timeouts and proxies don't apply.

    What the app raises comes out as it is. Usage::

        session = requests.Session()
        session.mount("http://testserver", WsgiAdapter(app))
        client = RuntimeServerClient("http://testserver", session=session)
    """

    def __init__(self, app: WSGIApplication) -> None:
        super().__init__()
        self.app = app
        self._responses = HTTPAdapter()

    def send(  # noqa: PLR0917 - the base class has it so
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002
        timeout: Any = None,  # noqa: ARG002
        verify: Any = True,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> requests.Response:
        """The app's response; its body is read as the caller reads it."""
        started = _Started()
        body = _Body(self.app(_environ(request), started), started)
        try:
            body.begin()
        except BaseException:
            body.close()
            raise
        status, _, reason = started.status.partition(" ")
        raw = HTTPResponse(
            body=io.BytesIO() if request.method == "HEAD" else io.BufferedReader(body),
            headers=HTTPHeaderDict(started.headers),
            status=int(status),
            reason=reason,
            version=11,
            request_method=request.method,
            preload_content=False,
            decode_content=False,
        )
        if request.method == "HEAD":
            body.close()
        return self._responses.build_response(request, raw)

    def close(self) -> None:
        """Nothing is held open."""


class _Started:
    """``start_response``, and the chunks that the app wrote through what it returns."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.written: list[bytes] = []
        self.sent = False

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        if exc_info and self.sent and exc_info[1] is not None:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.status and not exc_info:
            raise AssertionError("start_response was called twice without exc_info")
        self.status, self.headers = status, list(headers)
        return self.written.append


class _Body(io.RawIOBase):
    """The app's iterable as a stream; closed as PEP 3333 asks, once, at its end or when the reader leaves."""

    def __init__(self, chunks: Iterable[bytes], started: _Started) -> None:
        super().__init__()
        self._chunks = chunks
        self._iterator: Iterator[bytes] | None = None
        self._started = started
        self._rest = b""
        self._ended = False

    def begin(self) -> None:
        """Run the app until it has called ``start_response`` and sent its first bytes."""
        self._rest = self._next_chunk()
        if not self._started.status:
            raise AssertionError("the app didn't call start_response")
        self._started.sent = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = self._next_chunk()
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._end()

    def _next_chunk(self) -> bytes:
        """The next bytes, none at the end; empty chunks are passed over."""
        if self._iterator is None:
            self._iterator = iter(self._chunks)
        written = self._started.written
        while not self._ended:
            try:
                written.append(next(self._iterator))
            except StopIteration:
                self._end()
            chunk = b"".join(written)
            written.clear()
            if chunk:
                return chunk
        return b""

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()


def _environ(request: requests.PreparedRequest) -> dict[str, Any]:
    url = urlsplit(str(request.url))
    body = _body_bytes(request.body)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(url.path or "/").decode("latin-1"),
        "QUERY_STRING": url.query,
        "RAW_URI": (url.path or "/") + ("?" + url.query if url.query else ""),
        "SERVER_NAME": url.hostname,
        "SERVER_PORT": str(url.port or (443 if url.scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": url.netloc,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": url.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    sent: Mapping[str, str | bytes] = {**request.headers}
    for name, value in sent.items():
        text = str(value, "latin-1") if isinstance(value, bytes) else value
        variable = name.upper().replace("-", "_")
        environ[variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + variable] = text
    if body or request.body is not None:
        # A body of unknown length comes here whole, so its length is known after all.
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    return environ


def _body_bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if hasattr(body, "read"):
        content = body.read()
        return content.encode() if isinstance(content, str) else bytes(content)
    return bytes(body) if isinstance(body, bytes | bytearray) else b"".join(body)


class InMemoryServer:
    """A whole service in this process.

    Attributes:
        app: the WSGI app.
        engine: the in-memory engine, to look at and to break.
        settings: the service's settings.
        api_key: the first key of the settings' ``api_keys``, by default one of an owner named ``default``.
    """

    def __init__(self, app: WSGIApplication, engine: MemoryEngine, settings: Settings, api_key: str) -> None:
        self.app = app
        self.engine = engine
        self.settings = settings
        self.api_key = api_key
        self._open = contextlib.ExitStack()

    def client(self, **arguments: Any) -> RuntimeServerClient:
        """A client onto the app, closed with the server; arguments as for ``RuntimeServerClient``."""
        session = arguments.pop("session", None) or self._open.enter_context(requests.Session())
        session.mount(TEST_URL, WsgiAdapter(self.app))
        arguments = {"base_url": TEST_URL, "api_key": self.api_key, "session": session} | arguments
        return self._open.enter_context(RuntimeServerClient(**arguments))

    def close(self) -> None:
        """Close the clients."""
        self._open.close()


def _log_through_logging() -> None:
    """Give the service's records to ``logging``, which tests can catch, unless the program has its own way."""
    import structlog

    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.format_exc_info,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


@contextlib.contextmanager
def in_memory_server(**settings: Any) -> Iterator[InMemoryServer]:
    """The whole service on the in-memory engine, in a temporary state directory.

    Args:
        settings: fields of ``Settings``; the environment is not read.

    Usage::

        with in_memory_server() as server:
            client = server.client()
            runtime = client.start_runtime(image="busybox")
    """
    from runtime_server.engine.memory import MemoryEngine
    from runtime_server.engine.memory_build import MemoryBuilder
    from runtime_server.service import build
    from runtime_server.settings import Settings
    from runtime_server.state import prepare

    class IsolatedSettings(Settings):
        @classmethod
        def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
            return (sources["init_settings"],)

    _log_through_logging()
    keys = str(settings.pop("api_keys", "") or f"default:{secrets.token_urlsafe(24)}")
    with tempfile.TemporaryDirectory(prefix="runtime-server-", ignore_cleanup_errors=True) as directory:
        defaults: dict[str, Any] = {"state_dir": Path(directory), "api_keys": keys, "log_level": "error"}
        chosen = IsolatedSettings(**(defaults | settings))
        engine = MemoryEngine(prepare(chosen).instance)
        service = build(chosen, engine=engine, builder=MemoryBuilder(engine))
        server = InMemoryServer(service.app, engine, chosen, keys.split(",", maxsplit=1)[0].partition(":")[2])
        try:
            service.start_background()
            yield server
        finally:
            server.close()
            service.close()
