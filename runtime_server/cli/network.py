"""The firewall rules of the runtimes' network, where an administrator rather than the server sets them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime_server.cli.upkeep import state_dir, use_state_dir
from runtime_server.cli.values import examples
from runtime_server.settings import Settings, load

if TYPE_CHECKING:
    from runtime_server.network.firewall import Firewall, Rules
    from runtime_server.state import State


@click.group(epilog=examples("runtime-server firewall apply"))
def firewall() -> None:
    """Set the rules that keep runtimes apart.

    They keep runtimes from the host's services, cloud metadata and one another.

    A server that may set firewall rules (root, or CAP_NET_ADMIN) does so by itself.
    """


@firewall.command(name="print", epilog=examples("runtime-server firewall print > rules.sh && sudo sh rules.sh"))
@state_dir
def print_rules(state_dir: Path | None) -> None:
    """Print the rules as a shell script for root, who may run it again after a change of settings or a reboot."""
    from runtime_server.network.firewall import VERSIONS

    _, rules = _rules(_settings(state_dir))
    click.echo("".join(rules.script(version) for version in VERSIONS), nl=False)


@firewall.command(epilog=examples("sudo runtime-server firewall apply"))
@state_dir
def apply(state_dir: Path | None) -> None:
    """Set the rules now; setting them again changes nothing."""
    from runtime_server.network.firewall import FirewallFailed

    state, rules = _rules(_settings(state_dir))
    try:
        changed = _firewall(state).apply(rules)
    except FirewallFailed as failed:
        raise click.ClickException(str(failed)) from None
    click.echo("The rules are set." if changed else "The rules were set already.")


@firewall.command(epilog=examples("sudo runtime-server firewall remove"))
@state_dir
def remove(state_dir: Path | None) -> None:
    """Remove the rules of this instance. A running server sets them again unless RUNTIME_SERVER_FIREWALL is off."""
    from runtime_server.network.firewall import FirewallFailed

    state, rules = _rules(_settings(state_dir))
    try:
        removed = _firewall(state).remove(rules.instance)
    except FirewallFailed as failed:
        raise click.ClickException(str(failed)) from None
    click.echo("The rules are removed." if removed else "There were no rules.")


def _settings(directory: Path | None) -> Settings:
    use_state_dir(directory)
    return load()


def _rules(settings: Settings) -> tuple[State, Rules]:
    """The instance's rules; its id is made where this command comes before the first start."""
    from runtime_server.network.firewall import rules_of
    from runtime_server.state import locate

    state = locate(settings)
    return state, rules_of(state.instance, settings.host_services, settings.egress)


def _firewall(state: State) -> Firewall:
    from runtime_server.network.firewall import Firewall

    return Firewall(state.firewall)
