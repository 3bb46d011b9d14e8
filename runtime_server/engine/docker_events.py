"""The engine's event stream, and streams of JSON in general."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from runtime_server.engine import translate
from runtime_server.engine.base import EngineEvent


def messages(response: requests.Response) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a stream, one a line; each as soon as it has come."""
    for line in response.iter_lines(chunk_size=65536):
        if line:
            yield json.loads(line)


class DockerEvents:
    """The engine's event stream; see ``EventStream``."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._begun = self._closed = False
        connection = response.raw.connection
        self._socket: socket.socket | None = getattr(connection, "sock", None)
        if self._socket is not None:
            # The subscription had to be answered in time; from here on, silence is nothing unusual.
            self._socket.settimeout(None)

    def __iter__(self) -> Iterator[EngineEvent]:
        self._begun = True
        try:
            for message in messages(self._response):
                if self._closed:
                    return
                found = translate.event(message)
                if found is not None:
                    yield found
        # An engine that goes away, or close() in another thread: either way there is no more to come.
        except (requests.RequestException, OSError, ValueError, AttributeError):
            return
        finally:
            self._response.close()

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        # The iteration closes what it reads: here that would wait for the reader.
        if not self._begun:
            self._response.close()
