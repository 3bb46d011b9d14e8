"""Where a request really came from: the peer, or what a trusted proxy says of its own peer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


class Forwarded:
    """Reads ``X-Forwarded-For``, which is anybody's own word, from those proxies only that are trusted to set it.

    Proxies add the address of their peer at the end, so the last address that isn't a trusted proxy's counts.

    Args:
        proxies: addresses and subnets of trusted proxies.
        socket: whether peers of a unix socket, which have no address, are trusted too.
    """

    def __init__(self, proxies: Iterable[str] = (), *, socket: bool = False) -> None:
        self._proxies: tuple[Subnet, ...] = tuple(ipaddress.ip_network(each) for each in proxies)
        self._socket = socket

    def address(self, environ: Mapping[str, Any]) -> str:
        """The caller's address as far as it is known, else an empty text.

        Args:
            environ: the request's, as WSGI has it.
        """
        # Not req.remote_addr, which makes up 127.0.0.1 where there is none.
        found = str(environ.get("REMOTE_ADDR", ""))
        named = str(environ.get("HTTP_X_FORWARDED_FOR", ""))
        while named and self._trusted(found):
            named, _, found = (part.strip() for part in named.rpartition(","))
        return found

    def _trusted(self, address: str) -> bool:
        if not address:
            return self._socket
        if not self._proxies:
            return False
        try:
            peer = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer.version == subnet.version and peer in subnet for subnet in self._proxies)
