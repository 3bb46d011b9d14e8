"""What a container uses, from ``GET /containers/{id}/stats`` (Engine API 1.41). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runtime_server.engine.inside import Sample
from runtime_server.models.logs import nanoseconds

JSON = Mapping[str, Any]


def sample(attrs: JSON) -> Sample | None:
    """The sample; None where the container doesn't run: the engine answers all the same, with Go's zero time."""
    read = str(attrs.get("read") or "0001-")
    if read.startswith("0001-"):
        return None
    cpu, memory = attrs.get("cpu_stats") or {}, attrs.get("memory_stats") or {}
    usage = cpu.get("cpu_usage") or {}
    networks: Iterable[JSON] = (attrs.get("networks") or {}).values()
    received, sent = 0, 0
    for each in networks:
        received += int(each.get("rx_bytes") or 0)
        sent += int(each.get("tx_bytes") or 0)
    blocks = (attrs.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return Sample(
        at=nanoseconds(read),
        cpu=int(usage.get("total_usage") or 0),
        cpus=int(cpu.get("online_cpus") or len(usage.get("percpu_usage") or ()) or 1),
        memory=_memory(memory),
        memory_limit=int(memory["limit"]) if memory.get("limit") else None,
        received=received,
        sent=sent,
        read=_blocks(blocks, "read"),
        written=_blocks(blocks, "write"),
        pids=int((attrs.get("pids_stats") or {}).get("current") or 0),
    )


def _memory(memory: JSON) -> int:
    """As Docker's own tools count it: without pages of files that nobody has used for a while.

    Cgroup v1 has them as ``total_inactive_file``, v2 as ``inactive_file``.
    """
    usage, details = int(memory.get("usage") or 0), memory.get("stats") or {}
    cache = int(details.get("total_inactive_file", details.get("inactive_file")) or 0)
    return usage - cache if cache < usage else usage


def _blocks(entries: Iterable[JSON], operation: str) -> int:
    return sum(int(each.get("value") or 0) for each in entries if str(each.get("op")).lower() == operation)
