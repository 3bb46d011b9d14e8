"""nginx's configuration for this instance."""

from __future__ import annotations

from pathlib import Path

import click

from runtime_server.cli.upkeep import state_dir, use_state_dir
from runtime_server.cli.values import examples
from runtime_server.settings import load


@click.command(
    name="nginx-config",
    epilog=examples(
        "runtime-server nginx-config > /etc/nginx/conf.d/runtime-server.conf && nginx -t && nginx -s reload",
        "runtime-server nginx-config --check --output /etc/nginx/conf.d && nginx -s reload",
    ),
)
@click.option(
    "--listen",
    multiple=True,
    help="Address and port for nginx, e.g. 127.0.0.1:8080; may be repeated.  [default: 443, or 80 of loopback]",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="What one address may have open at once; more where another proxy is in front.",
)
@click.option(
    "--output",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Folder for runtime-server.conf and, with a gateway, runtime-server.gateway.conf.  [default: print]",
)
@click.option("--check", is_flag=True, help="Have `nginx -t` read it first; where it is refused, nothing is written.")
@state_dir
def nginx_config(
    listen: tuple[str, ...], connections: int, output: Path | None, check: bool, state_dir: Path | None
) -> None:
    """Print nginx's configuration for these settings.

    It is the API's and, with RUNTIME_SERVER_ROUTING, the gateway's. RUNTIME_SERVER_BIND, RUNTIME_SERVER_DOMAIN,
    RUNTIME_SERVER_TLS_CERTIFICATE and RUNTIME_SERVER_TLS_KEY are made for it. After a change of settings, and once
    the first runtime has been started, write it again and reload nginx.
    """
    from runtime_server.network.addresses import RuntimeAddresses
    from runtime_server.nginx import site
    from runtime_server.nginx.template import UnfitForNginx
    from runtime_server.state import State

    use_state_dir(state_dir)
    settings = load()
    state = State(settings.state_dir.expanduser().absolute(), instance="", key_file=None)
    try:
        runtimes = RuntimeAddresses(state.network).known()
        files = site.site(settings, listen=listen, runtimes=runtimes, connections=connections)
        if check:
            site.check(files)
    except UnfitForNginx as unfit:
        raise click.ClickException(f"{unfit}.") from None
    except FileNotFoundError:
        raise click.ClickException("There is no nginx here to check it with.") from None
    if not settings.bind and not settings.trusted_proxies:
        click.echo(
            "Warning: the service can't tell where requests come from. Set RUNTIME_SERVER_BIND to a socket, or "
            "RUNTIME_SERVER_TRUSTED_PROXIES to nginx's address.",
            err=True,
        )
    if output is None:
        click.echo("\n".join(files.values()), nl=False)
        return
    for name, text in files.items():
        (output / name).write_text(text, encoding="utf-8")
        click.echo(f"Written: {output / name}", err=True)
    if site.GATEWAY not in files:
        # Of earlier settings; it would lead to a socket that is no longer there.
        (output / site.GATEWAY).unlink(missing_ok=True)
