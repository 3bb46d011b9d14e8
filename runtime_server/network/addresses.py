"""Which source addresses are runtimes', known to every worker by a file that is written when the network changes."""

from __future__ import annotations

import ipaddress
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from runtime_server.engine.base import Network
from runtime_server.keys import Watched
from runtime_server.network.forwarded import Subnet, peer_address
from runtime_server.paths import put_whole

_LINK_LOCAL = "fe80::/10"

REMEMBERED = 1024
"""Peers' addresses."""


class RuntimeAddresses:
    """The subnets of the networks that runtimes are in, less the host's own addresses there. Thread-safe.

    Args:
        path: the file, shared by all workers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Watched[tuple[Subnet, frozenset[str]]] = Watched(path, self._load)
        self._answers: tuple[object, dict[str, bool]] = (None, {})

    def covers(self, address: str) -> bool:
        """Whether a request from that address comes from a runtime; one look at the file, which is mostly a ``stat``.

        Args:
            address: of the socket's peer, as WSGI's ``REMOTE_ADDR`` has it; what isn't an address is nobody's.
        """
        known = self._file.look()
        if not known or not address:
            return False
        # PERF: to read an address and compare it takes as long as to read the request's body, and few callers ask.
        asked_of, answers = self._answers
        if asked_of is not known or len(answers) >= REMEMBERED:
            answers = {}
            self._answers = (known, answers)
        if address not in answers:
            answers[address] = _is_in(address, known)
        return answers[address]

    def known(self) -> dict[str, list[str]]:
        """The subnets, each with the host's own addresses in it."""
        return {subnet: sorted(hosts) for subnet, (_, hosts) in self._file.look().items()}

    def write(self, networks: tuple[Network, ...]) -> None:
        """Tell all workers; the file stays untouched where nothing is new.

        Raises:
            OSError: the file can't be written.
        """
        subnets = {subnet: list(each.gateways) for each in networks for subnet in each.subnets}
        if any(":" in subnet for subnet in subnets):
            # By IPv6 a container also has an address of the bridge's link, which no subnet tells.
            subnets[_LINK_LOCAL] = []
        text = json.dumps(subnets, indent=1, sort_keys=True) + "\n"
        try:
            if self._path.read_text() == text:
                return
        except OSError:
            pass
        put_whole(self._path, text, draft=f".{os.getpid()}-{threading.get_ident()}.new")

    def _load(self) -> dict[str, tuple[Subnet, frozenset[str]]]:
        try:
            document = json.loads(self._path.read_text())
            return {
                subnet: (ipaddress.ip_network(subnet), frozenset(map(str, hosts)))
                for subnet, hosts in document.items()
            }
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # written anew at the next sweep, and before the next runtime


def _is_in(address: str, known: Mapping[str, tuple[Subnet, frozenset[str]]]) -> bool:
    peer = peer_address(address)
    return peer is not None and any(
        peer.version == subnet.version and peer in subnet and str(peer) not in hosts
        for subnet, hosts in known.values()
    )
