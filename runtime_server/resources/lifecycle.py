"""The lifecycle actions, one class for each."""

from __future__ import annotations

import falcon

from runtime_server.models import PauseRequest, ResumeRequest, StartRequest, StopRequest
from runtime_server.web.body import read_body
from runtime_server.web.context import ApiRequest
from runtime_server.web.idempotency import answer_once, idempotency_key
from runtime_server.web.operation import Resource


class Start(Resource):
    """``POST /start``."""

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Start a runtime, or find the session's live one."""
        caller, key, request = req.context.caller, idempotency_key(req), read_body(req, StartRequest)
        answer_once(req, resp, self._calls, lambda: self._manager.start(caller, request, key=key), status=201)


class Pause(Resource):
    """``POST /pause``."""

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Freeze a runtime's processes."""
        caller, request = req.context.caller, read_body(req, PauseRequest)
        req.context.runtime_id = request.runtime_id
        answer_once(req, resp, self._calls, lambda: self._manager.pause(caller, request.runtime_id))


class Resume(Resource):
    """``POST /resume``."""

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Let a paused runtime go on."""
        caller, request = req.context.caller, read_body(req, ResumeRequest)
        req.context.runtime_id = request.runtime_id
        answer_once(req, resp, self._calls, lambda: self._manager.resume(caller, request.runtime_id))


class Stop(Resource):
    """``POST /stop``."""

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """End a runtime's process, with TERM and after the grace with KILL."""
        caller, request = req.context.caller, read_body(req, StopRequest)
        name, grace, remove = request.runtime_id, request.timeout, request.remove
        req.context.runtime_id = name
        answer_once(
            req,
            resp,
            self._calls,
            lambda: self._manager.stop(caller, name, timeout=grace, remove=remove),
            unrecorded=True,
        )
