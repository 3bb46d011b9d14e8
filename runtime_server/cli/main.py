"""The command line: ``runtime-server`` serves; its subcommands look after an instance."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime_server import __version__
from runtime_server.cli import keys, network, nginx, upkeep
from runtime_server.settings import PREFIX, load

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
    for name, value in overrides.items():
        if value is not None:
            os.environ[PREFIX + name.upper()] = str(value)


def _run(check_config: bool) -> None:
    from runtime_server.cli import serve

    settings = load()
    if check_config:
        raise SystemExit(0 if serve.check_config(settings) else 1)
    serve.serve(settings)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="runtime-server")
@_options
@click.pass_context
def main(context: click.Context, /, check_config: bool, **overrides: Any) -> None:
    """Start, pause, resume and stop container runtimes over HTTP.

    Without a command it serves. Settings come from RUNTIME_SERVER_* in the environment; flags override them.
    """
    _apply(overrides)
    if context.invoked_subcommand is None or check_config:
        _run(check_config)


@main.command(name="serve")
@_options
def serve_command(check_config: bool, **overrides: Any) -> None:
    """Serve the API until SIGTERM (the default)."""
    _apply(overrides)
    _run(check_config)


main.add_command(upkeep.drain)
main.add_command(upkeep.purge)
main.add_command(keys.keys)
main.add_command(network.firewall)
main.add_command(nginx.nginx_config)
