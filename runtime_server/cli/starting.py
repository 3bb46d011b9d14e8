"""``start``, with the words of ``docker run``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime_server.cli import values
from runtime_server.cli.connection import Function, Session, remote
from runtime_server.cli.output import as_data, clean, console, echo_json
from runtime_server.cli.values import DURATION, examples

if TYPE_CHECKING:
    from runtime_server.models import Runtime

FIRST_WAIT = 5.0
"""Seconds that the start itself may take; the rest of the wait looks at it now and then."""
_PULL = {"always": "Always", "missing": "IfNotPresent", "never": "Never"}

_OPTIONS = (
    click.option("--name", help="An alias, unique per owner."),
    click.option("--session", "session_id", metavar="ID", help="At most one live runtime per session."),
    click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Variable; without a value: as here."),
    click.option(
        "--env-file",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File of such lines.",
    ),
    click.option("-p", "--publish", multiple=True, metavar="[[IP:]PORT:]PORT", help="Publish a port."),
    click.option("-v", "--volume", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Mount a folder or a volume."),
    click.option("-w", "--workdir", "working_dir", help="Working directory."),
    click.option("-u", "--user", help="User: name, uid or uid:gid."),
    click.option("--group-add", multiple=True, help="Supplementary group."),
    click.option("--hostname", help="Host name inside."),
    click.option("--entrypoint", help="Replaces the image's."),
    click.option("--rm", "auto_remove", is_flag=True, help="Remove it when it ends."),
    click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="Label."),
    click.option("--restart", metavar="POLICY", help="no, always, unless-stopped or on-failure[:times]."),
    click.option("--network", help="An allowed network."),
    click.option("--add-host", multiple=True, metavar="HOST:IP", help="Name of an address."),
    click.option("--cpus", type=float, help="CPU limit."),
    click.option("-m", "--memory", help='Memory limit, e.g. "512m".'),
    click.option("--pids-limit", type=int, help="Process limit."),
    click.option("--shm-size", help="Size of /dev/shm."),
    click.option("--tmpfs", multiple=True, metavar="PATH[:OPTIONS]", help="Mount a tmpfs."),
    click.option("--read-only", is_flag=True, help="Read-only root file system."),
    click.option("--init/--no-init", default=None, help="An init as process 1.  [default: init]"),
    click.option("--gpus", help="`all`, or how many."),
    click.option("--platform", help="E.g. linux/amd64."),
    click.option("--runtime", "runtime_class", help="OCI runtime."),
    click.option("--privileged", is_flag=True, help="All devices and capabilities."),
    click.option("--device", "devices", multiple=True, help="Host device."),
    click.option("--cap-add", multiple=True, help="Capability beyond the default ones."),
    click.option("--cap-drop", multiple=True, help="Default capability to drop."),
    click.option("--pull", type=click.Choice(list(_PULL)), help="When to pull the image.  [default: missing]"),
    click.option("--workspace", metavar="PATH", help="Where the session's workspace is mounted; `none`."),
    click.option("--main-port", type=int, help="Port of the main service."),
    click.option("--ttl", type=DURATION, help="How long until it is stopped and removed, e.g. 2h."),
    click.option("--retention", type=DURATION, help="How long it stays once stopped."),
    click.option("-d", "--detach", is_flag=True, help="As it is anyway."),
    click.option(
        "--wait", type=DURATION, default=300.0, show_default=True, help="How long to wait until it runs; 0: don't."
    ),
    click.option("--idempotency-key", metavar="KEY", help="All starts with one key are one start."),
)


def _options(function: Function) -> Function:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "runtime-server start --name web -p 8000 busybox httpd -f -p 8000",
        "runtime-server start --session s1 -e TOKEN --ttl 2h --memory 1g ghcr.io/example/agent",
    ),
)
@_options
@click.argument("image")
@click.argument("command", nargs=-1)
@remote
def start(
    session: Session, image: str, command: tuple[str, ...], wait: float, idempotency_key: str | None, **given: Any
) -> None:
    """Start a runtime of IMAGE and print its id.

    It does so once the runtime runs and, where it says when, is ready. Options come before the image, what the
    runtime runs after it.
    """
    fields = fields_of(given)
    if command:
        fields["command"] = list(command)
    begun = time.monotonic()
    started = session.client.start_runtime(
        image=image, wait=min(wait, FIRST_WAIT), idempotency_key=idempotency_key, **fields
    )
    for warning in started.warnings:
        click.echo(clean(f"Warning: {warning}"), err=True)
    answer: Runtime = started
    if started.status == "starting" and wait > 0:
        answer = _wait(session, started.runtime_id, max(0.0, wait - (time.monotonic() - begun)))
        if session.json:
            kept = {"created": started.created, "warnings": started.warnings}
            echo_json({**as_data(answer), **kept})
            return
    if session.json:
        echo_json(as_data(answer))
    else:
        click.echo(answer.runtime_id)


def _wait(session: Session, runtime_id: str, seconds: float) -> Runtime:
    """The runtime once it runs; what it is waiting for is shown meanwhile, on a terminal."""
    if session.json or not sys.stderr.isatty():
        return session.client.wait_until(runtime_id, "running", seconds)
    from runtime_server.errors import DeadlineExceeded

    ends = time.monotonic() + seconds
    with console(err=True).status(f"{runtime_id} is starting") as shown:
        while True:
            left = ends - time.monotonic()
            try:
                return session.client.wait_until(runtime_id, "running", min(1.0, max(0.0, left)))
            except DeadlineExceeded:
                if left <= 0:
                    raise
            detail = session.client.get_runtime(runtime_id).status_detail
            if detail:
                from rich.text import Text

                shown.update(Text(clean(detail)))


def fields_of(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a ``StartRequest``; what wasn't said is left to the server.

    Raises:
        click.UsageError: an option isn't written as it must be.
    """
    renamed = {
        "environment": values.environment(given.pop("env"), given.pop("env_file")),
        "ports": [values.port(each) for each in given.pop("publish")],
        "volumes": [values.volume(each) for each in given.pop("volume")],
        "labels": values.pairs(given.pop("label"), "-l", lone=True),
        "extra_hosts": values.pairs(given.pop("add_host"), "--add-host", ":"),
        "tmpfs": values.pairs(given.pop("tmpfs"), "--tmpfs", ":", lone=True),
        "restart_policy": values.restart_policy(policy) if (policy := given.pop("restart")) else None,
        "image_pull_policy": _PULL[pull] if (pull := given.pop("pull")) else None,
        "gpus": int(gpus) if (gpus := given.pop("gpus")) and gpus.isdecimal() else gpus,
    }
    workspace = given.pop("workspace")
    if workspace is not None:
        renamed["workspace"] = False if workspace == "none" else workspace
    given.pop("detach")
    lists = {name: list(value) for name, value in given.items() if isinstance(value, tuple)}
    said = {**given, **lists, **renamed}
    return {name: value for name, value in said.items() if name == "workspace" or not _unsaid(value)} | (
        {"init": False} if given["init"] is False else {}
    )


def _unsaid(value: Any) -> bool:
    """A flag that is off, a list that is empty; a 0 says something."""
    return value is None or value is False or value in ([], {})
