"""Write docs/reference from the code: settings, errors, routes, starts, commands, metrics.

Usage: reference.py [--check]

``--check`` writes nothing and exits with 1 where a page isn't what the code says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import annotated_types
import click
from pydantic import BaseModel

from runtime_server.api import ROUTES
from runtime_server.cli.main import main as command
from runtime_server.errors import (
    CATALOGUE,
    DeadlineExceeded,
    IncompatibleServer,
    RuntimeClientError,
    ServerTimeout,
    ServerUnreachable,
    TransportError,
)
from runtime_server.metrics.instruments import Metrics
from runtime_server.metrics.timings import PHASES
from runtime_server.runtimes import policy_rules
from runtime_server.runtimes.gauges import DESCRIBED
from runtime_server.settings import PREFIX, Settings
from runtime_server.web.operation import Operation, Route

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
HEAD = "<!-- Made by scripts/reference from the code; change that, and run it. -->\n\n"

SECTIONS = {
    "host": "Serving",
    "auth": "Who may call",
    "publish_host": "Addresses of runtimes, and their sleep",
    "volume_roots": "Folders and networks of runtimes",
    "default_cpus": "What every runtime gets",
    "allowed_images": "What a start may ask for",
    "max_runtimes_per_owner": "Quotas and the queue",
    "builds": "Building images",
    "engine": "The engine, and times",
}
"""The setting that begins a section."""
ELSEWHERE = {
    "state_dir": "the platform's state directory, `~/.local/state/runtime-server`",
    "volume_roots": "a folder in the platform's data directory, `~/.local/share/runtime-server/volumes`",
}
"""Defaults that this machine's user would change."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def settings() -> str:
    """docs/reference/settings.md."""
    parts = [
        "# Settings\n\n",
        f"Environment variables, read once when the server starts; `{PREFIX}` goes before each name. Lists are "
        "separated by commas. A wrong value is named when the server starts, and by `runtime-server --check-config`. "
        "What a start may ask for by default is [told by field](starts.md); the flags are among the "
        "[commands](commands.md).\n",
    ]
    rows: list[list[str]] = []
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            parts += [_settings_table(rows), f"\n## {SECTIONS[name]}\n\n"]
            rows = []
        rows.append([f"`{name.upper()}`", _default(name, field), (field.description or "") + _bounds(field)])
    return "".join([*parts, _settings_table(rows)])


def _settings_table(rows: list[list[str]]) -> str:
    return table(["setting", "default", ""], rows) if rows else ""


def _default(name: str, field: Any) -> str:
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    value = field.get_default(call_default_factory=True)
    if value in (None, "", (), {}):
        return "none"
    if isinstance(value, tuple):
        return "`" + ",".join(map(str, value)) + "`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _bounds(field: Any) -> str:
    found = []
    for each in field.metadata:
        if isinstance(each, annotated_types.Ge):
            found.append(f"at least {each.ge}")
        if isinstance(each, annotated_types.Gt):
            found.append(f"more than {each.gt}")
        if isinstance(each, annotated_types.Le):
            found.append(f"at most {each.le}")
    choices = getattr(field.annotation, "__args__", ()) if "Literal" in str(field.annotation) else ()
    if choices:
        found.append("one of " + ", ".join(f"`{each}`" for each in choices if each))
    return f" ({', '.join(found)})" if found else ""


def errors() -> str:
    """docs/reference/errors.md."""
    ordered = sorted(CATALOGUE.values(), key=lambda each: (each.status, each.code))
    rows = [
        [
            f"`{each.code}`",
            str(each.status),
            f"`{each.__name__}`",
            "yes" if each.retryable else "no",
            ", ".join(f"`{name}`" for name in each.carries),
            _first(each),
        ]
        for each in ordered
    ]
    own = (RuntimeClientError, TransportError, ServerUnreachable, ServerTimeout, DeadlineExceeded, IncompatibleServer)
    mine = [[f"`{each.__name__}`", "yes" if each.retryable else "no", _first(each)] for each in own]
    return (
        "# Errors\n\n"
        "An answer with a status of 400 or more is `application/problem+json` (RFC 9457) with `type`, `title`, "
        "`status`, a `detail` for people, `code`, `retryable`, `request_id`, and what the problem carries besides. "
        "`Retry-After` is sent where waiting helps. The classes are in `runtime_server.errors`: the server raises "
        "them, and the client raises the same ones again.\n\n"
        + table(["code", "status", "class", "retryable", "carries", ""], rows)
        + "\n## Errors of the client alone\n\n"
        + table(["class", "retryable", ""], mine)
    )


def _first(documented: type) -> str:
    text = " ".join((documented.__doc__ or "").split("\n\n")[0].split())
    return text.replace("``", "`")


def routes() -> str:
    """docs/reference/routes.md."""
    operations = [(route, method, each) for route in ROUTES for method, each in route.operations.items()]
    index = [
        [f"[`{method} {route.template}`](#{_anchor(method, route)})", each.summary]
        for route, method, each in operations
    ]
    sections = "".join(_route(*each) for each in operations)
    return (
        "# Routes\n\nThe same as `GET /openapi.json` and `GET /docs` of a running server. Every answer has "
        "`X-Request-ID` and `Server-Timing`; each mutating route takes an `Idempotency-Key`.\n\n"
        + table(["route", ""], index)
        + sections
    )


def _anchor(method: str, route: Route) -> str:
    kept = "".join(each for each in f"{method} {route.template}".lower() if each.isalnum() or each in " _-")
    return kept.replace(" ", "-")


def _route(route: Route, method: str, operation: Operation) -> str:
    notes = ["Needs no key." if operation.public else "Needs an API key."]
    if operation.mutating:
        notes.append("May be sent twice with one `Idempotency-Key`.")
    parts = [f"\n## `{method} {route.template}`\n\n{operation.summary} {' '.join(notes)}\n"]
    if operation.query is not None and operation.query.model_fields:
        parts.append("\nQuery:\n\n" + fields(operation.query))
    if operation.request is not None:
        where = " It is [told by field](starts.md)." if operation.request.__name__ == "StartRequest" else ""
        parts.append(f"\nBody: `{operation.request.__name__}`.{where}\n\n")
        parts.append("" if where else fields(operation.request))
    if operation.example is not None:
        parts.append(f"\n```json\n{json.dumps(operation.example, indent=2)}\n```\n")
    answers = [
        [str(status), f"`{each.model.__name__}`" if each.model else f"`{each.media_type}`", each.description]
        for status, each in operation.answers.items()
    ]
    parts.append("\n" + table(["status", "answer", ""], answers))
    problems = ", ".join(f"`{each.code}` ({each.status})" for each in operation.problems)
    parts.append(f"\nProblems: {problems}.\n")
    return "".join(parts)


def fields(model: type[BaseModel]) -> str:
    """The fields of a model as a table."""
    schema = model.model_json_schema()
    required = set(schema.get("required", ()))
    rows = [
        [f"`{name}`", kind(each) + (", required" if name in required else ""), each.get("description", "")]
        for name, each in schema.get("properties", {}).items()
    ]
    return table(["field", "type", ""], rows)


def kind(schema: Mapping[str, Any]) -> str:
    """A JSON schema's type in words."""
    if "$ref" in schema:
        return f"`{str(schema['$ref']).rsplit('/', 1)[-1]}`"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(kind(each) for each in schema[union]))
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"array of {kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def starts() -> str:
    """docs/reference/starts.md."""
    from runtime_server.models import StartRequest

    schema = StartRequest.model_json_schema()
    parts = "".join(
        f"\n### `{name}`\n\n{_first_line(part)}\n\n" + _properties(part)
        for name, part in sorted(schema.get("$defs", {}).items())
        if part.get("properties")
    )
    return (
        "# What a start says\n\nThe body of `POST /start`, and the arguments of the client's `start_runtime`.\n\n"
        + fields(StartRequest)
        + parts
        + "\n## What it may ask for\n\n"
        "Everything else is `policy-refused` (403), with the `setting` that rules it.\n\n"
        + policy_rules.table()
        + "\n"
    )


def _first_line(schema: Mapping[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).split("\n\n")[0].split()).replace("``", "`")


def _properties(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        [f"`{name}`", kind(each) + (", required" if name in required else ""), each.get("description", "")]
        for name, each in schema["properties"].items()
    ]
    return table(["field", "type", ""], rows)


def commands() -> str:
    """docs/reference/commands.md."""
    parts = [
        "# Commands\n\nSettings come from the environment ([settings](settings.md)); flags override them. "
        "`python -m runtime_server` is the same program.\n"
    ]
    for path, each, context in _walk(command, "runtime-server", None):
        told = "\n".join(line.rstrip() for line in each.get_help(context).splitlines())
        parts.append(f"\n## `{path}`\n\n```text\n{told}\n```\n")
    return "".join(parts)


def _walk(
    found: click.Command, path: str, parent: click.Context | None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(found, info_name=path.rsplit(" ", 1)[-1], parent=parent, terminal_width=90, color=False)
    context.help_option_names = ["-h", "--help"]
    yield path, found, context
    if isinstance(found, click.Group):
        for name in found.list_commands(context):
            below = found.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _walk(below, f"{path} {name}", context)


def metrics() -> str:
    """docs/reference/metrics.md."""
    suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    rows = [
        [
            f"`{each._name}{suffix[str(each._type)]}`",
            str(each._type),
            ", ".join(f"`{name}`" for name in each._labelnames),
            each._documentation,
        ]
        for each in Metrics().instruments
    ]
    rows += [
        [f"`{each.name}`", "gauge", ", ".join(f"`{name}`" for name in each.labels), each.text] for each in DESCRIBED
    ]
    return (
        "# Metrics\n\n`GET /metrics`, in Prometheus' text format or as OpenMetrics. "
        "[How to watch a server](../how-to/monitoring.md) tells who may read it. Times are in seconds.\n\n"
        + table(["metric", "type", "labels", ""], sorted(rows))
        + "\nPhases are "
        + ", ".join(f"`{each}`" for each in PHASES)
        + "; `Server-Timing` has the same ones, in milliseconds.\n"
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings,
    "errors.md": errors,
    "routes.md": routes,
    "starts.md": starts,
    "commands.md": commands,
    "metrics.md": metrics,
}


def main(arguments: Sequence[str]) -> int:
    """Write or check; the exit status."""
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, HEAD + make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if arguments != ["--check"]:
                FOLDER.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"docs/reference/{name} {'is stale: run scripts/reference' if arguments else 'written'}")
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
