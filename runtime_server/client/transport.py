"""One HTTP call with its attempts: requests in, an answer or an error of the catalogue out."""

from __future__ import annotations

import email.utils
import http.client
import json
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from runtime_server._version import __version__
from runtime_server.client.adapter import OneServerAdapter, Received
from runtime_server.client.endpoint import Endpoint
from runtime_server.client.retry import RetryBudget, RetryPolicy, call_with_retries
from runtime_server.errors import (
    IncompatibleServer,
    Problem,
    RuntimeClientError,
    ServerTimeout,
    ServerUnreachable,
    TransportError,
)
from runtime_server.exchange import BODILESS

PIECE = 65536
"""Bytes of a body that are read at once."""
STREAM_SILENCE = 60.0
"""Seconds that a stream may say nothing: several of the server's heartbeats."""

T = TypeVar("T")
Timeout = float | tuple[float | None, float | None] | None


class Readable(Protocol):
    """What can be read from."""

    def read(self, size: int = ..., /) -> bytes:
        """At most so many bytes; none at the end."""


class OpenBody(Readable, Protocol):
    """A body that is being read."""

    def close(self) -> None:
        """Read no more."""


class Source(Protocol):
    """A body that is read while it is sent.

    Attributes:
        length: bytes; None where nobody knows ahead.
        again: whether it can be opened more than once.
    """

    length: int | None
    again: bool

    def open(self) -> OpenBody:
        """Its beginning; closed by who opened it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to send, the same on every attempt.

    Attributes:
        path: below the base URL, quoted.
        key: the ``Idempotency-Key``; a mutating call without one is never repeated.
        patience: seconds that the server may rightly take; added to the read timeout and the deadline.
        deadline: seconds for all attempts instead of the policy's.
        accept: statuses beyond 2xx that are answers, not errors.
        content_type: of the body.
        source: a body that isn't in memory, in place of ``body``.
        media_type: of the answer that is wanted.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    key: str | None = None
    patience: float = 0.0
    deadline: float | None = None
    accept: frozenset[int] = frozenset()
    content_type: str = "application/json"
    media_type: str = "application/json"
    source: Source | None = None

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        if self.source is not None and not self.source.again:
            return False
        return self.key is not None or self.method in ("GET", "HEAD", "PUT")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    attempts: int


class OpenReply:
    """An answer whose body is read as it comes. For one thread; to be closed."""

    def __init__(self, transport: Transport, response: requests.Response, request_id: str) -> None:
        self._transport = transport
        self._response = response
        self.request_id = request_id
        self.headers: Mapping[str, str] = response.headers

    def pieces(self) -> Iterator[bytes]:
        """The body, each piece as it comes.

        Raises:
            ServerTimeout: nothing came for too long.
            ServerUnreachable: it broke off.
        """
        while True:
            with self._transport.failures(self.request_id):
                piece = self._response.raw.read1(PIECE)
            if not piece:
                return
            yield piece

    def lines(self) -> Iterator[bytes]:
        """The body's lines, without their ends; what has none at the end of the body isn't one."""
        rest = bytearray()
        for piece in self.pieces():
            *lines, left = piece.split(b"\n")
            if lines:
                yield bytes(rest + lines[0])
                rest.clear()
                yield from lines[1:]
            rest += left

    def close(self) -> None:
        """Close the connection, where the body hasn't been read to its end."""
        self._response.close()


class Transport:
    """Sends calls over one session; safe for threads."""

    def __init__(
        self, endpoint: Endpoint, *, timeout: Timeout, retry: RetryPolicy, session: requests.Session | None
    ) -> None:
        self.endpoint = endpoint
        self.policy = retry
        self.budget = RetryBudget(retry.budget, retry.budget_refund)
        self.connect_timeout, self.read_timeout = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        self._adapter = OneServerAdapter() if session is None else None
        self.session = session or _own_session(self._adapter or OneServerAdapter())
        self._settings = self._session_settings()
        if self._adapter is not None:
            # What the environment says is in the settings now; per call it would be read again, and a netrc
            # entry would become an Authorization header that nobody asked for.
            self.session.trust_env = False
            self._adapter.open_directly(endpoint.url, self._settings["proxies"])
        self._headers = {"X-API-Key": endpoint.key} if endpoint.key else {}

    def close(self) -> None:
        """Close the connections; a session that was given stays open."""
        if self._adapter is not None:
            self.session.close()

    def send(self, call: Call, policy: RetryPolicy | None = None) -> Reply:
        """The answer to ``call``, after as many attempts as the policy (none: the client's) allows.

        Raises:
            RuntimeClientError: see ``runtime_server.errors``.
        """
        request_id, policy = uuid.uuid4().hex, policy or self.policy
        return self._repeat(call, policy, lambda number, seconds: self._attempt(call, request_id, number, seconds))

    def open(self, call: Call) -> OpenReply:
        """The answer to ``call``, its body still to be read; attempts are for its beginning only.

        Raises:
            RuntimeClientError: see ``runtime_server.errors``.
        """
        request_id = uuid.uuid4().hex
        return self._repeat(call, self.policy, lambda number, seconds: self._begin(call, request_id, number, seconds))

    def _repeat(self, call: Call, policy: RetryPolicy, attempt: Callable[[int, float], T]) -> T:
        deadline = (policy.deadline if call.deadline is None else call.deadline) + call.patience
        return call_with_retries(policy, self.budget, attempt, deadline=deadline, repeatable=call.repeatable)

    def _attempt(self, call: Call, request_id: str, number: int, seconds: float) -> Reply:
        with self.failures(request_id):
            read = _least(self.read_timeout, seconds, call.patience)
            response = self._exchange(call, request_id, number, (_least(self.connect_timeout, seconds), read))
            request_id = response.headers.get("X-Request-ID", request_id)
            return Reply(response.status_code, response.headers, response.content, request_id, number)

    def _begin(self, call: Call, request_id: str, number: int, seconds: float) -> OpenReply:
        with self.failures(request_id):
            # Not less than the silence between two heartbeats, whatever other calls may take.
            silence = None if self.read_timeout is None else max(self.read_timeout, STREAM_SILENCE)
            timeout = (_least(self.connect_timeout, seconds), silence)
            response = self._exchange(call, request_id, number, timeout, stream=True)
            assert isinstance(response, requests.Response)
            return OpenReply(self, response, response.headers.get("X-Request-ID", request_id))

    def _exchange(
        self,
        call: Call,
        request_id: str,
        number: int,
        timeout: tuple[float | None, float | None],
        *,
        stream: bool = False,
    ) -> Received:
        settings = {**self._settings, "stream": True} if stream else self._settings
        with ExitStack() as opened:
            request = self._prepare(call, request_id, number)
            if call.source is not None:
                request.body = opened.enter_context(closing(call.source.open()))  # type: ignore[assignment]
            response: Received
            if self._adapter is not None:
                response = self._adapter.fetch(self.session, request, timeout=timeout, **settings)
            else:
                response = self.session.send(request, timeout=timeout, allow_redirects=False, **settings)
        good = 200 <= response.status_code < 300 or response.status_code in call.accept
        if stream and good:
            return response
        try:
            check_whole(response)
            if not good:
                raise self._refusal(response)
        except RuntimeClientError as error:
            error.request_id = error.request_id or response.headers.get("X-Request-ID")
            raise
        return response

    @contextmanager
    def failures(self, request_id: str) -> Iterator[None]:
        """Raise this library's errors, with the request's id, in place of those of requests and urllib3."""
        try:
            yield
        except RuntimeClientError as error:
            error.request_id = error.request_id or request_id
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            failure = self._transport_error(error)
            failure.request_id = request_id
            raise failure from error

    def _prepare(self, call: Call, request_id: str, number: int) -> requests.PreparedRequest:
        # PERF: by hand, since Request.prepare() parses the URL, merges cookies and reads netrc each time.
        session, request = self.session, requests.PreparedRequest()
        request.method = call.method
        request.url = self.endpoint.url + call.path + ("?" + urlencode(call.query) if call.query else "")
        # A session that was given may have the same names in another case.
        merged = {**session.headers, **self._headers}
        headers = merged if self._adapter is not None else CaseInsensitiveDict(merged)
        headers["Accept"] = call.media_type
        headers["X-Request-ID"] = request_id
        headers["X-Attempt"] = str(number)
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        if call.media_type != "application/json":
            headers["Accept-Encoding"] = "identity"  # what is read as it comes isn't decoded
        if call.body is not None or call.source is not None:
            headers["Content-Type"] = call.content_type
        if call.source is not None:
            framing = ("Transfer-Encoding", "chunked")
            if call.source.length is not None:
                framing = ("Content-Length", str(call.source.length))
            headers[framing[0]] = framing[1]
        elif call.body is not None or call.method not in ("GET", "HEAD"):
            headers["Content-Length"] = str(len(call.body or b""))
        request.headers = headers  # type: ignore[assignment] # bytes are as good
        request.body = call.body
        request.hooks = {event: list(hooks) for event, hooks in session.hooks.items()}
        if len(session.cookies):
            request.prepare_cookies(session.cookies)
        if session.auth:
            request.prepare_auth(session.auth, request.url)
        return request

    def _session_settings(self) -> dict[str, Any]:
        """Proxies, verification and certificate, once: per call requests would read the environment for them."""
        session, url = self.session, self.endpoint.url
        if self.endpoint.loopback:
            # No proxy of the environment reaches this machine's own loopback; one that the session names may.
            return {"proxies": session.proxies, "verify": session.verify, "cert": session.cert, "stream": False}
        return dict(session.merge_environment_settings(url, {}, False, None, None))

    def _refusal(self, response: Received) -> RuntimeClientError:
        status = response.status_code
        if 300 <= status < 400:
            return IncompatibleServer(
                f"{self.endpoint.url} redirects (HTTP {status}), which this API never does; "
                "the API key is sent to no other address: set base_url to the server's own"
            )
        retry_after = retry_after_seconds(response.headers)
        body = json_object(response.content)
        if body is None:
            body = {"detail": f"HTTP {status} from {self.endpoint.url}, without a problem body"}
        problem = Problem.from_body(body, status=status, retry_after=retry_after)
        if not isinstance(body.get("retryable"), bool):
            problem.retryable = status in self.policy.statuses
        return problem

    def _transport_error(self, error: Exception) -> TransportError:
        causes = list(_causes(error))
        reason = f"{type(causes[-1]).__name__}: {causes[-1]}" if str(causes[-1]) else type(causes[-1]).__name__
        timed_out = (requests.Timeout, ReadTimeoutError, ConnectTimeoutError, TimeoutError)
        # urllib3 counts a refused connection and an unknown host among the timeouts of connecting.
        if any(isinstance(cause, timed_out) and not isinstance(cause, NewConnectionError) for cause in causes):
            return ServerTimeout(f"{self.endpoint.url} didn't answer in time ({reason})")
        failure = ServerUnreachable(f"{self.endpoint.url} can't be reached ({reason})")
        # A URL that requests refuses and a wrong certificate are as wrong at the next attempt.
        hopeless = isinstance(error, ValueError) or any(isinstance(c, ssl.SSLCertVerificationError) for c in causes)
        failure.retryable = not hopeless
        return failure


def check_whole(response: Received) -> None:
    """Raise ``ServerUnreachable`` where the body is shorter than its ``Content-Length``, or is half a JSON text.

    RFC 9112, section 8: such a message is incomplete. An adapter may not enforce it.
    """
    length = response.headers.get("Content-Length", "")
    encoded = "Content-Encoding" in response.headers
    body = response.content
    if length.isdecimal() and not encoded and len(body) != int(length):
        raise ServerUnreachable(f"the answer broke off: {len(body)} of {length} bytes")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    unframed = not length and not chunked and response.status_code not in BODILESS
    # Without a length the end of the connection ends the body. Headers that broke off look like that too, with no
    # body, and any of them may be the half one.
    claims_json = not body or "json" in response.headers.get("Content-Type", "json")
    if unframed and claims_json and not _is_json(body):
        raise ServerUnreachable(f"the answer broke off after {len(body)} bytes")


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``Retry-After`` (RFC 9110, section 10.2.3), none where there is none that can be read.

    A date is taken relative to the answer's own ``Date``, so that the two clocks needn't agree.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value).timestamp()
        now = email.utils.parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
        return max(0.0, then - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _own_session(adapter: OneServerAdapter) -> requests.Session:
    session = requests.Session()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    del session.headers["Connection"]  # keep-alive is HTTP/1.1's own rule
    session.headers["User-Agent"] = f"runtime-server-client/{__version__} {requests.utils.default_user_agent()}"
    return session


def _least(timeout: float | None, seconds: float, patience: float = 0.0) -> float:
    return seconds if timeout is None else min(timeout + patience, seconds)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps: requests and urllib3 hand it on as ``args[0]``, ``args[1]`` or ``reason``."""
    seen: set[int] = set()
    current: object = error
    while isinstance(current, BaseException) and id(current) not in seen:
        seen.add(id(current))
        yield current
        inner = [getattr(current, "reason", None), *current.args, current.__cause__]
        current = next((each for each in inner if isinstance(each, BaseException) and id(each) not in seen), None)


def json_object(body: bytes) -> dict[str, Any] | None:
    """The body as a JSON object; None: it isn't one."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
