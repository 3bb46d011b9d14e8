"""Arguments as docker writes them: times, variables, ports, mounts; and names that a shell can complete."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    _Seconds = click.ParamType[float, Any]
    _Text = click.ParamType[str, Any]
else:
    _Seconds = _Text = click.ParamType  # not generic in older versions

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?[smhd])+", re.ASCII)


def seconds(text: str) -> float:
    """``90``, ``90s``, ``1h30m`` or ``2d`` in seconds.

    Raises:
        ValueError: it is none of these.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise ValueError("must be seconds, or a time such as 90s, 1h30m or 2d")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))


class Duration(_Seconds):
    """A length of time."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See ``seconds``."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


class Moment(_Text):
    """A point in time: RFC 3339, Unix seconds, or how long ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As the API takes it; what is a duration is taken from now."""
        if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII) or "-" in value:
            return str(value)
        try:
            return f"{time.time() - seconds(value):.3f}"
        except ValueError:
            self.fail(f"{value!r} must be an RFC 3339 time, Unix seconds, or how long ago, such as 10m", param, ctx)


DURATION = Duration()
MOMENT = Moment()


def environment(given: tuple[str, ...], files: tuple[Path, ...] = ()) -> dict[str, str]:
    """Variables of ``-e NAME=value``, ``-e NAME`` (as it is here) and files of such lines; options win over files."""
    lines: list[str] = []
    for file in files:
        lines += [line for line in file.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    found = {}
    for each in (*lines, *given):
        name, equals, value = each.partition("=")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def pairs(given: tuple[str, ...], what: str, separator: str = "=", *, lone: bool = False) -> dict[str, str]:
    """``name=value``, several times; ``lone`` allows a name without a value.

    Raises:
        click.UsageError: one has no separator.
    """
    found = {}
    for each in given:
        name, found_separator, value = each.partition(separator)
        if not name or not (found_separator or lone):
            raise click.UsageError(f"{what}: {each!r} must be name{separator}value.")
        found[name] = value
    return found


def port(text: str) -> dict[str, Any]:
    """``[address:][host port:]container port[/protocol]`` as the API's ``PortBinding``.

    Raises:
        click.UsageError: it isn't that.
    """
    match = re.fullmatch(
        r"(?:(?P<ip>\[[0-9a-fA-F:]+\]|[^:\[\]]*):)?(?:(?P<host>\d*):)?(?P<port>\d+)(?:/(?P<kind>tcp|udp))?",
        text,
        re.A,
    )
    if match is None:
        raise click.UsageError(f"-p: {text!r} must be [address:][host port:]container port[/tcp|udp].")
    address, host = match["ip"], match["host"]
    if host is None and address is not None and address.isdecimal():
        address, host = None, address
    found: dict[str, Any] = {"container_port": int(match["port"])}
    if host:
        found["host_port"] = int(host)
    if address:
        found["host_ip"] = address.strip("[]")
    if match["kind"]:
        found["protocol"] = match["kind"]
    return found


def volume(text: str) -> dict[str, str]:
    """``source:target[:ro|rw]`` as the API's ``VolumeMount``.

    Raises:
        click.UsageError: it isn't that.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise click.UsageError(f"-v: {text!r} must be source:target or source:target:ro.")
    found = {"host_path": parts[0], "container_path": parts[1]}
    return found if len(parts) == 2 else {**found, "mode": parts[2]}


def restart_policy(text: str) -> dict[str, Any]:
    """``no``, ``always``, ``unless-stopped``, ``on-failure[:times]`` as the API's ``RestartPolicy``.

    Raises:
        click.UsageError: the number isn't one.
    """
    name, colon, times = text.partition(":")
    if colon and not times.isdecimal():
        raise click.UsageError(f"--restart: {times!r} must be a number.")
    return {"Name": name, **({"MaximumRetryCount": int(times)} if colon else {})}


def complete_runtime(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runtimes by name and id for the shell; none where the server doesn't answer at once."""
    from runtime_server.cli.connection import Given, session_of
    from runtime_server.client import RetryPolicy
    from runtime_server.errors import RuntimeClientError

    known = context.params
    given = Given(known.get("url"), known.get("api_key"), known.get("context_name"))
    try:
        with session_of(context, given).make_client(RetryPolicy(max_attempts=1), timeout=(0.5, 2)) as client:
            found = list(client.list_runtimes(limit=1000))
    except (RuntimeClientError, click.ClickException, OSError):
        return []
    words = [(each.name or each.runtime_id, f"{each.status}, {each.image}") for each in found]
    return [CompletionItem(word, help=text) for word, text in words if word.startswith(incomplete)]


def runtime_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument that names a runtime."""
    return click.argument("runtime", metavar="RUNTIME", shell_complete=complete_runtime)(function)


def examples(*lines: str) -> str:
    """A command's epilog."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
