"""What a command exits with, and how its errors are told."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from runtime_server.cli.output import as_data, clean, echo_json
from runtime_server.errors import (
    DeadlineExceeded,
    EngineTimeout,
    EngineUnreachable,
    Problem,
    RuntimeClientError,
    ServerDraining,
    ServerUnavailable,
    TransportError,
)

FAILED = 1
"""Anything that no other code names."""
USAGE = 2
"""The command line, or what it asks for, isn't valid (400, 413, 415, 422)."""
NOT_FOUND = 3
"""There is no such runtime, image, volume, path, … (404)."""
REFUSED = 4
"""Not with this key, by this policy, in this state or at this moment (401, 403, 409, 429, a draining server)."""
UNREACHABLE = 5
"""The server, or its engine, doesn't answer."""
INTERRUPTED = 130
"""Ctrl-C, as shells have it: 128 + SIGINT."""

_STATUSES = {
    **dict.fromkeys((400, 413, 415, 422), USAGE),
    404: NOT_FOUND,
    **dict.fromkeys((401, 403, 409, 429), REFUSED),
}


def exit_code(error: BaseException | None) -> int:
    """The code that tells what kind of error it is."""
    if isinstance(error, TransportError | ServerUnavailable | EngineUnreachable | EngineTimeout):
        return UNREACHABLE
    if isinstance(error, DeadlineExceeded):
        return exit_code(error.__cause__)
    if isinstance(error, ServerDraining):
        return REFUSED
    return _STATUSES.get(error.status, FAILED) if isinstance(error, Problem) else FAILED


def tell(error: RuntimeClientError, *, as_json: bool, about: str | None = None) -> None:
    """Say what went wrong, on stderr: a sentence, or one line of JSON."""
    if as_json:
        echo_json(_told(error), err=True, compact=True)
        return
    where = f"{about}: " if about else ""
    click.echo(clean(f"Error: {where}{error}"), err=True)
    if isinstance(error, Problem):
        for line in _fields(error):
            click.echo(clean(line), err=True)
    if error.request_id and isinstance(error, Problem) and error.status >= 500:
        click.echo(clean(f"The server's log has more under the request id {error.request_id}."), err=True)


def _told(error: RuntimeClientError) -> dict[str, object]:
    if isinstance(error, Problem):
        return error.to_body(error.request_id)
    code = "unreachable" if isinstance(error, TransportError) else "failed"
    return {"code": code, "detail": str(error), "retryable": error.retryable, "request_id": error.request_id}


def _fields(error: Problem) -> Iterator[str]:
    """What is wrong with which field, and what else would be possible."""
    for each in error.extensions.get("errors") or ():
        if isinstance(each, dict):
            where = ".".join(str(part) for part in each.get("loc") or ())
            yield f"  {where}: {each.get('msg')}"
    setting = error.extensions.get("setting")
    if isinstance(setting, str):
        yield f"The server's {setting} rules that."


def for_each(
    names: Iterable[str],
    act: Callable[[str], Any],
    *,
    as_json: bool,
    shown: Callable[[str, Any], str] | None = lambda name, _: name,
) -> None:
    """Act on each, whatever becomes of the others, and print their answers.

    Args:
        names: what to act on.
        act: gives the answer; None: refused, and it has said why.
        as_json: print the answers as one array.
        shown: else, what is printed of each; None: they are printed as an array all the same.

    Raises:
        SystemExit: one failed; with the first one's code.
    """
    done, failed = [], 0
    for each in names:
        try:
            answer = act(each)
        except RuntimeClientError as error:
            tell(error, as_json=as_json, about=each)
            failed = failed or exit_code(error)
            continue
        if answer is None:
            failed = failed or REFUSED
            continue
        done.append(answer)
        for warning in getattr(answer, "warnings", ()):
            click.echo(clean(f"Warning: {warning}"), err=True)
        if shown is not None and not as_json:
            click.echo(clean(shown(each, answer)))
    if shown is None or as_json:
        echo_json(as_data(done))
    if failed:
        raise SystemExit(failed)


@contextlib.contextmanager
def told(as_json: bool) -> Iterator[None]:
    """Errors as sentences and exit codes.

    Raises:
        SystemExit: with the code of what happened.
    """
    try:
        yield
    except RuntimeClientError as error:
        tell(error, as_json=as_json)
        raise SystemExit(exit_code(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        raise  # click ends quietly
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if as_json:
            sys.stderr.write(json.dumps({"code": "failed", "detail": what}) + "\n")
            raise SystemExit(FAILED) from None
        raise click.ClickException(f"{what}.") from None
