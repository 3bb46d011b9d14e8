"""API keys: made, listed and revoked; a running server takes note at its next request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from runtime_server.cli.output import sentence
from runtime_server.cli.upkeep import refuse_another_user, state_dir, use_state_dir
from runtime_server.cli.values import examples
from runtime_server.keys import KeyFile, KeyFileBroken
from runtime_server.paths import API_KEY_FILE, NotPrivate
from runtime_server.settings import Settings, load

GENERATED = "generated"
"""Stands for an id where the key is the one that the server generated."""


@click.group(epilog=examples("runtime-server keys add ci", "runtime-server keys list"))
def keys() -> None:
    """Make, list and revoke API keys. Only their hashes are stored; running servers need no restart."""


@keys.command(epilog=examples("runtime-server keys add ci > ci.key", "runtime-server keys add --admin ops"))
@click.argument("name")
@click.option("--admin", is_flag=True, help="It sees and acts on the runtimes of all owners.")
@state_dir
def add(name: str, admin: bool, state_dir: Path | None) -> None:
    """Make a key for the owner NAME and print it, this once.

    The key alone goes to stdout, so that it can be piped. An owner may have several keys, to change one for another.
    """
    with _told():
        made, key = _file(_settings(state_dir)).add(name, admin=admin)
    click.echo(f"{made.id} for {made.name}{' (admin)' if admin else ''}; it is not shown again:", err=True)
    click.echo(key)


@keys.command(name="list", epilog=examples("runtime-server keys list"))
@state_dir
def list_keys(state_dir: Path | None) -> None:
    """List the keys of the key file and the generated one; those of RUNTIME_SERVER_API_KEYS aren't here."""
    from runtime_server.web.auth import GENERATED_OWNER

    settings = _settings(state_dir)
    with _told():
        rows = [
            (each.id, each.name, "admin" if each.admin else "", _day(each.created_at))
            for each in _file(settings).read()
        ]
        generated = _generated(settings)
        if generated.exists():
            rows.append((GENERATED, GENERATED_OWNER, "", f"{_day(generated.stat().st_mtime)}  in {generated}"))
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, (12, 24, 5, 0), strict=True)).rstrip())
    if not rows:
        click.echo("There are no keys here.", err=True)


@keys.command(epilog=examples("runtime-server keys revoke ci"))
@click.argument("name", metavar="NAME|ID")
@state_dir
def revoke(name: str, state_dir: Path | None) -> None:
    """Revoke the key with that ID, or all keys of the owner NAME. They are refused from the next request on.

    `generated` revokes the key that the server generated; if no other is left, its next start generates a new one.
    Runtimes stay as they are.
    """
    from runtime_server.web.auth import GENERATED_OWNER

    settings = _settings(state_dir)
    with _told():
        gone = [each.id for each in _file(settings).revoke(name)]
        generated = _generated(settings)
        if name in (GENERATED, GENERATED_OWNER) and generated.exists():
            generated.unlink()
            gone.append(GENERATED)
    if not gone:
        raise click.ClickException(f"There is no key {name!r}; `runtime-server keys list` shows what there is.")
    click.echo(f"Revoked: {', '.join(gone)}.")


def _settings(directory: Path | None) -> Settings:
    use_state_dir(directory)
    settings = load()
    if settings.keys_file is None:
        refuse_another_user(settings.keys_path.parent)
    return settings


def _file(settings: Settings) -> KeyFile:
    path = settings.keys_path
    if settings.keys_file is None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return KeyFile(path)


def _generated(settings: Settings) -> Path:
    return settings.state_dir.expanduser().absolute() / API_KEY_FILE


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


@contextmanager
def _told() -> Iterator[None]:
    """Errors as sentences."""
    try:
        yield
    except ValueError as error:
        raise click.ClickException(sentence(error)) from None
    except (NotPrivate, KeyFileBroken) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}.") from None
