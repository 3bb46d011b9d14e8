"""The documentation as one HTML page: no script, no other host."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from pydantic import BaseModel

from runtime_server._version import __version__
from runtime_server.web.operation import Operation, Route

_STYLE = files(__package__).joinpath("docs.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""CSP Level 3: nothing but the page's own style."""


def docs_page(routes: Sequence[Route]) -> str:
    """The page of these routes."""
    operations = [(route.path, method, each) for route in routes for method, each in route.operations.items()]
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Runtime Server API</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>Runtime Server API</h1><p>Version {escape(__version__)}. The same as "
        '<a href="/openapi.json">OpenAPI 3.1</a>. Send the key as <code>X-API-Key</code> or '
        "<code>Authorization: Bearer</code>; a mutating call with an <code>Idempotency-Key</code> may be sent "
        "twice and happens once.</p></header>"
        f"<nav><ul>{''.join(_entry(*each) for each in operations)}</ul></nav>"
        f"<main>{''.join(_section(*each) for each in operations)}</main></body></html>\n"
    )


def _entry(path: str, method: str, operation: Operation) -> str:
    return f'<li><a href="#{operation.id}"><code>{method} {escape(path)}</code></a> {escape(operation.summary)}</li>'


def _section(path: str, method: str, operation: Operation) -> str:
    notes = ["Needs no key." if operation.public else "Needs an API key."]
    if operation.mutating:
        notes.append("Takes an Idempotency-Key.")
    parts = [
        f'<section id="{operation.id}"><h2><code>{method} {escape(path)}</code></h2>',
        f"<p>{escape(operation.summary)} {' '.join(notes)}</p>",
        _fields("Query", operation.query),
        _fields("Body", operation.request),
        _example("Request", operation.example),
    ]
    for status, answer in operation.answers.items():
        parts.append(f"<h3>{status}</h3><p>{escape(answer.description)}</p>")
        parts.append(_fields("Answer", answer.model, mode="serialization"))
        parts.append(_example("Example", answer.example))
    rows = "".join(
        f"<tr><td>{each.status}</td><td><code>{each.code}</code></td><td>{escape(each.title)}</td>"
        f"<td>{'yes' if each.retryable else 'no'}</td></tr>"
        for each in operation.problems
    )
    head = "<tr><th>Status</th><th>Code</th><th>Meaning</th><th>Retry</th></tr>"
    parts.append(f"<details><summary>Problems</summary><table>{head}{rows}</table></details></section>")
    return "".join(parts)


def _fields(title: str, model: type[BaseModel] | None, *, mode: str = "validation") -> str:
    rows = _rows(model, mode) if model is not None else ()
    if not rows:
        return ""
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(text)}</td></tr>"
        for name, kind, text in rows
    )
    head = "<tr><th>Name</th><th>Type</th><th>Meaning</th></tr>"
    return f"<details><summary>{title}</summary><table>{head}{cells}</table></details>"


@cache
def _rows(model: type[BaseModel], mode: str) -> tuple[tuple[str, str, str], ...]:
    schema = model.model_json_schema(mode="serialization" if mode == "serialization" else "validation")
    required = set(schema.get("required", ())) if mode == "validation" else set()
    return tuple(
        (name, _kind(each) + (", required" if name in required else ""), each.get("description", ""))
        for name, each in schema.get("properties", {}).items()
    )


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _example(title: str, value: Mapping[str, Any] | Sequence[Any] | None) -> str:
    if value is None:
        return ""
    return f"<h4>{title}</h4><pre><code>{escape(json.dumps(value, indent=2))}</code></pre>"
