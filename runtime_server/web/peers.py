"""Whether whoever sent a request is still there, while its answer has nothing to say."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import Any

SOCKET = "gunicorn.socket"
"""The environment's name for the client's connection, under gunicorn."""
STALL = 60
"""Seconds that a client may take no bytes of a stream, which holds a thread as long."""

_LEFT = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Peer:
    """A request's sender, by its connection; one whose connection isn't known is always there.

    Args:
        env: the request's.
    """

    def __init__(self, env: dict[str, Any]) -> None:
        self._socket: socket.socket | None = env.get(SOCKET)
        self._poll = select.poll()
        if self._socket is not None:
            self._poll.register(self._socket, _LEFT)

    def watch(self, idle: float) -> None:
        """Have the kernel notice within some ``idle`` seconds that the sender's machine is gone, or takes no bytes.

        What a stream writes tells, too, but plain text has nothing to write into it.
        """
        if self._socket is None:
            return
        seconds = max(1, round(idle))
        with contextlib.suppress(OSError):  # a Unix socket: its other end is on this machine
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STALL, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 3))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def cut(self) -> bool:
        """Break the connection off, so that the reader sees that something is missing; False where it isn't known."""
        if self._socket is None:
            return False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        return True

    def hear_no_more(self) -> None:
        """Whatever reads from the sender comes to an end; what is said to it still arrives."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)

    def gone(self) -> bool:
        """Whether the connection is closed, at least by its other end."""
        return self._socket is not None and bool(self._poll.poll(0))
