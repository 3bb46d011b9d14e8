"""``doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from runtime_server.cli.checks import Check
from runtime_server.cli.connection import given_of, options, session_of
from runtime_server.cli.exits import FAILED
from runtime_server.cli.output import clean, coloured, echo_json, echo_table
from runtime_server.cli.upkeep import state_dir, use_state_dir
from runtime_server.cli.values import examples


@click.command(
    epilog=examples("runtime-server doctor", "runtime-server doctor --url https://runtimes.example.com -o json")
)
@state_dir
@options
@click.pass_context
def doctor(context: click.Context, /, state_dir: Path | None, **values: str | None) -> None:
    """Find out what is wrong, and what to do about it.

    It checks settings, engine, permissions, disk, network isolation, firewall and clock of this machine's instance.
    Where a server is named, by --url, a context or the environment, that one is asked, too; one elsewhere instead.
    Exits with 1 where something fails; warnings don't count.
    """
    use_state_dir(state_dir)
    session = session_of(context, given_of(values))
    from runtime_server.cli.server_checks import ASK_TIMEOUT, check_server
    from runtime_server.client import RetryPolicy
    from runtime_server.client.endpoint import is_loopback

    found: list[Check] = []
    with session.make_client(RetryPolicy(max_attempts=1), timeout=ASK_TIMEOUT) as client:
        from urllib.parse import urlsplit

        if not session.elsewhere or is_loopback(urlsplit(client.base_url).hostname or ""):
            from runtime_server.cli.host_checks import check_host

            found += check_host()
        if session.elsewhere:
            found += check_server(client)
    failed = any(each.status == "fail" for each in found)
    if session.json:
        echo_json({"ok": not failed, "checks": [each.data() for each in found]})
    else:
        _show(found)
    raise SystemExit(FAILED if failed else 0)


def _show(found: list[Check]) -> None:
    rows = []
    for each in found:
        told = clean(each.detail) + (f"\n→ {clean(each.advice)}" if each.advice else "")
        rows.append((coloured(each.status), each.name, told))
    echo_table(("", "CHECK", "RESULT"), rows)
