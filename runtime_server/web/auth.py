"""API keys and the callers that they name."""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from runtime_server.errors import Unauthorized
from runtime_server.runtimes.caller import Caller
from runtime_server.settings import Settings

LOCAL = Caller("local")
"""The one caller where authentication is off."""

GENERATED_OWNER = "default"
"""The owner whose key was generated at first start."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")


class KeyRing:
    """The keys that are accepted, as SHA-256 digests.

    Args:
        keys: pairs of a name and its key; one name may have several keys, so that they can be rotated.
        enabled: False lets everyone in, as ``LOCAL``.
    """

    def __init__(self, keys: tuple[tuple[str, str], ...] = (), *, enabled: bool = True) -> None:
        self._entries = tuple((_digest(key), Caller(name)) for name, key in keys)
        self._enabled = enabled

    @classmethod
    def from_settings(cls, settings: Settings, generated_key: str | None) -> KeyRing:
        """The keys of ``RUNTIME_SERVER_API_KEYS``, else the generated one.

        Raises:
            ValueError: the setting isn't ``name:key,…``; the message never holds a key.
        """
        if settings.auth == "off":
            return cls(enabled=False)
        keys = parse_keys(settings.api_keys)
        if not keys and generated_key:
            keys = ((GENERATED_OWNER, generated_key),)
        return cls(keys)

    def find(self, key: str | None) -> Caller | None:
        """The key's caller, None where it is missing or wrong; takes the same time whichever key matches."""
        if not self._enabled:
            return LOCAL
        presented = _digest(key or "")
        found: Caller | None = None
        for digest, caller in self._entries:
            if hmac.compare_digest(digest, presented):
                found = caller
        return found if key else None

    def caller_of(self, key: str | None) -> Caller:
        """The key's caller.

        Raises:
            Unauthorized: the key is missing or wrong.
        """
        caller = self.find(key)
        if caller is None:
            wrong = "The API key is not valid." if key else "Send an API key as X-API-Key or Authorization: Bearer."
            raise Unauthorized(wrong)
        return caller


def parse_keys(text: str) -> tuple[tuple[str, str], ...]:
    """The pairs of ``name:key,name2:key2``.

    Raises:
        ValueError: with the entry's position and what is wrong with it, without the key.
    """
    pairs: list[tuple[str, str]] = []
    for position, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        name, colon, key = entry.partition(":")
        where = f"RUNTIME_SERVER_API_KEYS, entry {position}: "
        if not colon:
            raise ValueError(where + "must be name:key")
        if not _NAME.fullmatch(name):
            raise ValueError(where + "the name must be 1 to 64 letters, digits, dots, dashes and underscores")
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(where + "the key must be printable ASCII without spaces")
        if any(key == known and name != other for other, known in pairs):
            raise ValueError(where + "the key is another entry's already")
        pairs.append((name, key))
    return tuple(pairs)


def presented_key(api_key: str | None, authorization: str | None) -> str | None:
    """The key of an ``X-API-Key`` header, else that of ``Authorization: Bearer`` (RFC 6750, section 2.1)."""
    if api_key:
        return api_key
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _digest(key: str) -> bytes:
    # WSGI hands headers over as latin-1 text: any byte may come.
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
