"""What documents name that isn't on this machine, and what stands in for it while their examples run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """Where a document's examples run.

    Attributes:
        replaced: texts of theirs, and what they are here.
        before: what their shell is told first.
        by_port: whether the server is called by its own port.
    """

    replaced: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    by_port: bool = True


PLACES = {
    "docs/cli.md": "registry",
    "docs/how-to/nginx.md": "api_behind_nginx",
    "docs/gateway.md": "gateway_behind_nginx",
    "docs/how-to/private-registry.md": "registry",
    "docs/inside.md": "registry",
}
"""The fixtures that make them."""
