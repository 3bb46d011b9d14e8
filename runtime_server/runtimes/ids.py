"""Runtime ids: ``runtime-`` and 12 hex digits, a DNS label and the container's name."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "runtime-"


def fresh() -> str:
    """A new id."""
    return PREFIX + secrets.token_hex(6)


def derived(instance: str, owner: str, key: str) -> str:
    """The id of the start that an owner's idempotency key stands for: two attempts meet at one container."""
    digest = hashlib.sha256("\0".join((instance, owner, key)).encode("utf-8", "surrogatepass"))
    return PREFIX + digest.hexdigest()[:12]
