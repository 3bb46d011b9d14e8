"""The lifecycle actions, one class for each."""

from __future__ import annotations

import falcon

from runtime_server import errors, models
from runtime_server.models import PauseRequest, ResumeRequest, StartRequest, StopRequest
from runtime_server.resources import described
from runtime_server.web.body import read_body
from runtime_server.web.context import ApiRequest
from runtime_server.web.idempotency import answer_once, idempotency_key
from runtime_server.web.operation import Answered, Operation, Resource


class Start(Resource):
    """``POST /start``."""

    operations = {
        "POST": Operation(
            id="startRuntime",
            summary="Start a runtime, or return the session's live one.",
            request=models.StartRequest,
            answers={
                201: Answered(
                    "The runtime; `starting` where it takes longer than `wait` seconds.",
                    models.StartResponse,
                    {**described.RUNTIME, "created": True, "warnings": []},
                )
            },
            raises=described.START,
            mutating=True,
            example={
                "image": "busybox",
                "name": "agent-7",
                "command": ["httpd", "-f", "-p", "8000"],
                "environment": {"GREETING": "hello"},
                "ports": [{"container_port": 8000}],
                "labels": {"team": "agents"},
                "memory": "512m",
            },
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Start a runtime, or find the session's live one."""
        caller, key, request = req.context.caller, idempotency_key(req), read_body(req, StartRequest)
        answer_once(req, resp, self._calls, lambda: self._manager.start(caller, request, key=key), status=201)


class Pause(Resource):
    """``POST /pause``."""

    operations = {
        "POST": Operation(
            id="pauseRuntime",
            summary="Freeze a runtime's processes.",
            request=models.PauseRequest,
            answers={200: Answered("It is paused.", models.ActionResponse, described.acted("paused", "Paused."))},
            raises=described.ACTION,
            mutating=True,
            example={"runtime_id": described.ID},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Freeze a runtime's processes."""
        caller, request = req.context.caller, read_body(req, PauseRequest)
        req.context.runtime_id = request.runtime_id
        answer_once(req, resp, self._calls, lambda: self._manager.pause(caller, request.runtime_id))


class Resume(Resource):
    """``POST /resume``."""

    operations = {
        "POST": Operation(
            id="resumeRuntime",
            summary="Let a paused runtime go on.",
            request=models.ResumeRequest,
            answers={200: Answered("It runs.", models.ActionResponse, described.acted("running", "Resumed."))},
            raises=(*described.ACTION, errors.QuotaExceeded),
            mutating=True,
            example={"runtime_id": described.ID},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response) -> None:
        """Let a paused runtime go on."""
        caller, request = req.context.caller, read_body(req, ResumeRequest)
        req.context.runtime_id = request.runtime_id
        answer_once(req, resp, self._calls, lambda: self._manager.resume(caller, request.runtime_id))


class Stop(Resource):
    """``POST /stop``."""

    operations = {
        "POST": Operation(
            id="stopRuntime",
            summary="End a runtime's process: TERM, and KILL after the grace.",
            request=models.StopRequest,
            answers={200: Answered("It has stopped.", models.ActionResponse, described.acted("stopped", "Stopped."))},
            raises=described.ACTION,
            mutating=True,
            example={"runtime_id": described.ID, "timeout": 5, "remove": False},
        )
    }

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
