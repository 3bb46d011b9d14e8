"""Runtimes may not call this API: their requests are refused by where they come from."""

from __future__ import annotations

import falcon

from runtime_server.errors import PolicyRefused
from runtime_server.network.addresses import RuntimeAddresses


class SourceCheck:
    """Middleware: goes before authentication, so that no key of a runtime's is ever looked at.

    The peer's address counts alone: ``X-Forwarded-For`` is the sender's own word. Behind a proxy the peer is the
    proxy, and what keeps runtimes away from that is the firewall.

    Args:
        addresses: the runtimes'.
    """

    def __init__(self, addresses: RuntimeAddresses) -> None:
        self._addresses = addresses

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Refuse what comes from a runtime.

        Raises:
            PolicyRefused: it does.
        """
        # Not req.remote_addr, which makes up 127.0.0.1 where there is none.
        if self._addresses.covers(req.env.get("REMOTE_ADDR", "")):
            raise PolicyRefused("Runtimes may not call this API.", setting="RUNTIME_SERVER_NETWORK")
