"""The OpenAPI 3.1 document, from the route table and the models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from runtime_server._version import __version__
from runtime_server.errors import CATALOGUE, TYPE_PREFIX, Problem, ValidationFailed
from runtime_server.models import FieldError, ProblemBody, StartRequest
from runtime_server.web import sse
from runtime_server.web.operation import Answered, Operation, Route
from runtime_server.web.problems import MEDIA_TYPE

_SCHEMAS = "#/components/schemas/"
_HEADERS = "#/components/headers/"
_PARAMETERS = "#/components/parameters/"
_VALIDATION = "ValidationProblem"
_ID = "runtime_id"
_FROM_ANSWER = f"$response.body#/{_ID}"
"""A runtime expression (OpenAPI 3.1, section 4.8.20.4)."""

_PATH_PARAMETERS = {
    "runtime_id": {"description": "The runtime's id or alias.", "example": "runtime-0123456789ab"},
    "session_id": {"description": "The session.", "example": "conversation-7"},
    "workspace": {
        "description": "The workspace's id, its session's, or its alias.",
        "example": "workspace-0123456789abcdef",
    },
    "build_id": {"description": "The build's id.", "example": "build-0123456789ab"},
    "reference": {
        "description": "The image's reference or id, its slashes as they are or as `%2F`.",
        "example": "registry.example.com/team/agent:1.4",
    },
    "volume": {"description": "The volume's name, its owner's or the engine's.", "example": "cache"},
}

_DESCRIPTION = (
    "Starts, pauses, resumes and stops container runtimes. Every error is an RFC 9457 problem with a `code`, and "
    "`retryable` says whether the same call may succeed later. Every mutating call may be sent twice: with the same "
    "`Idempotency-Key` it happens once, and the first answer is replayed."
)


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """The document of these routes; the same routes give the same document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Runtime Server",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"bearer": []}],
        "paths": {
            route.template: {
                method.lower(): _operation(route.template, operation, routes)
                for method, operation in route.operations.items()
            }
            for route in routes
        },
        "components": {
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": _schemas(routes),
            "parameters": _shared_parameters(),
            "headers": _shared_headers(),
        },
    }


def _operation(path: str, operation: Operation, routes: Sequence[Route]) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    parameters = [*_path_parameters(path), *_query_parameters(operation.query)]
    parameters.append({"$ref": _PARAMETERS + "RequestId"})
    if operation.mutating:
        parameters.append({"$ref": _PARAMETERS + "IdempotencyKey"})
    found["parameters"] = parameters
    if operation.request is not None:
        body: dict[str, Any] = {"schema": {"$ref": _SCHEMAS + operation.request.__name__}}
        if operation.example is not None:
            body["example"] = operation.example
        found["requestBody"] = {"required": True, "content": {operation.media_type: body}}
    if operation.body:
        schema = {"type": "string", "format": "binary"}
        found["requestBody"] = {"required": True, "content": {each: {"schema": schema} for each in operation.body}}
    found["responses"] = _responses(operation)
    if 201 in operation.answers and _names_a_runtime(operation.answers[201].model):
        found["responses"]["201"]["links"] = _links(routes)
    if operation.public:
        found["security"] = []
    return found


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    request_id = {"X-Request-ID": {"$ref": _HEADERS + "RequestId"}}
    for status, answer in operation.answers.items():
        content: dict[str, Any] = {"schema": {"type": "object" if answer.media_type.endswith("json") else "string"}}
        if answer.model is not None:
            content["schema"] = {"$ref": _SCHEMAS + answer.model.__name__}
        if answer.example is not None:
            content["example"] = answer.example
        headers = dict(request_id)
        if operation.mutating:
            headers["Idempotency-Replayed"] = {"$ref": _HEADERS + "IdempotencyReplayed"}
        found[str(status)] = {"description": answer.description, "headers": headers}
        if answer.media_type:
            found[str(status)]["content"] = {answer.media_type: content, **_also(answer), **_lines(answer)}
    for status in sorted({each.status for each in operation.problems} - set(operation.answers)):
        found[str(status)] = _problem_response([each for each in operation.problems if each.status == status])
    return found


def _also(answer: Answered) -> dict[str, Any]:
    """The other forms of an answer."""
    return {media_type: {"schema": _form(media_type, model)} for media_type, model in answer.also.items()}


def _form(media_type: str, model: type[BaseModel] | None) -> dict[str, Any]:
    if media_type == sse.MEDIA_TYPE:
        return {**sse.SCHEMA}
    return {"type": "string", "format": "binary"} if model is None else {"$ref": _SCHEMAS + model.__name__}


def _lines(answer: Answered) -> dict[str, Any]:
    """A stream's other forms; OpenAPI 3.1 can't describe a line, so a parser's view of the whole is told in words."""
    return {
        media_type: {
            "schema": {
                "type": "string",
                "description": f"A `{model.__name__}` in each line; also `heartbeat`, `end` and `error`.",
            },
            "x-line-schema": {"$ref": _SCHEMAS + model.__name__},
        }
        for media_type, model in answer.lines.items()
    }


def _names_a_runtime(model: type[BaseModel] | None) -> bool:
    # A start's names a session.
    return model not in {None, StartRequest} and _ID in getattr(model, "model_fields", {})


def _links(routes: Sequence[Route]) -> dict[str, Any]:
    """What can be done with the runtime that an answer made: each operation that takes its id, by path or by body."""
    found = {}
    for route in routes:
        for operation in route.operations.values():
            link: dict[str, Any] = {"operationId": operation.id, "description": operation.summary}
            if f"{{{_ID}}}" in route.path:
                found[operation.id] = {**link, "parameters": {_ID: _FROM_ANSWER}}
            elif _names_a_runtime(operation.request):
                found[operation.id] = {**link, "requestBody": {_ID: _FROM_ANSWER}}
    return found


def _problem_response(problems: Sequence[type[Problem]]) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": {"$ref": _HEADERS + "RequestId"}}
    if any(each.retryable for each in problems):
        headers["Retry-After"] = {"$ref": _HEADERS + "RetryAfter"}
    codes = [each.code for each in problems]
    base = _VALIDATION if problems == [ValidationFailed] else ProblemBody.__name__
    return {
        "description": "; ".join(map(_told, problems)),
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {"allOf": [{"$ref": _SCHEMAS + base}, {"properties": {"code": {"enum": codes}}}]},
                "example": problems[0]().to_body("5c0e6a40c2f84c8b8f2f4a3e0c9d1b7a"),
            }
        },
    }


def _told(problem: type[Problem]) -> str:
    carried = f" (with {', '.join(f'`{name}`' for name in problem.carries)})" if problem.carries else ""
    return f"`{problem.code}`: {problem.title}{carried}"


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            **_PATH_PARAMETERS[name],
        }
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
    found = []
    for name, each in schema.get("properties", {}).items():
        described = dict(each)
        description = described.pop("description", "")
        parameter = {"name": name, "in": "query", "description": description, "schema": _not_null(described)}
        found.append(parameter | ({"required": True} if name in schema.get("required", ()) else {}))
    return found


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter can be left out, but not be null."""
    kept = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kept) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    return {**rest, **kept[0]}


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    operations = [each for route in routes for each in route.operations.values()]
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemBody, "serialization")]
    models += [(FieldError, "serialization")]
    models += [(model, "validation") for each in operations for model in _inputs(each)]
    models += [
        (answer.model, "serialization")
        for each in operations
        for answer in each.answers.values()
        if answer.model is not None
    ]
    models += [
        (model, "serialization")
        for each in operations
        for answer in each.answers.values()
        for model in (*answer.lines.values(), *filter(None, answer.also.values()))
    ]
    _, schema = models_json_schema(list(dict.fromkeys(models)), ref_template=_SCHEMAS + "{model}")
    found: dict[str, Any] = schema["$defs"]
    found[ProblemBody.__name__]["properties"]["type"]["examples"] = [TYPE_PREFIX + "runtime-not-found"]
    found[ProblemBody.__name__]["properties"]["code"]["examples"] = sorted(CATALOGUE)
    found[_VALIDATION] = {
        "description": "A problem that names each thing that is wrong with the request.",
        "allOf": [
            {"$ref": _SCHEMAS + ProblemBody.__name__},
            {
                "type": "object",
                "required": ["errors"],
                "properties": {"errors": {"type": "array", "items": {"$ref": _SCHEMAS + FieldError.__name__}}},
            },
        ],
    }
    return dict(sorted(found.items()))


def _inputs(operation: Operation) -> Iterable[type[BaseModel]]:
    return (each for each in (operation.request, operation.query) if each is not None)


def _shared_parameters() -> dict[str, Any]:
    return {
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Any text that is new for each call and the same for each attempt of one call.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        },
        "RequestId": {
            "name": "X-Request-ID",
            "in": "header",
            "description": "The caller's own id of this request: 1 to 128 letters, digits, dots, dashes and "
            "underscores. In the place of anything else, or of none, the server makes one.",
            "schema": {"type": "string"},
            "example": "5c0e6a40c2f84c8b8f2f4a3e0c9d1b7a",
        },
    }


def _shared_headers() -> dict[str, Any]:
    return {
        "RequestId": {"description": "The id of this request.", "schema": {"type": "string"}},
        "RetryAfter": {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer", "minimum": 0},
        },
        "IdempotencyReplayed": {
            "description": "`true` where this is the stored answer of the first call.",
            "schema": {"type": "string", "enum": ["true"]},
        },
    }
