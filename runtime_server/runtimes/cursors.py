"""Page cursors: where a listing goes on, opaque to callers."""

from __future__ import annotations

import base64
import binascii
import json

from runtime_server.errors import ValidationFailed
from runtime_server.store.records import Record


def encode(last: Record) -> str:
    """The cursor of the page after ``last``."""
    return encode_place(last.created_at, last.runtime_id)


def encode_place(created_at: float, name: str) -> str:
    """The cursor of the page after what has this name and time of creation."""
    return base64.urlsafe_b64encode(json.dumps([created_at, name]).encode()).decode()


def decode(cursor: str) -> tuple[float, str]:
    """The (created_at, runtime_id) that the page comes after.

    Raises:
        ValidationFailed: it isn't one of ours.
    """
    try:
        created_at, runtime_id = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        return float(created_at), str(runtime_id)
    except (ValueError, TypeError, UnicodeEncodeError, binascii.Error, RecursionError, OverflowError):
        wrong = [{"loc": ["cursor"], "msg": "is not a cursor of this server", "type": "value_error"}]
        raise ValidationFailed("cursor: is not a cursor of this server.", errors=wrong) from None
