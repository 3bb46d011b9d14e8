"""Where a request really came from: the peer, or what a trusted proxy says of its own peer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def peer_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of a socket's peer, without its zone; None: the text isn't one.

    Where the server listens by IPv6 it sees IPv4 peers as ``::ffff:a.b.c.d`` (RFC 4291, section 2.5.5.2): those are
    IPv4 addresses here.
    """
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


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
        peer = peer_address(address)
        return peer is not None and any(peer.version == each.version and peer in each for each in self._proxies)
