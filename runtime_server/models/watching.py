"""What runtimes use and have been through, on the wire."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from runtime_server.models.base import Answer, RuntimeStatus


class Stats(Answer):
    """What a runtime uses at one moment."""

    runtime_id: str = Field(description="Whose.")
    time: AwareDatetime = Field(description="When.")
    cpu_percent: float = Field(description="Since the sample before; 100 is one whole processor.")
    cpus: float = Field(description="Processors that it may use: its limit, else the host's.")
    memory_bytes: int = Field(description="Without what is only a cache of files.")
    memory_limit_bytes: int | None = Field(None, description="Its limit, else the host's memory.")
    network_rx_bytes: int = Field(description="Received since it was started.")
    network_tx_bytes: int = Field(description="Sent since it was started.")
    block_read_bytes: int = Field(description="Read from disks since it was started, as far as the engine counts it.")
    block_write_bytes: int = Field(description="Written to disks.")
    pids: int = Field(description="Processes and threads.")


class HistoryEntry(Answer):
    """A change of a runtime's state."""

    id: int = Field(description="Grows from change to change, over all runtimes.")
    at: AwareDatetime = Field(description="When.")
    status: RuntimeStatus = Field(description="The state from then on.")
    detail: str | None = Field(None, description="Why, for people.")


class RuntimeHistory(Answer):
    """The answer of ``GET /runtimes/{id}/history``."""

    runtime_id: str = Field(description="Whose.")
    entries: list[HistoryEntry] = Field(description="The oldest first.")


class RuntimeEvent(HistoryEntry):
    """A line of ``GET /events``."""

    runtime_id: str = Field(description="Whose.")
    name: str | None = Field(None, description="Its alias.")
    session_id: str | None = Field(None, description="Its session.")
    owner: str = Field(description="Its owner.")
    image: str = Field(description="Its image.")
