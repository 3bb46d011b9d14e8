"""Runtimes as answers show them."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field, RootModel

from runtime_server.models.base import (
    Answer,
    RuntimeStatus,
)
from runtime_server.models.workspaces import RuntimeWorkspace


class HostPort(Answer):
    """Where a container's port is published (the Engine's own names)."""

    HostIp: str
    HostPort: str

    @property
    def host(self) -> str:
        """Where this machine reaches it: loopback where it is published on all addresses."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.HostIp, self.HostIp)  # noqa: S104 - compared with


class Exit(Answer):
    """How a runtime's process ended."""

    exit_code: int | None = Field(None, description="Exit status; 128 + n for signal n.")
    signal: str | None = Field(None, description="The signal that ended it, e.g. `SIGKILL`, where known.")
    oom_killed: bool = Field(False, description="Whether the kernel ended it for lack of memory.")
    finished_at: AwareDatetime | None = Field(None, description="When.")


class Failure(Answer):
    """Why a runtime is in ``error``: the problem that a waiting caller would have got."""

    code: str = Field(description="Code of the catalogue.")
    detail: str = Field(description="A sentence.")
    status: int = Field(description="HTTP status of the problem.")


PodStatus = Literal["Ready", "Pending", "Running", "Not Found", "Failed", "Unknown", "CrashLoopBackOff"]
"""As OpenHands' clients compare it, to the letter."""


class ContainerStatus(Answer):
    """A container, as Kubernetes' ContainerStatus names things."""

    name: str = Field(description="The runtime's id.")
    ready: bool = Field(description="Whether the main service answers.")
    restart_count: int = Field(description="How often the engine restarted it.")
    state: str = Field(description="`waiting`, `running` or `terminated`.")
    reason: str | None = Field(None, description="Why: `ContainerCreating`, `Paused`, `OOMKilled`, `Error`, …")
    message: str | None = Field(None, description="The same for people.")
    exit_code: int | None = Field(None, description="Where it is terminated.")


class PodEvent(Answer):
    """Something that happened, as Kubernetes' Event names things."""

    type: Literal["Normal", "Warning"]
    reason: str = Field(description="One word, e.g. `Started` or `ErrImagePull`.")
    message: str = Field(description="A sentence.")
    timestamp: AwareDatetime = Field(description="When.")


class Runtime(Answer):
    """A runtime."""

    runtime_id: str = Field(description="The service's id: `runtime-` and 12 hex digits.")
    container_id: str | None = Field(None, description="The engine's id; null until there is a container.")
    name: str | None = Field(None, description="The alias.")
    session_id: str | None = Field(None, description="The session.")
    owner: str = Field(description="Name of the key that started it.")
    image: str = Field(description="The image as asked for.")
    status: RuntimeStatus = Field(description="The state.")
    status_detail: str | None = Field(None, description="Progress or reason, for people.")
    created_at: AwareDatetime = Field(description="When the start was recorded.")
    started_at: AwareDatetime | None = Field(None, description="When it first ran.")
    stopped_at: AwareDatetime | None = Field(None, description="When it ended.")
    expires_at: AwareDatetime | None = Field(None, description="When it will be stopped and removed.")
    ports: dict[str, list[HostPort]] = Field(default_factory=dict, description="Ports in the Engine's own shape.")
    labels: dict[str, str] = Field(default_factory=dict, description="The caller's labels.")
    environment: dict[str, str | None] | None = Field(
        None,
        repr=False,
        description="The variables asked for: names, with null as values unless the owner asks for those "
        "(`GET /runtimes/{id}?environment=values`). Null where it isn't known any more.",
    )
    workspace: RuntimeWorkspace | None = Field(None, description="The workspace that it has.")
    session_api_key: str | None = Field(
        None, repr=False, description="Key of the service inside; for its owner only."
    )
    url: str | None = Field(
        None, description="Where its main service answers, without a slash at the end; null where it has none yet."
    )
    work_hosts: dict[str, int] = Field(
        default_factory=dict, description="Further published services: address to the port inside."
    )
    services: dict[str, str] = Field(
        default_factory=dict,
        description="Addresses of the services beside the main one: `vscode`, `work-1`, `work-2`, `p8080`, ….",
    )
    pod_status: PodStatus = Field(
        "Unknown", description="The state in the words of OpenHands' clients; `Running` isn't ready yet."
    )
    container_statuses: list[ContainerStatus] = Field(
        default_factory=list, description="The container as the engine tells it, in Kubernetes' words."
    )
    events: list[PodEvent] = Field(default_factory=list, description="What happened to it, oldest first.")
    pod_logs: str = Field("", description="Last lines of its output while it starts, and after it has ended.")
    exit: Exit | None = Field(None, description="How it ended.")
    error: Failure | None = Field(None, description="Why it is in `error`.")
    restart_count: int = Field(0, description="How often the engine restarted it.")
    restart_reasons: list[str] = Field(
        default_factory=list, description="Why, as far as it was seen: `OOMKilled`, or `Error: exit code 1`."
    )
    logs: str | None = Field(None, description="Last lines of its output, kept when it ended.")


class StartResponse(Runtime):
    """The answer of ``POST /start``."""

    created: bool = Field(True, description="False where the session's live runtime is returned.")
    warnings: list[str] = Field(default_factory=list, description="What was not applied, in sentences.")


class ActionResponse(Runtime):
    """The answer of pause, resume, stop and remove: the runtime after the call, and what the call did."""

    message: str = Field(description="What happened, for people.")
    changed: bool = Field(description="False where the runtime was in that state already.")
    warnings: list[str] = Field(default_factory=list, description="Unknown fields that were ignored.")


class MovedPort(Answer):
    """A port that is published elsewhere than before."""

    port: str = Field(description="In the container, e.g. `8000/tcp`.")
    before: list[HostPort] = Field(description="Where it was.")
    after: list[HostPort] = Field(description="Where it is.")


class RestartResponse(ActionResponse):
    """The answer of ``POST /runtimes/{id}/restart``."""

    moved_ports: list[MovedPort] = Field(
        default_factory=list, description="Ports that the engine had picked itself, and has picked anew."
    )


class UpdateResponse(Runtime):
    """The answer of ``PATCH /runtimes/{id}``: the runtime, and what can be changed of it."""

    cpus: float | None = Field(None, description="CPU limit; null: none.")
    memory_bytes: int | None = Field(None, description="Memory limit; null: none.")
    pids_limit: int | None = Field(None, description="Process limit; null: none, or not known.")
    retention: float | None = Field(None, description="Seconds that it stays once stopped; null: the server's.")


class RuntimePage(Answer):
    """The answer of ``GET /runtimes``."""

    runtimes: list[Runtime]
    next_cursor: str | None = Field(None, description="Pass as `cursor` for the next page; null at the end.")


class RuntimeList(Answer):
    """The answer of ``GET /list``."""

    runtimes: list[Runtime] = Field(description="The starting and running ones.")
    total: int = Field(description="How many.")


class RuntimeBatch(RootModel[list[Runtime]]):
    """The answer of ``GET /sessions/batch``: a bare array, unknown sessions left out."""
