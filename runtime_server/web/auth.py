"""API keys and the callers that they name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from runtime_server.errors import Unauthorized
from runtime_server.keys import NAME, KeyFile, KeyFileBroken, Watched, digest
from runtime_server.paths import NotPrivate, check_private
from runtime_server.runtimes.caller import Caller
from runtime_server.settings import Settings

LOCAL = Caller("local")
"""The one caller where authentication is off."""

GENERATED_OWNER = "default"
"""The owner whose key was generated at first start."""

_ADMIN = "+admin"
"""Ends an admin's name in the setting. A name can't hold a plus, but a key can hold any mark that followed it."""

_log = structlog.get_logger("runtime_server.web")


class KeyRing:
    """The keys that are accepted, by their SHA-256: those of the environment, of the key file, and the generated one.

    Files are looked at anew for each request, by one ``stat``: a revoked key is refused from the next one on.

    Args:
        keys: names and keys; one name may have several keys, so that they can be rotated. ``name+admin`` is an admin.
        files: what reads more callers by digest, from files.
        enabled: False lets everyone in, as ``LOCAL``.
    """

    def __init__(
        self, keys: Sequence[tuple[str, str]] = (), *, files: Sequence[Watched[Caller]] = (), enabled: bool = True
    ) -> None:
        self._callers = {digest(key): _caller(name) for name, key in keys}
        self._files = tuple(files)
        self._enabled = enabled

    @classmethod
    def from_settings(cls, settings: Settings, generated: Path | None = None) -> KeyRing:
        """The keys of ``RUNTIME_SERVER_API_KEYS`` and the key file, and a generated one while its file is there.

        Args:
            settings: the operator's.
            generated: the generated key's file; None where there is none.

        Raises:
            ValueError: ``RUNTIME_SERVER_API_KEYS`` isn't ``name:key,…``; the message never holds a key.
        """
        if settings.auth == "off":
            return cls(enabled=False)
        stored = KeyFile(settings.keys_path)
        files = [Watched(stored.path, lambda: {each.sha256: Caller(each.name, each.admin) for each in stored.read()})]
        if generated is not None:
            files.append(Watched(generated, lambda: _generated(generated)))
        return cls(parse_keys(settings.api_keys), files=files)

    def find(self, key: str | None) -> Caller | None:
        """The key's caller, None where it is missing or wrong."""
        if not self._enabled:
            return LOCAL
        if not key:
            return None
        # Time tells at most something of a digest, which nobody can aim at.
        presented = digest(key)
        found = self._callers.get(presented)
        for file in self._files:
            found = found or _look(file).get(presented)
        return found

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


def _look(file: Watched[Caller]) -> Mapping[str, Caller]:
    """The file's callers; none where it can't be trusted, until it is mended."""
    try:
        return file.look()
    except (NotPrivate, KeyFileBroken) as error:
        _log.error("API keys refused", reason=str(error))
        return {}


def _generated(path: Path) -> dict[str, Caller]:
    try:
        with path.open("rb") as file:
            check_private(path, os.fstat(file.fileno()))
            key = file.read().decode("ascii").strip()
    except (OSError, ValueError):
        return {}
    return {digest(key): Caller(GENERATED_OWNER)} if key else {}


def _caller(name: str) -> Caller:
    owner, plus, _ = name.partition(_ADMIN)
    return Caller(owner, admin=bool(plus))


def parse_keys(text: str) -> tuple[tuple[str, str], ...]:
    """The pairs of ``name:key,name2+admin:key2``.

    Raises:
        ValueError: with the entry's position and what is wrong with it, without the key.
    """
    pairs: list[tuple[str, str]] = []
    for position, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        name, colon, key = entry.partition(":")
        where = f"RUNTIME_SERVER_API_KEYS, entry {position}: "
        if not colon:
            raise ValueError(where + "must be name:key")
        if not NAME.fullmatch(name.removesuffix(_ADMIN)):
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
