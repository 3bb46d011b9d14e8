"""What deploy/ repeats of other documents; whether it works is tried in tests/gateway."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def let_through(route: str) -> str:
    """A route of SECURITY.md as the socket proxy's map has it."""
    method, _, path = re.sub(" +", " ", route).partition(" ")
    # An image's name has slashes in it.
    path = path.replace("/images/{name}", "/images/[^?]+")
    path = re.sub(r"\{\w+\}", "[^/?]+", path)
    return f'"~^{method} (?:/v[0-9.]+)?{path}(?:[?]|$)" 1;'


def test_the_socket_proxy_lets_through_what_the_document_lists() -> None:
    document = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    listed = re.findall(r"^ *((?:GET|HEAD|POST|PUT|DELETE) +/\S*)", document, re.MULTILINE)
    proxy = (ROOT / "deploy/container/engine-proxy.conf").read_text(encoding="utf-8")
    found = [line.strip() for line in proxy.splitlines() if line.strip().startswith('"~^')]
    assert sorted(found) == sorted(map(let_through, listed))


def test_units_and_containers_give_the_same_capabilities() -> None:
    unit = (ROOT / "deploy/systemd/runtime-server.service").read_text(encoding="utf-8")
    lists = re.findall(r"^(?:AmbientCapabilities|CapabilityBoundingSet)=(.*)$", unit, re.MULTILINE)
    compose = (ROOT / "deploy/container/compose.yaml").read_text(encoding="utf-8")
    added = re.findall(r"cap_add: \[(.*)\]", compose)
    assert len(lists) == 2
    assert [sorted(each.removeprefix("CAP_") for each in found.split()) for found in lists] == [
        sorted(added[0].split(", "))
    ] * 2
