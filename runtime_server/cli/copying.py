"""``cp`` and ``files``: what is in a runtime's file system."""

from __future__ import annotations

import os
import posixpath
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime_server.cli.connection import Session, remote
from runtime_server.cli.output import Row, ago, as_data, clean, decimal, echo_json, echo_table
from runtime_server.cli.unpacking import Refused, unpack
from runtime_server.cli.values import complete_runtime, examples

if TYPE_CHECKING:
    from runtime_server.models import FileInfo, FilesWritten


@click.command(
    epilog=examples(
        "runtime-server cp ./src web:/srv/src",
        "runtime-server cp web:/var/log/app.log .",
        "runtime-server cp web:/srv - | tar -t",
    )
)
@click.argument("source", shell_complete=complete_runtime)
@click.argument("target", shell_complete=complete_runtime)
@click.option("-a", "--archive", is_flag=True, help="Keep the owners' numbers.")
@remote
def cp(session: Session, source: str, target: str, archive: bool) -> None:
    """Copy files and folders between a runtime and here.

    As with `docker cp`, RUNTIME:PATH names one inside, a folder that is there gets the copy into it, `folder/.` means
    what is in it, and `-` is a tar on stdin or stdout. It works while the runtime is paused or stopped, too. Devices
    aren't copied here, nor is anything written outside of TARGET.
    """
    there, here = _split(source), _split(target)
    if (there is None) == (here is None):
        raise click.UsageError("One of both must be RUNTIME:PATH, the other a path here or -.")
    if here is not None:
        _report(session, _send(session, source, *here, archive=archive))
    elif there is not None:
        _fetch(session, *there, target, archive=archive)


def _split(text: str) -> tuple[str, str] | None:
    """Runtime and path; None for a path here: one that begins with / or . always is."""
    if text == "-" or text.startswith(("/", ".")):
        return None
    runtime, colon, path = text.partition(":")
    if not colon or not runtime:
        return None
    return runtime, path if path.startswith("/") else f"/{path}"


def _send(session: Session, source: str, runtime: str, path: str, *, archive: bool) -> FilesWritten:
    client = session.client
    if source == "-":
        return client.put_archive(runtime, path, sys.stdin.buffer, owner="keep" if archive else None)
    found = os.stat(source)
    if stat.S_ISDIR(found.st_mode):
        if posixpath.basename(source) != "." and is_folder(session, runtime, path):
            path = posixpath.join(path, Path(source).absolute().name)
        return client.put_archive(runtime, path, source, owner="keep" if archive else None)
    if is_folder(session, runtime, path):
        path = posixpath.join(path, Path(source).name)
    elif path.endswith("/"):
        raise click.ClickException(f"{runtime}:{path} isn't a folder.")
    owner = f"{found.st_uid}:{found.st_gid}" if archive else None
    return client.put_file(runtime, path, source, mode=stat.S_IMODE(found.st_mode), owner=owner)


def is_folder(session: Session, runtime: str, path: str) -> bool:
    """Whether there is a folder at the path, links followed."""
    from runtime_server.errors import PathConflict, PathNotFound

    try:
        found = session.client.list_folder(runtime, path, limit=2)
        name = posixpath.basename(found.path)
        if len(found.entries) != 1 or found.entries[0].name != name:
            return True
        # A file lists itself; so does a folder with nothing in it but one of its own name.
        session.client.list_folder(runtime, posixpath.join(found.path, name), limit=1)
    except (PathNotFound, PathConflict):
        return False
    return True


def _report(session: Session, written: FilesWritten) -> None:
    for warning in written.warnings:
        click.echo(clean(f"Warning: {warning}"), err=True)
    if session.json:
        echo_json(as_data(written))


def _fetch(session: Session, runtime: str, path: str, target: str, *, archive: bool) -> None:
    asked = path.rstrip("/")
    content = posixpath.basename(asked) == "."
    asked = (posixpath.dirname(asked) if content else asked) or "/"
    if target == "-":
        session.client.get_archive(runtime, asked, sys.stdout.buffer)
        return
    into = Path(target)
    with tempfile.TemporaryFile() as file:
        session.client.get_archive(runtime, asked, file)
        file.seek(0)
        if into.is_dir() and not content:
            into = into / (posixpath.basename(asked) or runtime)
        elif target.endswith("/") and not into.is_dir():
            raise click.ClickException(f"{target} isn't a folder.")
        try:
            done = unpack(file, into, owners=archive)
        except Refused as refused:
            raise click.ClickException(clean(f"{refused}")) from None
    for name in done.left_out:
        click.echo(clean(f"Warning: {name} isn't a file, a folder or a link, and was left out."), err=True)
    if session.json:
        echo_json({"path": str(into), "entries": done.entries, "bytes": done.size})


@click.group(epilog=examples("runtime-server files ls web:/srv"))
def files() -> None:
    """List and delete files in a runtime."""


@files.command(name="ls", epilog=examples("runtime-server files ls web:/srv"))
@click.argument("place", metavar="RUNTIME:PATH", shell_complete=complete_runtime)
@remote
def list_files(session: Session, place: str) -> None:
    """List a folder of a runtime."""
    found = session.client.list_folder(*_inside(place), limit=10_000)
    if session.json:
        echo_json(as_data(found))
        return
    echo_table(("MODE", "OWNER", "SIZE", "CHANGED", "NAME"), map(_row, found.entries))
    if found.truncated:
        click.echo("There are more.", err=True)


def _row(entry: FileInfo) -> Row:
    sign = {"folder": "/", "other": "*"}.get(entry.type, "")
    name = entry.name + (f" -> {entry.target}" if entry.target is not None else sign)
    size = decimal(entry.size) if entry.type == "file" else ""
    return (entry.mode, entry.owner or "", size, ago(entry.mtime), name)


@files.command(name="rm", epilog=examples("runtime-server files rm -r web:/srv/old"))
@click.argument("places", metavar="RUNTIME:PATH…", nargs=-1, required=True, shell_complete=complete_runtime)
@click.option("-r", "--recursive", is_flag=True, help="Also folders that aren't empty.")
@remote
def remove_files(session: Session, places: tuple[str, ...], recursive: bool) -> None:
    """Delete files and folders of a runtime."""
    for place in places:
        written = session.client.delete_file(*_inside(place), recursive=recursive)
        if session.json:
            echo_json(as_data(written), compact=True)
        else:
            click.echo(place)


def _inside(place: str) -> tuple[str, str]:
    found = _split(place)
    if found is None:
        raise click.UsageError(f"{place!r} must be RUNTIME:PATH.")
    return found
