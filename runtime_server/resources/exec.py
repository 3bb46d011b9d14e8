"""Commands in runtimes."""

from __future__ import annotations

import base64
import codecs
import json
from typing import Any

import falcon

from runtime_server import errors, models
from runtime_server.engine.inside import ExecOutput
from runtime_server.models import ExecEnd, ExecRequest, utc
from runtime_server.resources import described
from runtime_server.resources.naming import named
from runtime_server.runtimes.execs import Ended
from runtime_server.web.body import read_body
from runtime_server.web.context import ApiRequest
from runtime_server.web.idempotency import answer_once, idempotency_key
from runtime_server.web.operation import Answered, Operation, Resource
from runtime_server.web.streaming import NDJSON, Ndjson, stream


class Exec(Resource):
    """``/runtimes/{runtime_id}/exec``."""

    operations = {
        "POST": Operation(
            id="execInRuntime",
            summary="Run a command in a running runtime.",
            request=models.ExecRequest,
            answers={
                200: Answered(
                    "How it ended and what it wrote; with `stream` a line for each piece of it, and an `ExecEnd`.",
                    models.ExecResult,
                    described.EXEC,
                    lines={NDJSON: models.ExecChunk},
                )
            },
            raises=(
                *described.ONE,
                *described.ENGINE,
                errors.InvalidState,
                errors.PolicyRefused,
                errors.CommandNotFound,
                errors.CommandNotExecutable,
                errors.UserUnknown,
                errors.SpecRejected,
                errors.TooManyWaiting,
                errors.TooManyStreams,
                errors.ExecOutcomeUnknown,
            ),
            mutating=True,
            example={"command": ["echo", "hello"], "timeout": 10},
        )
    }

    def on_post(self, req: ApiRequest, resp: falcon.Response, runtime_id: str) -> None:
        """Run a command to its end, or stream what it writes."""
        caller, name, key = req.context.caller, named(req, runtime_id), idempotency_key(req)
        request, execs = read_body(req, ExecRequest), self._inside.execs
        if request.stream:
            style = Ndjson(_Lines(request.encoding).encode)
            opened = lambda: execs.open(caller, name, request, key=key)  # noqa: E731
            stream(req, resp, self._services.streams, opened, style, resumable=False)
        else:
            answer_once(req, resp, self._calls, lambda: execs.run(caller, name, request, key=key))


class _Lines:
    """Output and end as JSON; a character that comes in two pieces stays whole."""

    def __init__(self, encoding: str) -> None:
        self._base64 = encoding == "base64"
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": make("replace"), "stderr": make("replace")}

    def encode(self, item: ExecOutput | Ended) -> bytes:
        if isinstance(item, ExecOutput):
            return self._chunk(item.stream, item.data)
        rest = [self._chunk(stream, b"", final=True) for stream in self._decoders]
        return b"\n".join([*filter(None, rest), _end(item)])

    def _chunk(self, stream: str, data: bytes, *, final: bool = False) -> bytes:
        decode = self._decoders[stream].decode
        text = base64.b64encode(data).decode("ascii") if self._base64 else decode(data, final)
        return _json({"stream": stream, "data": text}) if text else b""


def _end(item: Ended) -> bytes:
    return (
        ExecEnd(
            exec_id=item.exec_id,
            exit_code=item.exit_code,
            timed_out=item.timed_out,
            killed=item.killed,
            duration=round(item.duration, 3),
            finished_at=utc(item.at),
        )
        .model_dump_json()
        .encode()
    )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
