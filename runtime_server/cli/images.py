"""``pull``, ``images`` and ``rmi``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.exits import for_each
from runtime_server.cli.output import Row, ago, as_data, decimal, echo_answers, echo_json
from runtime_server.cli.values import examples

if TYPE_CHECKING:
    from runtime_server.models import Image


@click.command(
    epilog=examples(
        "runtime-server pull busybox",
        "runtime-server pull --username me --password-stdin registry.example.com/team/agent < token",
    )
)
@click.argument("image")
@click.option("-q", "--quiet", is_flag=True, help="Only the image's name at the end.")
@click.option("--platform", help="E.g. linux/amd64.")
@click.option("--username", help="For this pull; the password is read from stdin.")
@click.option("--password-stdin", is_flag=True, help="As it is anyway with --username; docker's word for it.")
@remote
def pull(
    session: Session, image: str, *, quiet: bool, platform: str | None, username: str | None, password_stdin: bool
) -> None:
    """Pull an image onto the server's engine.

    On a terminal with a bar per layer. With -o json: one object a line. Credentials are for this one pull, and are
    kept nowhere.
    """
    if password_stdin and not username:
        raise click.UsageError("--password-stdin goes with --username.")
    login = {"username": username, "password": sys.stdin.readline().rstrip("\n")} if username else None
    with session.client.pull_image(image, platform=platform, registry_auth=login) as found:
        if session.json:
            for status in found:
                echo_json(as_data(status), compact=True)
            return
        if quiet:
            found.wait()
        else:
            from runtime_server.cli.progress import Bars, show_pull

            with Bars() as bars:
                for status in found:
                    show_pull(bars, status)
    click.echo(image)


@click.command(epilog=examples("runtime-server images", "runtime-server images -q"))
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@remote
def images(session: Session, quiet: bool) -> None:
    """List the images that can be started."""
    found = session.client.list_images()
    only = (lambda each: _short(each.image_id)) if quiet else None
    echo_answers(found, session.json, ("IMAGE", "ID", "CREATED", "SIZE"), _row, only=only)


def _row(image: Image) -> Row:
    names = "\n".join(image.references) or "<none>"
    return (names, _short(image.image_id), ago(image.created_at), decimal(image.size_bytes))


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


@click.command(epilog=examples("runtime-server rmi registry.example.com/team/agent:old"))
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@remote
def rmi(session: Session, images: tuple[str, ...]) -> None:
    """Take names off images, and with the last one the image off the engine."""
    for_each(images, session.client.delete_image, as_json=session.json, shown=lambda _, answer: answer.message)
