"""The synchronous SDK."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import requests

from runtime_server.client.builds import BuildCalls
from runtime_server.client.calls import fields_of, new_key, post, runtime_path, seconds
from runtime_server.client.changes import ChangeCalls
from runtime_server.client.closing import Closing
from runtime_server.client.endpoint import find_endpoint
from runtime_server.client.files import FileCalls
from runtime_server.client.inside import InsideCalls
from runtime_server.client.listing import RuntimeListing
from runtime_server.client.replies import parse
from runtime_server.client.retry import RetryPolicy
from runtime_server.client.stock import StockCalls
from runtime_server.client.transport import Call, Reply, Timeout, Transport
from runtime_server.client.watching import WatchingCalls
from runtime_server.client.workspaces import WorkspaceCalls
from runtime_server.errors import (
    CATALOGUE,
    DeadlineExceeded,
    InvalidState,
    Problem,
    RuntimeClientError,
    RuntimeNotFound,
)
from runtime_server.models import (
    ActionResponse,
    Health,
    PauseRequest,
    Readiness,
    RenewRequest,
    ResumeRequest,
    Runtime,
    RuntimePage,
    RuntimeStatus,
    StartRequest,
    StartResponse,
    StopRequest,
    Version,
)

WAIT_SLICE = 25.0
"""Seconds that one request of ``wait_until`` waits: below the idle limits of common proxies."""

_LIVE = frozenset({RuntimeStatus.STARTING, RuntimeStatus.RUNNING, RuntimeStatus.PAUSED})
_OUT_OF_REACH = {
    RuntimeStatus.STOPPING: _LIVE,
    RuntimeStatus.STOPPED: _LIVE | {RuntimeStatus.STOPPING, RuntimeStatus.ERROR},
    RuntimeStatus.ERROR: _LIVE | {RuntimeStatus.STOPPING, RuntimeStatus.STOPPED},
    RuntimeStatus.REMOVED: frozenset(RuntimeStatus) - {RuntimeStatus.REMOVED},
}
"""What a runtime in that state never comes to."""


class RuntimeServerClient(
    InsideCalls, FileCalls, WatchingCalls, ChangeCalls, StockCalls, BuildCalls, WorkspaceCalls, Closing
):
    """A Runtime Server, as Python calls. Safe for threads; a context manager that closes its connections.

    Args:
        base_url: none: ``RUNTIME_SERVER_URL``, else ``http://127.0.0.1:8090``.
        api_key: none: ``RUNTIME_SERVER_API_KEY``, else, for loopback addresses only, the key that the server on
            this machine generated. The environment is read here, once.
        timeout: seconds to connect, and seconds between two bytes of an answer; one number is both. What a call
            lets the server wait (a stop's grace, a start's ``wait``) is added to the second.
        retry: when calls are repeated; see ``RetryPolicy``.
        session: for adapters, certificates or proxies of your own. It is used as it is and stays open.

    Raises:
        ValueError: the URL or the key can't be used.

    Every method raises the errors of ``runtime_server.errors``, all under ``RuntimeClientError``. Requests are
    checked by the server, whose answer to a wrong one is ``ValidationFailed``: so fields that a newer server
    knows can be sent from here as a dict or as keyword arguments.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: Timeout = (5, 60),
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        session: requests.Session | None = None,
    ) -> None:
        self._transport = Transport(find_endpoint(base_url, api_key), timeout=timeout, retry=retry, session=session)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self._transport.endpoint.url

    @property
    def retry(self) -> RetryPolicy:
        """The policy in force."""
        return self._transport.policy

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def start_runtime(
        self,
        request: StartRequest | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> StartResponse:
        """Start a runtime (``POST /start``).

        Args:
            request: a ``StartRequest`` or its fields as a dict.
            idempotency_key: 1 to 255 printable ASCII characters; none: a fresh one. All calls with one key are
                one start.
            fields: fields of ``StartRequest``; they win over those of ``request``.

        Returns:
            The runtime, ``starting`` where it wasn't up within ``wait`` seconds.
        """
        return parse(StartResponse, self._transport.send(_start(request, fields, idempotency_key)))

    def pause_runtime(
        self,
        request: str | PauseRequest | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> ActionResponse:
        """Freeze a runtime's processes (``POST /pause``).

        Args:
            request: the runtime's id or alias, a ``PauseRequest``, or its fields as a dict.
            idempotency_key: as for ``start_runtime``.
            fields: fields of ``PauseRequest``.
        """
        return self._act("/pause", fields_of(PauseRequest, request, fields), idempotency_key)

    def resume_runtime(
        self,
        request: str | ResumeRequest | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> ActionResponse:
        """Let a paused runtime go on (``POST /resume``); arguments as for ``pause_runtime``."""
        return self._act("/resume", fields_of(ResumeRequest, request, fields), idempotency_key)

    def stop_runtime(
        self,
        request: str | StopRequest | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> ActionResponse:
        """Stop a runtime (``POST /stop``).

        Args:
            request: the runtime's id or alias, a ``StopRequest``, or its fields as a dict.
            idempotency_key: as for ``start_runtime``.
            fields: fields of ``StopRequest``: ``timeout``, the seconds of grace between TERM and KILL (default 5,
                0 allowed), and ``remove``.
        """
        body = fields_of(StopRequest, request, fields)
        return self._act("/stop", body, idempotency_key, patience=seconds(body.get("timeout", 5.0)))

    def remove_runtime(self, runtime_id: str, *, idempotency_key: str | None = None) -> ActionResponse:
        """Stop and remove a runtime (``DELETE /runtimes/{id}``)."""
        call = Call("DELETE", runtime_path(runtime_id), key=idempotency_key or new_key(), patience=5.0)
        return parse(ActionResponse, self._transport.send(call))

    def renew_runtime(self, runtime_id: str, ttl: float | None, *, idempotency_key: str | None = None) -> Runtime:
        """Let a runtime end ``ttl`` seconds from now, or never (``None``)."""
        body = RenewRequest.model_construct(ttl=ttl).model_dump()
        call = post(runtime_path(runtime_id) + "/renew", body, idempotency_key)
        return parse(Runtime, self._transport.send(call))

    def get_runtime(
        self,
        runtime_id: str,
        *,
        wait_for: RuntimeStatus | str | None = None,
        timeout: float | None = None,
        environment: Literal["names", "values"] = "names",
    ) -> Runtime:
        """A runtime as it is now.

        Args:
            runtime_id: id or alias.
            wait_for: let the server answer as soon as the runtime has this status.
            timeout: seconds after which it answers anyway.
            environment: ``values`` for the environment's values too, which only the runtime's owner gets.
        """
        return self._get(runtime_id, wait_for, timeout, environment)

    def list_runtimes(
        self,
        *,
        status: RuntimeStatus | str | Iterable[RuntimeStatus | str] = (),
        labels: Mapping[str, str | None] | None = None,
        owner: str | None = None,
        limit: int = 100,
    ) -> RuntimeListing:
        """All runtimes of this key's owner, an admin's of all owners, page by page as they are asked for.

        Args:
            status: one status or several; none: all.
            labels: labels that they must have; ``None`` as a value: the label alone, whatever its value.
            owner: only this owner's; for admins.
            limit: runtimes per page, 1 to 1000.

        Returns:
            An iterator of runtimes; ``.pages()`` iterates over whole pages instead.
        """
        statuses = [status] if isinstance(status, str) else list(status)
        query = [("status", str(each)) for each in statuses]
        query += [("label", key if value is None else f"{key}={value}") for key, value in (labels or {}).items()]
        query += [("owner", owner)] if owner is not None else []
        query.append(("limit", str(limit)))

        def page(cursor: str | None) -> RuntimePage:
            last = [("cursor", cursor)] if cursor is not None else []
            return parse(RuntimePage, self._transport.send(Call("GET", "/runtimes", query=(*query, *last))))

        return RuntimeListing(page)

    def wait_until(self, runtime_id: str, status: RuntimeStatus | str, timeout: float = 60.0) -> Runtime:
        """Wait for a runtime to have ``status``.

        Args:
            runtime_id: id or alias.
            status: what to wait for.
            timeout: seconds; a request under way at their end may take ten more.

        Raises:
            DeadlineExceeded: it hasn't come to that.
            InvalidState: it can't come to that any more, since the runtime has ended.
            Problem: the runtime is in ``error``: the catalogue's class that says why.
        """
        target, policy = RuntimeStatus(status), self._transport.policy
        ends, pause = policy.clock() + timeout, 0.05
        while True:
            asked = policy.clock()
            left = max(0.0, ends - asked)
            wait = min(left, WAIT_SLICE)
            runtime = self._get(runtime_id, target, wait, deadline=min(policy.deadline, left + 10.0))
            if runtime.status is target:
                return runtime
            if target in _OUT_OF_REACH.get(runtime.status, ()):
                raise _cannot_be(runtime, target)
            now = policy.clock()
            if now >= ends:
                raise DeadlineExceeded(f"{runtime_id} is {runtime.status}, not {target}, after {timeout:g} s")
            if now - asked < wait / 2:
                # The server answered at once, so it doesn't wait for this status: ask again, ever less often.
                policy.sleep(min(pause, ends - now))
                pause = min(1.0, pause * 2)

    @contextlib.contextmanager
    def runtime(
        self,
        request: StartRequest | Mapping[str, Any] | None = None,
        /,
        *,
        stop_timeout: float = 5.0,
        **fields: Any,
    ) -> Iterator[StartResponse]:
        """Start a runtime for the length of a ``with`` block, and always stop and remove it.

        Args:
            request: as for ``start_runtime``.
            stop_timeout: seconds of grace at the end.
            fields: as for ``start_runtime``.

        Where the start fails without a clear answer, the same call is sent once more to learn what became of it,
        and what it started is removed.
        """
        call = _start(request, fields, None)
        reply: Reply | None = None
        try:
            reply = self._transport.send(call)
            started = parse(StartResponse, reply)
        except BaseException as error:
            if _is_ambiguous(error):
                self._undo(call, reply, error)
            raise
        try:
            yield started
        except BaseException as error:
            try:
                self._end(started.runtime_id, stop_timeout)
            except RuntimeClientError as failure:
                error.add_note(f"{started.runtime_id} may be left running: {failure}")
            raise
        self._end(started.runtime_id, stop_timeout)

    def health(self) -> Health:
        """Whether the server's process lives."""
        return parse(Health, self._transport.send(Call("GET", "/healthz")))

    def ready(self) -> Readiness:
        """Whether the server can reach its engine; a no is an answer, not an error."""
        reply = self._transport.send(Call("GET", "/readyz", accept=frozenset({503})))
        with contextlib.suppress(ValueError):
            return Readiness.model_validate_json(reply.body)
        if reply.status == 503:
            return Readiness(ready=False)
        return parse(Readiness, reply)

    def version(self) -> Version:
        """Versions of the server, its API and its engine."""
        return parse(Version, self._transport.send(Call("GET", "/version")))

    def _act(self, path: str, body: dict[str, Any], key: str | None, *, patience: float = 0.0) -> ActionResponse:
        return parse(ActionResponse, self._transport.send(post(path, body, key, patience=patience)))

    def _get(
        self,
        runtime_id: str,
        wait_for: RuntimeStatus | str | None,
        timeout: float | None,
        environment: str = "names",
        deadline: float | None = None,
    ) -> Runtime:
        query = [("wait_for", str(wait_for))] if wait_for is not None else []
        query += [("timeout", f"{timeout:g}")] if timeout is not None else []
        query += [("environment", environment)] if environment != "names" else []
        patience = timeout or 0.0 if wait_for is not None and deadline is None else 0.0
        call = Call("GET", runtime_path(runtime_id), tuple(query), patience=patience, deadline=deadline)
        return parse(Runtime, self._transport.send(call))

    def _end(self, runtime_id: str, grace: float) -> None:
        with contextlib.suppress(RuntimeNotFound):
            try:
                self.stop_runtime(runtime_id, timeout=grace, remove=True)
            except InvalidState:
                self.remove_runtime(runtime_id)

    def _undo(self, call: Call, reply: Reply | None, error: BaseException) -> None:
        """Remove what an unclear start may have started: its key leads to the same container."""
        policy = self._transport.policy
        brief = dataclasses.replace(
            policy, max_attempts=min(policy.max_attempts, 3), deadline=min(policy.deadline, 15.0)
        )
        found = None
        try:
            found = _runtime_id_of(reply or self._transport.send(call, brief))
            if found is not None:
                self._end(found, 0.0)
        except RuntimeClientError as failure:
            if found is not None or _is_ambiguous(failure):
                error.add_note(f"{found or 'a runtime'} may be left running: {failure}")


def _start(request: StartRequest | Mapping[str, Any] | None, fields: Mapping[str, Any], key: str | None) -> Call:
    body = fields_of(StartRequest, request, fields)
    return post("/start", body, key, patience=seconds(body.get("wait", 8.0)))


def _runtime_id_of(reply: Reply) -> str | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        found = json.loads(reply.body)["runtime_id"]
        return found if isinstance(found, str) else None
    return None


def _is_ambiguous(error: BaseException) -> bool:
    """Whether a start that ended so may have started something."""
    return error.retryable or error.code not in CATALOGUE if isinstance(error, Problem) else True


def _cannot_be(runtime: Runtime, target: RuntimeStatus) -> Problem:
    if runtime.error is not None:
        body = {"code": runtime.error.code, "detail": runtime.error.detail}
        return Problem.from_body(body, status=runtime.error.status)
    return InvalidState(
        f"{runtime.runtime_id} is {runtime.status} and can't be {target} any more",
        runtime_status=str(runtime.status),
        allowed_actions=[],
    )
