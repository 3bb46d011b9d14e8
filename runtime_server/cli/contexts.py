"""``context``: named servers, and which of them is in use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from runtime_server.cli import context_file
from runtime_server.cli.context_file import Contexts, ContextsBroken, Named
from runtime_server.cli.output import echo_json, echo_table, sentence
from runtime_server.cli.values import examples
from runtime_server.paths import NotPrivate


@click.group(epilog=examples("runtime-server context add ci --url https://runtimes.example.com --use"))
def context() -> None:
    """Name servers, and choose among them.

    They are in contexts.json in your folder of settings (~/.config/runtime-server), which nobody else can read.
    """


@context.command(
    epilog=examples(
        "runtime-server context add ci --url https://runtimes.example.com --api-key-stdin < key",
        "runtime-server context add here --url http://127.0.0.1:8090 --use",
    )
)
@click.argument("name")
@click.option("--url", required=True, help="The server's address.")
@click.option("--api-key", metavar="KEY", help="Its key; other users see it in `ps` while this runs.")
@click.option("--api-key-stdin", is_flag=True, help="Read the key from stdin.")
@click.option("--use", "used", is_flag=True, help="Also use it from now on.")
def add(name: str, url: str, api_key: str | None, api_key_stdin: bool, used: bool) -> None:
    """Name a server; a name that there is gets the new address.

    Without a key of its own, RUNTIME_SERVER_API_KEY or this machine's key is used.
    """
    from runtime_server.client.endpoint import find_endpoint

    if api_key_stdin:
        if api_key is not None:
            raise click.UsageError("--api-key and --api-key-stdin exclude each other.")
        api_key = sys.stdin.readline().strip()
    try:
        endpoint = find_endpoint(url, api_key or "")
    except ValueError as error:
        raise click.UsageError(sentence(error)) from None
    with _told():
        known = context_file.read().having(context_file.checked(name), Named(endpoint.url, endpoint.key))
        context_file.write(Contexts(name if used else known.current, known.named))
    click.echo(f"{name} is {endpoint.url}{', and in use' if used else ''}.")


@context.command(name="ls", epilog=examples("runtime-server context ls"))
@click.option("-o", "--output", type=click.Choice(["table", "json"]), help="For people, or for programs.")
def list_contexts(output: str | None) -> None:
    """List the named servers; never their keys."""
    with _told():
        known = context_file.read()
    if output == "json":
        echo_json(
            [
                {
                    "name": name,
                    "url": each.url,
                    "has_key": each.api_key is not None,
                    "in_use": name == known.current,
                }
                for name, each in sorted(known.named.items())
            ]
        )
        return
    echo_table(
        ("NAME", "URL", "KEY"),
        (
            (f"{name} *" if name == known.current else name, each.url, "yes" if each.api_key else "")
            for name, each in sorted(known.named.items())
        ),
    )


@context.command(epilog=examples("runtime-server context use ci", "runtime-server context use --none"))
@click.argument("name", required=False)
@click.option("--none", "nothing", is_flag=True, help="Use none: this machine's server.")
def use(name: str | None, nothing: bool) -> None:
    """Work on that server from now on, where neither flags nor the environment name another."""
    if bool(name) == nothing:
        raise click.UsageError("Either a name or --none.")
    with _told():
        known = context_file.read()
        if name:
            known.get(name)
        context_file.write(Contexts(name, known.named))
    click.echo(f"{name} is in use." if name else "No context is in use.")


@context.command(name="rm", epilog=examples("runtime-server context rm ci"))
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Forget a server."""
    with _told():
        known = context_file.read()
        for name in names:
            known = known.without(name)
        context_file.write(known)
    for name in names:
        click.echo(name)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (ContextsBroken, NotPrivate) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}.") from None
