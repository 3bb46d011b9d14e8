"""Which server a command works on, and with which key."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from runtime_server.cli import context_file
from runtime_server.cli.exits import told
from runtime_server.cli.output import sentence
from runtime_server.paths import NotPrivate

if TYPE_CHECKING:
    from runtime_server.client import RetryPolicy, RuntimeServerClient

CONTEXT_VARIABLE = "RUNTIME_SERVER_CONTEXT"
URL_VARIABLE = "RUNTIME_SERVER_URL"
KEY_VARIABLE = "RUNTIME_SERVER_API_KEY"
ATTEMPTS = 5
"""Of each call: a server that isn't there is told of within two seconds."""

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says of the server; None where it says nothing."""

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    context: str | None = None
    output: str | None = None

    def over(self, other: Given) -> Given:
        """This, and what only the other says: options before the command count where none come after it."""
        if self.url or self.context:
            other = Given(None, other.api_key, None, other.output)
        return Given(
            self.url or other.url,
            other.api_key if self.api_key is None else self.api_key,
            self.context or other.context,
            self.output or other.output,
        )


@dataclass(frozen=True, slots=True)
class Server:
    """An address and a key, as ``RuntimeServerClient`` takes them."""

    url: str | None
    api_key: str | None = field(repr=False)


def choose(given: Given) -> Server:
    """The server: ``--url``, ``--context``, then ``RUNTIME_SERVER_CONTEXT``, ``RUNTIME_SERVER_URL``, the context in
    use, and this machine's. A context's key goes to that context's server only.

    Raises:
        click.UsageError: both are given, or there is no such context.
    """
    if given.url and given.context:
        raise click.UsageError("--url and --context exclude each other.")
    if given.url:
        return Server(given.url, given.api_key)
    name = given.context or os.environ.get(CONTEXT_VARIABLE)
    if not name and os.environ.get(URL_VARIABLE):
        return Server(None, given.api_key)
    try:
        known = context_file.read()
        name = name or known.current
        if not name:
            return Server(None, given.api_key)
        server = known.get(name)
    except (context_file.ContextsBroken, NotPrivate) as error:
        raise click.UsageError(str(error)) from None
    return Server(server.url, given.api_key if given.api_key is not None else server.api_key)


class Session:
    """What a command works with: the client, made at its first use, and how answers are to look."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._client: RuntimeServerClient | None = None

    @property
    def json(self) -> bool:
        """Whether a program reads the answers."""
        return self._given.output == "json"

    @property
    def elsewhere(self) -> bool:
        """Whether the command line or the environment names a server."""
        server = choose(self._given)
        return server.url is not None or bool(os.environ.get(URL_VARIABLE))

    @property
    def client(self) -> RuntimeServerClient:
        """The server's client."""
        if self._client is None:
            from runtime_server.client import RetryPolicy

            self._client = self.make_client(RetryPolicy(max_attempts=ATTEMPTS))
        return self._client

    def make_client(self, retry: RetryPolicy, timeout: float | tuple[float, float] = (5, 60)) -> RuntimeServerClient:
        """A client of one's own, for threads that need one or callers that can't wait."""
        from runtime_server.client import RuntimeServerClient

        server = choose(self._given)
        try:
            return RuntimeServerClient(server.url, api_key=server.api_key, retry=retry, timeout=timeout)
        except ValueError as error:
            raise click.UsageError(sentence(error)) from None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


_OPTIONS = (
    click.option("--url", metavar="URL", help=f"The server's address.  [env: {URL_VARIABLE}]"),
    click.option("--api-key", metavar="KEY", help=f"The API key.  [env: {KEY_VARIABLE}, which nobody sees in `ps`]"),
    click.option("--context", "context_name", metavar="NAME", help=f"A named server.  [env: {CONTEXT_VARIABLE}]"),
    click.option(
        "-o", "--output", type=click.Choice(["table", "json"]), help="For people, or for programs.  [default: table]"
    ),
)


def options(function: Function) -> Function:
    """The options that name a server, on a command or before it."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def given_of(values: dict[str, Any]) -> Given:
    """Take the options' values away from the others."""
    return Given(
        values.pop("url", None), values.pop("api_key", None), values.pop("context_name", None), values.pop("output")
    )


def session_of(context: click.Context, given: Given = Given()) -> Session:
    """The session of what the command says, and what was said before it."""
    before = context.find_object(Given)
    return Session(given.over(before) if before is not None else given)


def remote(function: Function) -> Function:
    """Make a command one that works on a server: its first argument is the session, its errors are exit codes."""

    @functools.wraps(function)
    def run(*arguments: Any, **values: Any) -> Any:
        session = session_of(click.get_current_context(), given_of(values))
        try:
            with told(session.json):
                return function(session, *arguments, **values)
        finally:
            session.close()

    return options(run)
