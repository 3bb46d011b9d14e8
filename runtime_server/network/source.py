"""Runtimes may not call this API: their requests are refused by where they come from."""

from __future__ import annotations

import falcon

from runtime_server.errors import PolicyRefused
from runtime_server.network.addresses import RuntimeAddresses
from runtime_server.network.forwarded import Forwarded


class SourceCheck:
    """Middleware: goes before authentication, so that no key of a runtime's is ever looked at.

    The peer's address counts, or where that is a trusted proxy what it says of its own peer. What keeps runtimes from
    another proxy on the host is the firewall.

    Args:
        addresses: the runtimes'.
        forwarded: knows the trusted proxies; none: there are none.
    """

    def __init__(self, addresses: RuntimeAddresses, forwarded: Forwarded | None = None) -> None:
        self._addresses = addresses
        self._forwarded = forwarded or Forwarded()

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Refuse what comes from a runtime.

        Raises:
            PolicyRefused: it does.
        """
        if self._addresses.covers(self._forwarded.address(req.env)):
            raise PolicyRefused("Runtimes may not call this API.", setting="RUNTIME_SERVER_NETWORK")
