"""gunicorn's threaded worker, with less between two requests of one connection."""

from __future__ import annotations

import select
import threading
from collections import deque
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from runtime_server.settings import LINGERING

LINGER = 0.2
"""Seconds for which a thread waits for a connection's next request."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gthread, but for a thread that has served a request: while no other connection wants a thread, it waits a
    moment for the next one of its own.

    PERF: else the main thread waits for it, and hands it to a thread again: two wake-ups more before each request,
    and one after, all of which want the interpreter's lock. With 16 connections that always have a next request
    (``wrk``, in memory), this makes half as many again a second.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._lingering = threading.BoundedSemaphore(LINGERING)
        self._queued: deque[Any] = deque()

    def run(self) -> None:
        """Serve until told to end, or until the parent has died, of which gthread tells no thread."""
        try:
            super().run()
        finally:
            self.alive = False

    def enqueue_req(self, conn: Any) -> None:
        """Want a thread for a connection."""
        self._queued.append(conn)
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Serve a connection's requests.

        Returns:
            As gthread's: True where the connection is to be kept. Of old versions it is a pair, and nothing lingers.
        """
        self._queued.popleft()
        kept = super().handle(conn)
        while kept is True and self._goes_on(conn):
            kept = super().handle(conn)
        return kept

    def _goes_on(self, conn: Any) -> bool:
        """Whether its next request, or its end, comes within the time, and nobody is before it."""
        # What has been read already makes no socket readable, and is gthread's own matter.
        if not self._free() or conn.parser.unreader.buf.getvalue() or not self._lingering.acquire(blocking=False):
            return False
        try:
            poll = select.poll()  # select(2) knows no descriptor beyond 1023
            poll.register(conn.sock, select.POLLIN)
            return bool(poll.poll(LINGER * 1000)) and self._free()
        finally:
            self._lingering.release()

    def _free(self) -> bool:
        return self.alive and not self._queued
