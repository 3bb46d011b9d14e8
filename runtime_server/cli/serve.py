"""Serving: the state prepared, the port free, then gunicorn in this process."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog

from runtime_server.cli.activation import check_handed_over, is_activated
from runtime_server.keys import KeyFile, KeyFileBroken
from runtime_server.paths import NotPrivate
from runtime_server.settings import Settings

if TYPE_CHECKING:
    from runtime_server.models import EngineVersion
    from runtime_server.state import State

MAX_SOCKET_PATH = 107
"""Bytes of a socket's path (unix(7): sun_path has 108, one of them for its end)."""


def prepare_state(settings: Settings) -> State:
    """Make the state directory, the key and the database ready, and log where a generated key lies.

    Raises:
        SystemExit: 1, with a sentence on stderr, where the directory can't be used.
    """
    from runtime_server.runtimes.urls import unserved
    from runtime_server.state import prepare
    from runtime_server.store.records import SchemaTooNew

    try:
        state = prepare(settings)
    except (NotPrivate, SchemaTooNew) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        click.echo(
            f"Error: the state directory {settings.state_dir} can't be used: {reason}. "
            "Choose another with --state-dir or RUNTIME_SERVER_STATE_DIR.",
            err=True,
        )
        raise SystemExit(1) from None
    if settings.routed:
        _prepare_gateway(settings)
    log = structlog.get_logger("runtime_server")
    if state.key_file is not None and state.key_file.exists():
        log.info(f"The API key is in {state.key_file}")
    elif settings.auth == "off":
        log.warning("RUNTIME_SERVER_AUTH=off: whoever reaches the port controls the runtimes.")
    warning = unserved(settings)
    if warning is not None:
        log.warning(warning)
    if settings.idle_timeout and not settings.routed:
        log.warning("RUNTIME_SERVER_IDLE_TIMEOUT has no effect without RUNTIME_SERVER_ROUTING.")
    return state


def _prepare_gateway(settings: Settings) -> None:
    from runtime_server.state import prepare_gateway

    try:
        prepare_gateway(settings)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        click.echo(f"RUNTIME_SERVER_GATEWAY_DIR: {settings.gateway_dir} can't be used: {reason}.", err=True)
        raise SystemExit(1) from None


def check_keys(settings: Settings) -> None:
    """Read the API keys.

    Raises:
        SystemExit: 2, with a sentence on stderr that says which entry is wrong, and doesn't hold it.
    """
    from runtime_server.web.auth import KeyRing

    try:
        KeyRing.from_settings(settings)
        if settings.auth == "on":
            KeyFile(settings.keys_path).read()
    except (NotPrivate, KeyFileBroken) as error:
        click.echo(f"RUNTIME_SERVER_KEYS_FILE: {error}", err=True)
        raise SystemExit(2) from None
    except ValueError as error:
        click.echo(f"{error}.", err=True)
        raise SystemExit(2) from None


def check_state(settings: Settings) -> None:
    """See that the state directory, where there is one, is nobody else's.

    Raises:
        SystemExit: 1, with a sentence on stderr.
    """
    from runtime_server.state import check

    try:
        check(settings)
    except (NotPrivate, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None


def check_port(host: str, port: int) -> None:
    """Say in plain words why the address can't be listened on; gunicorn would try for five seconds.

    Raises:
        click.ClickException: it is taken, not this machine's, or not allowed.
    """
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise click.ClickException(f"RUNTIME_SERVER_HOST: no address of this machine is known as {host!r}.") from None
    family, kind, _proto, _name, target = found[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(target)
            probe.listen(1)
        except OSError as error:
            another = "Choose another port with --port or RUNTIME_SERVER_PORT."
            reasons = {
                errno.EADDRINUSE: f"Another program listens on {where} already. {another}",
                errno.EADDRNOTAVAIL: f"RUNTIME_SERVER_HOST: {host} is not an address of this machine.",
                errno.EACCES: f"This user may not listen on port {port}. {another}",
            }
            reason = reasons.get(error.errno or 0, f"Can't listen on {where}: {error.strerror}.")
            raise click.ClickException(reason) from None


def check_socket(path: Path, setting: str = "BIND") -> None:
    """Say in plain words why the socket can't be made; gunicorn would remove one that is in use.

    Args:
        path: of the socket.
        setting: that it comes from.

    Raises:
        click.ClickException: another program listens there, or the folder can't be used.
    """
    name = f"RUNTIME_SERVER_{setting}"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise click.ClickException(f"{name}: the path has more than {MAX_SOCKET_PATH} bytes.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise click.ClickException(f"{name}: {path.parent} isn't a folder that this user may write to.")
    if not path.exists():
        return
    if not path.is_socket():
        raise click.ClickException(f"{name}: {path} is there and no socket.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        with suppress(ConnectionRefusedError, FileNotFoundError):  # left behind by one that ended
            probe.connect(str(path))
            raise click.ClickException(f"Another program listens on {path} already.")


def check_address(settings: Settings) -> None:
    """Say in plain words why the server can't listen where it is told to.

    Raises:
        click.ClickException: it can't.
    """
    if is_activated():
        check_handed_over(settings)
        return
    if settings.bind:
        check_socket(Path(settings.bind.removeprefix("unix:")))
    else:
        check_port(settings.host, settings.port)
    if settings.routed and settings.gateway_socket.exists():
        check_socket(settings.gateway_socket, "GATEWAY_DIR")


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. The environment must say what ``settings`` says: the workers read it again."""
    check_keys(settings)
    if settings.routed:
        _prepare_gateway(settings)  # the API's own socket may be in the folder that it makes
    check_address(settings)

    from gunicorn.app.base import BaseApplication

    from runtime_server import gunicorn_conf

    class Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
        """gunicorn with the settings of ``gunicorn_conf`` and no command line of its own."""

        def load_config(self) -> None:
            for name, value in vars(gunicorn_conf).items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> object:
            from runtime_server.wsgi import app

            return app

    Server().run()


def _where(settings: Settings) -> str:
    """Which engine was asked, and what names another."""
    from runtime_server.engine.discovery import discover
    from runtime_server.errors import EngineUnreachable

    another = "RUNTIME_SERVER_ENGINE or DOCKER_HOST names another."
    try:
        return f" Tried {discover(settings.engine).address}; {another}"
    except EngineUnreachable:
        return f" {another}"


def check_config(settings: Settings) -> bool:
    """Tell whether the service could run: settings, keys, engine. Writes nothing and listens nowhere."""
    check_keys(settings)
    check_state(settings)

    from runtime_server.engine.docker import DockerEngine
    from runtime_server.errors import Problem

    where = settings.bind or f"{settings.host}:{settings.port}"
    click.echo(f"Settings: fine. Listens on {where}, state in {settings.state_dir}.")
    engine = DockerEngine("check-config", address=settings.engine, timeout=min(settings.engine_timeout, 10.0))
    try:
        version = engine.version()
    except Problem as problem:
        click.echo(f"Engine: {problem.detail}{_where(settings)}", err=True)
        return False
    finally:
        engine.close()
    click.echo(f"Engine: {version.name} {version.version}, API {version.api_version}.")
    return _check_builder(settings, version)


def _check_builder(settings: Settings, version: EngineVersion) -> bool:
    """Where images are to be built: whether they can."""
    from runtime_server.engine.docker_build import DockerBuilder
    from runtime_server.errors import BuilderUnavailable

    if settings.builds == "off" or not settings.registry_prefix:
        return True
    try:
        DockerBuilder(settings.engine, lambda: version, settings.docker_cli).check()
    except BuilderUnavailable as problem:
        click.echo(f"Builds: {problem.detail}", err=True)
        return False
    click.echo(f"Builds: possible, below {settings.registry_prefix}.")
    return True
