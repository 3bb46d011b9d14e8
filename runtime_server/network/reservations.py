"""Host ports that are held for a runtime whose container can't be made yet, so that its address is known at once.

A client takes the address from the answer of its start, which may come while the image is still being pulled. The
kernel picks the port and keeps it while the socket is bound; right before the container starts it is let go.
"""

from __future__ import annotations

import contextlib
import socket
import threading


class PortReservations:
    """This process's held ports. Thread-safe.

    Args:
        host: the address on which ports are published.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._held: dict[str, socket.socket] = {}
        self._lock = threading.Lock()

    def hold(self, runtime_id: str) -> int | None:
        """The port that is held for the runtime from now on; None where none can be (not this machine's address)."""
        with self._lock:
            held = self._held.get(runtime_id)
            if held is not None:
                return int(held.getsockname()[1])
            made = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
            try:
                # Without SO_REUSEADDR here nobody else can bind it, with it or not. It doesn't listen: who calls too
                # early is refused at once, and not left waiting.
                made.bind((self._host, 0))
            except OSError:
                made.close()
                return None
            self._held[runtime_id] = made
            return int(made.getsockname()[1])

    def release(self, runtime_id: str) -> None:
        """Let the runtime's port go, if one is held."""
        with self._lock:
            held = self._held.pop(runtime_id, None)
        if held is not None:
            held.close()

    def close(self) -> None:
        """Let all go."""
        with self._lock:
            held = list(self._held.values())
            self._held.clear()
        for each in held:
            with contextlib.suppress(OSError):
                each.close()
