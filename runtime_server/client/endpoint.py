"""Where the server is and which key opens it: arguments, environment, and the key generated on this machine."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from requests import PreparedRequest, RequestException

from runtime_server.paths import API_KEY_FILE, default_state_dir

DEFAULT_URL = "http://127.0.0.1:8090"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address, without a slash at its end, and its API key."""

    url: str
    key: str | None = field(repr=False)
    loopback: bool


def find_endpoint(base_url: str | None = None, api_key: str | None = None) -> Endpoint:
    """What the arguments say, else the environment, else the defaults.

    Args:
        base_url: ``http`` or ``https``, with a path where the server is below one; none: ``RUNTIME_SERVER_URL``,
            else ``http://127.0.0.1:8090``.
        api_key: none: ``RUNTIME_SERVER_API_KEY``, else, for loopback addresses only, the key that the server on
            this machine generated in ``RUNTIME_SERVER_STATE_DIR``. Empty: no key.

    Raises:
        ValueError: the URL or the key can't be used; the message never holds the key.
    """
    url = _checked_url(base_url or os.environ.get("RUNTIME_SERVER_URL") or DEFAULT_URL)
    loopback = is_loopback(urlsplit(url).hostname or "")
    if api_key is None:
        api_key = os.environ.get("RUNTIME_SERVER_API_KEY") or (_generated_key() if loopback else None)
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the API key must be printable ASCII")
    return Endpoint(url, key or None, loopback)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its name alone: 127.0.0.0/8, ::1 or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must begin with http:// or https:// and name a host")
        if parts.username or parts.password:
            raise ValueError("it must hold no user or password")
        if parts.query or parts.fragment:
            raise ValueError("it must hold no query or fragment")
        prepared = PreparedRequest()
        prepared.prepare_url(url, None)
    except (ValueError, RequestException) as error:
        raise ValueError(f"base_url can't be used: {error}") from None
    return str(prepared.url).rstrip("/")


def _generated_key() -> str | None:
    directory = os.environ.get("RUNTIME_SERVER_STATE_DIR")
    try:
        place = Path(directory).expanduser() if directory else default_state_dir()
        return (place / API_KEY_FILE).read_text("ascii")
    except (OSError, ValueError, RuntimeError):
        return None
