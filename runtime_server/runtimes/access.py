"""Who may call a runtime through the gateway. Pure.

``public``: everybody, since the service behind has a key of its own. ``private``: who presents the session key, in
a header, in the query, or as a cookie that the query was once exchanged for.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request brings along, as nginx has read it.

    Attributes:
        header, cookie, query: keys.
        origin: whether the request names a web page's origin, and whether that is the address that it calls.
        preflight: it is a CORS preflight, which browsers send without any credentials (Fetch, section 4.8).
    """

    header: str = field(default="", repr=False)
    cookie: str = field(default="", repr=False)
    query: str = field(default="", repr=False)
    origin: Literal["none", "same", "other"] = "none"
    preflight: bool = False


def may_call(presented: Presented, key: str | None, address: str) -> bool:
    """Whether the request may reach a private runtime.

    Args:
        presented: by the request.
        key: the runtime's session key.
        address: which the request calls; a cookie counts for that alone.
    """
    if key is None:
        return False
    if presented.preflight:
        return True  # the request that it asks for is looked at itself
    if _same(presented.header, key) or _same(presented.query, key):
        return True
    # All addresses are one site to a browser, which sends cookies whatever page makes it call.
    return presented.origin != "other" and _same(presented.cookie, cookie(key, address))


def cookie(key: str, address: str) -> str:
    """The cookie's value for that address: whoever reads it learns neither the key nor another address's cookie."""
    made = hmac.digest(key.encode(), address.encode(), "sha256")
    return base64.urlsafe_b64encode(made).decode("ascii").rstrip("=")


def _same(presented: str, wanted: str) -> bool:
    # As bytes, since WSGI's text may hold any character.
    return bool(presented) and hmac.compare_digest(presented.encode("latin-1", "replace"), wanted.encode())
