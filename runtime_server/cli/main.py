"""The command line: ``runtime-server`` serves; its commands work on a server, or look after an instance."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime_server import __version__
from runtime_server.cli.connection import given_of
from runtime_server.cli.connection import options as server_options
from runtime_server.cli.lazy import LazyGroup
from runtime_server.cli.values import examples

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--host", help="Address to listen on."),
    click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on."),
    click.option("--bind", help="Socket to listen on instead, e.g. unix:/run/runtime-server/api.sock."),
    click.option("--workers", type=click.IntRange(1, 64), help="Worker processes."),
    click.option("--threads", type=click.IntRange(2, 256), help="Threads per worker."),
    click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Records, keys, locks."),
    click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Least level logged."),
    click.option("--log-format", type=click.Choice(["console", "json"]), help="How log lines look."),
    click.option("--check-config", is_flag=True, help="Check settings and engine, and exit."),
)
"""Each overrides RUNTIME_SERVER_<NAME>."""


def _options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _apply(overrides: dict[str, Any]) -> None:
    """Put the flags into the environment, since the workers read their settings there."""
    said = {name: str(value) for name, value in overrides.items() if value is not None}
    if said:
        from runtime_server.settings import PREFIX

        os.environ.update({PREFIX + name.upper(): value for name, value in said.items()})


def _run(check_config: bool) -> None:
    from runtime_server.cli import serve
    from runtime_server.settings import load

    settings = load()
    if check_config:
        raise SystemExit(0 if serve.check_config(settings) else 1)
    serve.serve(settings)


SECTIONS = {
    "Runtimes": {
        "start": "starting:start",
        "ls": "listings:ls",
        "inspect": "listings:inspect",
        "history": "listings:history",
        "pause": "lifecycle:pause",
        "resume": "lifecycle:resume",
        "stop": "lifecycle:stop",
        "restart": "lifecycle:restart",
        "update": "lifecycle:update",
        "rm": "lifecycle:rm",
    },
    "Inside a runtime": {
        "logs": "inside:logs",
        "exec": "inside:execute",
        "cp": "copying:cp",
        "files": "copying:files",
        "stats": "watching:stats",
        "events": "watching:events",
    },
    "Images, volumes and what is left behind": {
        "pull": "images:pull",
        "images": "images:images",
        "rmi": "images:rmi",
        "build": "building:build",
        "volumes": "stock:volumes",
        "volume": "stock:volume",
        "workspaces": "stock:workspaces",
        "workspace": "stock:workspace",
        "prune": "stock:prune",
    },
    "The command line": {
        "context": "contexts:context",
        "doctor": "doctor:doctor",
        "completion": "completion:completion",
    },
    "The server on this machine": {
        "serve": "main:serve_command",
        "drain": "upkeep:drain",
        "purge": "upkeep:purge",
        "keys": "keys:keys",
        "firewall": "network:firewall",
        "nginx-config": "nginx:nginx_config",
    },
}
"""Where each command is."""

ALSO = {"ps": "ls", "unpause": "resume", "run": "start"}
"""What docker calls some of them."""


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    also=ALSO,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=examples("runtime-server --port 8090", "runtime-server start --name web -p 8000 busybox httpd -f -p 8000"),
)
@click.version_option(__version__, "-V", "--version", prog_name="runtime-server")
@_options
@server_options
@click.pass_context
def main(context: click.Context, /, check_config: bool, **overrides: Any) -> None:
    """Start, pause, resume and stop container runtimes over HTTP.

    Without a command it serves. Settings come from RUNTIME_SERVER_* in the environment; flags override them.
    """
    context.obj = given_of(overrides)
    _apply(overrides)
    if context.invoked_subcommand is None or check_config:
        _run(check_config)


@click.command(name="serve", epilog=examples("runtime-server serve --bind unix:/run/runtime-server/api.sock"))
@_options
def serve_command(check_config: bool, **overrides: Any) -> None:
    """Serve the API until SIGTERM (the default)."""
    _apply(overrides)
    _run(check_config)
