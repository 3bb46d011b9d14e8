"""The network of all runtimes that name none: made at the first start, and kept as the settings want it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from runtime_server.engine.base import Engine, Network
from runtime_server.errors import EngineFailed
from runtime_server.network.addresses import RuntimeAddresses
from runtime_server.network.firewall import Firewall, FirewallFailed, here, rules_of

log = structlog.get_logger("runtime_server.network")

HOST_NAME = "host.docker.internal"
"""What Docker Desktop, and programs that are used to it, call the host."""


class RuntimeNetwork:
    """Asks the engine once a process; a start costs nothing after that. Thread-safe.

    Args:
        engine: has the network.
        name: of the network; empty leaves runtimes on the engine's default.
        addresses: is told the network's subnets.
        others: networks that a start may name.
        firewall: sets rules; None where it must not.
        services: ports of the host that runtimes may reach, such as ``5432/tcp``.
        egress: ``open`` or ``none``.
        ipv6: whether a network that is made has IPv6, where the engine can.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        addresses: RuntimeAddresses,
        *,
        others: Sequence[str] = (),
        firewall: Firewall | None = None,
        services: tuple[str, ...] = (),
        egress: str = "open",
        ipv6: bool = False,
    ) -> None:
        self._engine = engine
        self._name = name
        self._addresses = addresses
        self._others = tuple(each for each in others if each not in ("none", "host", name))
        self._firewall = firewall
        self._services = services
        self._egress = egress
        self._ipv6 = ipv6
        self._lock = threading.Lock()
        self._known: Network | None = None
        self._said: str | None = None

    @property
    def enabled(self) -> bool:
        """Whether runtimes get a network of the server's own."""
        return bool(self._name)

    def ensure(self) -> Network:
        """The network, ready for runtimes: its addresses are known and its rules hold.

        Raises:
            EngineFailed: it can't be made, or egress is ``none`` and nothing enforces it.
        """
        known = self._known
        if known is not None:
            return known
        with self._lock:
            if self._known is None:
                network = self._engine.ensure_network(self._name, ipv6=self._ipv6)
                self._keep(network, strict=True)
                self._known = network
            return self._known

    def forget(self) -> None:
        """Look again at the next start: the network went away."""
        with self._lock:
            self._known = None

    def keep(self) -> None:
        """Mend what was undone since: called by the reconciler at each sweep.

        Raises:
            EngineUnreachable, EngineTimeout: the engine doesn't answer.
        """
        if not self._name:
            return
        try:
            network = self._engine.find_network(self._name)
            if network is None:
                self.forget()
                return
            with self._lock:
                self._keep(network, strict=False)
        except EngineFailed as failed:
            log.warning("the runtimes' network can't be looked after", reason=failed.detail)

    def extra_hosts(self, network: Network) -> dict[str, str]:
        """The host by its usual name, where runtimes may reach anything of it."""
        if not self._services or not network.gateways:
            return {}
        return {HOST_NAME: network.gateways[0]}

    def _keep(self, network: Network, *, strict: bool) -> None:
        # What a start may name counts too, but for the default bridge: the operator's own programs are there.
        others = filter(None, map(self._engine.find_network, self._others))
        theirs = [each for each in others if not each.is_default and each.name in self._others]
        try:
            self._addresses.write((network, *theirs))
        except OSError as error:
            raise EngineFailed("The state directory can't be written.") from error
        if self._firewall is None:
            return
        problem = self._enforce(self._firewall, network)
        if problem is None:
            self._said = None
            return
        if problem != self._said:
            self._said = problem
            log.warning(
                "runtimes can reach the host's services and cloud metadata: no firewall rules are set; "
                "`runtime-server firewall print` prints them for an administrator",
                reason=problem,
            )
        if strict and self._egress == "none":
            raise EngineFailed(
                "RUNTIME_SERVER_EGRESS=none can't be enforced: no firewall rules can be set. Where an administrator "
                "has set them, RUNTIME_SERVER_FIREWALL=off says so."
            )

    def _enforce(self, firewall: Firewall, network: Network) -> str | None:
        """Apply the rules; why not, where that can't be."""
        if not network.ours:
            return f"The network {network.name} isn't the server's own."
        if not here(network.bridge):
            return (
                "The engine's network isn't this machine's: it is rootless, remote, or the server is in a container."
            )
        try:
            rules = rules_of(self._engine.instance, self._services, self._egress, network.bridge)
            if firewall.apply(rules):
                log.info("firewall rules set", bridge=network.bridge, egress=self._egress)
        except (FirewallFailed, OSError) as failed:
            return str(failed)
        return None
