"""The files of the dashboard, and what a browser may do with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What a browser gets; licences and notices are for who reads the package."""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""CSP Level 3: nothing from other hosts, nothing written into the page itself, nothing sent elsewhere."""


@dataclass(frozen=True, slots=True)
class DashboardFile:
    """A file and how it is served."""

    media_type: str
    content: bytes


@cache
def dashboard_files() -> Mapping[str, DashboardFile]:
    """All of them by their path below the dashboard, read once; no name of a request ever touches the disk."""
    return dict(_below(files("runtime_server") / "dashboard", ""))


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, DashboardFile]]:
    for each in folder.iterdir():
        path = prefix + each.name
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix)
        if each.is_dir():
            yield from _below(each, f"{path}/")
        elif media_type is not None:
            yield path, DashboardFile(media_type, each.read_bytes())
