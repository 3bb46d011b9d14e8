"""What ``doctor`` asks of a server."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime_server._version import __version__
from runtime_server.cli.checks import Check, clock, fail, ok, skip, warn

if TYPE_CHECKING:
    from runtime_server.client import RuntimeServerClient

ASK_TIMEOUT = (3.0, 10.0)
"""Seconds to connect, and to wait for an answer."""


def check_server(client: RuntimeServerClient) -> Iterator[Check]:
    """Whether it is there, can work, knows the key, and has the same time and version."""
    from runtime_server.errors import RuntimeClientError, TransportError

    url = client.base_url
    try:
        client.health()
    except RuntimeClientError as error:
        advice = "Is it running, and is the address right? On its machine: runtime-server doctor."
        yield fail("server", f"{url}: {error}", advice)
        for name in ("server: clock", "server: key", "server: version", "server: engine"):
            yield skip(name, "The server doesn't answer.")
        return
    yield ok("server", f"{url} answers.")
    yield _clock(url)
    yield _key(client)
    try:
        found = client.version()
        yield _version(found.server)
        ready = client.ready()
    except RuntimeClientError as error:
        kind = skip("server: engine", str(error))
        yield kind if isinstance(error, TransportError) else fail("server: engine", str(error), "See its log.")
        return
    if ready.ready and found.engine is not None:
        yield ok("server: engine", f"{found.engine.name} {found.engine.version}, API {found.engine.api_version}.")
    elif ready.ready:
        yield ok("server: engine", "The server reaches its engine.")
    else:
        reason = ready.reason or "no reason is told without a key"
        yield fail("server: engine", f"The server isn't ready: {reason}", "On its machine: runtime-server doctor.")


def _clock(url: str) -> Check:
    import requests

    begun = time.time()
    try:
        answer = requests.get(f"{url}/healthz", timeout=ASK_TIMEOUT)
    except requests.RequestException as error:
        return skip("server: clock", f"It can't be read: {type(error).__name__}.")
    said = email.utils.parsedate_tz(answer.headers.get("Date", ""))
    if said is None:
        return skip("server: clock", "The server doesn't tell its time.")
    # HTTP tells whole seconds, cut off.
    middle = (begun + time.time()) / 2 - 0.5
    return clock("server: clock", "The server's", email.utils.mktime_tz(said) - middle)


def _key(client: RuntimeServerClient) -> Check:
    from runtime_server.errors import RuntimeClientError, Unauthorized

    try:
        next(iter(client.list_runtimes(limit=1)), None)
    except Unauthorized:
        advice = (
            "Give one by RUNTIME_SERVER_API_KEY, --api-key or a context; on its machine: runtime-server keys add."
        )
        return fail("server: key", "The server doesn't accept the API key, or there is none.", advice)
    except RuntimeClientError as error:
        return fail("server: key", f"Runtimes can't be listed: {error}", "See the server's log.")
    return ok("server: key", "The server accepts the API key.")


def _version(server: str) -> Check:
    if server.split(".")[:2] == __version__.split(".")[:2]:
        return ok("server: version", f"{server}; this is {__version__}.")
    return warn("server: version", f"The server is {server}, this is {__version__}.", "Install the same version.")
