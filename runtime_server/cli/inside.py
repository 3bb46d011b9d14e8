"""``logs`` and ``exec``."""

from __future__ import annotations

import base64
import shlex
import sys
from typing import IO, TYPE_CHECKING, Any

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.exits import FAILED, tell
from runtime_server.cli.output import as_data, echo_json
from runtime_server.cli.values import DURATION, MOMENT, environment, examples, runtime_argument

if TYPE_CHECKING:
    from runtime_server.models import ExecOutcome, LogLine

NOT_EXECUTABLE, NOT_THERE = 126, 127
"""What shells, and ``docker exec``, exit with where a command can't be run, or isn't there."""


@click.command(
    epilog=examples("runtime-server logs -f --tail 20 web", "runtime-server logs --since 10m -t web 2> stderr.txt")
)
@runtime_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the runtime ends; pauses don't end it.")
@click.option("-n", "--tail", default="all", show_default=True, metavar="LINES", help="Only the last ones.")
@click.option("--since", type=MOMENT, help="From there on: RFC 3339, Unix seconds, or how long ago, e.g. 10m.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line.")
@click.option("--stdout", "only_stdout", is_flag=True, help="Only what was written to stdout.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only what was written to stderr.")
@remote
def logs(
    session: Session,
    runtime: str,
    *,
    follow: bool,
    tail: str,
    since: str | None,
    timestamps: bool,
    only_stdout: bool,
    only_stderr: bool,
) -> None:
    """Show what a runtime writes.

    Its stderr comes on stderr; no line is lost or repeated over lost connections. With -o json: one object
    a line, with stream, time and line.
    """
    if tail != "all" and not tail.isdecimal():
        raise click.BadParameter("must be a number or `all`", param_hint="--tail")
    both = only_stdout == only_stderr
    with session.client.logs(
        runtime,
        follow=follow,
        tail="all" if tail == "all" else int(tail),
        since=since,
        stdout=both or only_stdout,
        stderr=both or only_stderr,
    ) as lines:
        for each in lines:
            if session.json:
                echo_json(as_data(each), compact=True)
            else:
                _write(each, timestamps, follow)


def _write(line: LogLine, timestamps: bool, flush: bool) -> None:
    # As it is, escapes included: what a program writes to its terminal is meant for one.
    target = sys.stderr if line.stream == "stderr" else sys.stdout
    target.write(f"{line.time} {line.line}" if timestamps and line.time else line.line)
    if flush or target is sys.stderr:
        target.flush()


@click.command(
    name="exec",
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "runtime-server exec -it web",
        "runtime-server exec -e DEBUG=1 -w /srv web make test",
        "echo 'select 1' | runtime-server exec -i db psql",
    ),
)
@click.option("-i", "--interactive", is_flag=True, help="Give it this command's input; without -t all of it at once.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal; with -i this one.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Variable; without a value: as here.")
@click.option("-w", "--workdir", "working_dir", help="Working directory.")
@click.option("-u", "--user", help="User: name, uid or uid:gid.")
@click.option("--timeout", type=DURATION, help="When it is killed, but for terminals.  [default: 60s]")
@runtime_argument
@click.argument("command", nargs=-1)
@remote
def execute(
    session: Session,
    runtime: str,
    command: tuple[str, ...],
    *,
    interactive: bool,
    tty: bool,
    env: tuple[str, ...],
    **given: Any,
) -> None:
    """Run a command in a running runtime.

    It exits with the command's exit code. With -it and no command it is a shell: bash, or sh where there is
    none. Options come before the runtime.
    """
    variables = environment(env)
    if interactive and tty:
        _terminal(session, runtime, command, variables, given)
    if not command:
        raise click.UsageError("A command is needed, but with -it.")
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    fields |= {"environment": variables, "tty": tty}
    if interactive:
        data = sys.stdin.buffer.read()
        fields["stdin"] = data.decode() if session.json else base64.b64encode(data).decode("ascii")
    from runtime_server.errors import CommandNotExecutable, CommandNotFound

    try:
        outcome = (
            _told(session, runtime, command, fields) if session.json else _run(session, runtime, command, fields)
        )
    except (CommandNotFound, CommandNotExecutable) as error:
        tell(error, as_json=session.json)
        raise SystemExit(NOT_THERE if isinstance(error, CommandNotFound) else NOT_EXECUTABLE) from None
    if outcome is not None and outcome.timed_out:
        click.echo("The command took too long and was killed; --timeout gives it more time.", err=True)
    raise SystemExit(FAILED if outcome is None or outcome.exit_code is None else outcome.exit_code)


def _told(session: Session, runtime: str, command: tuple[str, ...], fields: dict[str, Any]) -> ExecOutcome | None:
    result = session.client.exec_in_runtime(runtime, command, **fields)
    echo_json(as_data(result))
    return result


def _run(session: Session, runtime: str, command: tuple[str, ...], fields: dict[str, Any]) -> ExecOutcome | None:
    targets: dict[str, IO[bytes]] = {
        "stdout": sys.stdout.buffer,
        "stderr": sys.stderr.buffer,
    }
    with session.client.exec(runtime, command, stream=True, encoding="base64", **fields) as chunks:
        for chunk in chunks:
            targets[chunk.stream].write(base64.b64decode(chunk.data))
            targets[chunk.stream].flush()
        return chunks.result


def _terminal(
    session: Session, runtime: str, command: tuple[str, ...], variables: dict[str, str], given: dict[str, Any]
) -> None:
    from runtime_server.cli import screen

    if given.pop("timeout") is not None:
        raise click.UsageError("--timeout isn't for terminals.")
    if session.json:
        raise click.UsageError("-o json isn't for terminals.")
    if not sys.stdin.isatty():
        raise click.UsageError("With -it the input must be a terminal; leave out -t.")
    source, target = sys.stdin.fileno(), sys.stdout.fileno()
    size = screen.size(source)
    with session.client.terminal(
        runtime, _line(command, variables), rows=size and size.lines, columns=size and size.columns, **given
    ) as terminal:
        code = screen.attach(terminal, source, target)
    raise SystemExit(FAILED if code is None else code)


def _line(command: tuple[str, ...], variables: dict[str, str]) -> str | None:
    """The command for a shell that puts itself aside; None: the server's own choice of a shell."""
    if not command and not variables:
        return None
    line = shlex.join(command) if command else "$(command -v bash || command -v sh)"
    exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return (f"export {exported}; " if exported else "") + f"exec {line}"
