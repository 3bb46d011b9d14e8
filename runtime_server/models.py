"""The wire models, shared by server and client: every request body and every answer.

Requests refuse fields that they don't know; answers keep them, so that a client can meet a newer server.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

MIN_MEMORY = 6 * 1024 * 1024
"""Docker's least memory limit in bytes (Engine API 1.41: 400 below it)."""

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_MOST = 2**63 - 1
"""The Engine's sizes are 64-bit integers."""
RESERVED_PREFIX = "runtime-server."
"""Labels under this prefix are the service's own."""


def parse_size(value: str | int) -> int:
    """Bytes of ``"512m"``, ``"1.5g"`` or a number; units are powers of 1024, as Docker's.

    Raises:
        ValueError: it isn't a size.
    """
    if isinstance(value, int):
        return _bounded(value)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("must be bytes, or a number with one of the units b, k, m, g, t")
    return _bounded(int(float(match[1]) * _UNITS[match[2].lower()]))


def _bounded(size: int) -> int:
    if size > _MOST:
        raise ValueError("must be less than 2^63 bytes")
    return size


class RuntimeStatus(StrEnum):
    """A runtime's state."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ERROR = "error"
    REMOVED = "removed"


class Request(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(BaseModel):
    """An answer's body; fields of a newer server are kept in ``model_extra``."""

    model_config = ConfigDict(extra="allow", frozen=True)


Alias = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]*$", max_length=4096)]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[^=\x00-\x1f\x7f]+$", max_length=1024)]
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", min_length=1, max_length=1024)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]
Capability = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]{1,64}$")]
Device = Annotated[
    str,
    StringConstraints(
        pattern=r"^/[^:\x00-\x1f\x7f]+(:/[^:\x00-\x1f\x7f]+)?(:(r|w|m|rw|rm|wm|rwm))?$", max_length=1024
    ),
]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,252})$")]
HostAddress = Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F.:]{2,45}|host-gateway)$")]


def _readable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must hold printable characters only, no invisible or direction-changing ones")
    return value


Name = Annotated[Word, AfterValidator(_readable)]
"""A caller's own word, shown to people: nothing in it may hide or reorder what they see."""


class PortBinding(Request):
    """A container's port, published on the host."""

    container_port: Port = Field(description="Port inside the container.")
    host_port: Port | None = Field(None, description="Port on the host; none: the engine picks a free one.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="Transport protocol.")
    host_ip: str | None = Field(
        None,
        description="Address on the host, only `RUNTIME_SERVER_PUBLISH_HOST` or loopback; none: that setting.",
    )


class VolumeMount(Request):
    """A folder of the host, or a named volume, inside the container."""

    host_path: Word = Field(description="Absolute path on the host; without a leading `/` a named volume.")
    container_path: AbsolutePath = Field(description="Absolute path in the container.")
    mode: Literal["rw", "ro"] = Field("rw", description="Writable or read-only.")

    @field_validator("host_path")
    @classmethod
    def _named_or_absolute(cls, value: str) -> str:
        if not value.startswith("/") and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}", value):
            raise ValueError("must be an absolute path or a volume's name")
        return value

    @field_validator("container_path")
    @classmethod
    def _not_root(cls, value: str) -> str:
        if not value.strip("/") or ":" in value:
            raise ValueError("must name a folder below / and hold no colon")
        return value


class RestartPolicy(Request):
    """What the engine does when the process ends (Docker's names)."""

    Name: Literal["no", "always", "unless-stopped", "on-failure"] = Field("no", description="The policy.")
    MaximumRetryCount: int = Field(0, ge=0, le=1000, description="For `on-failure`: how often; 0: without end.")

    @model_validator(mode="after")
    def _count_needs_on_failure(self) -> RestartPolicy:
        if self.MaximumRetryCount and self.Name != "on-failure":
            raise ValueError("MaximumRetryCount goes with on-failure only")
        return self


class RegistryAuth(Request):
    """Credentials for one pull; never stored or logged."""

    username: str = Field(description="User name.")
    password: str = Field(repr=False, description="Password or token.")


class StartRequest(Request):
    """The body of ``POST /start``."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\s\x00]+$")] = Field(
        description="Image reference.", examples=["busybox"]
    )
    name: Alias | None = Field(None, description="An alias, unique per owner.")
    session_id: Name | None = Field(None, description="At most one live runtime per session and owner.")
    command: PlainText | list[PlainText] | None = Field(
        None, description="Command, as a list or as a string that is split like a shell's words."
    )
    entrypoint: PlainText | list[PlainText] | None = Field(None, description="Replaces the image's entrypoint.")
    environment: dict[EnvironmentName, PlainText] = Field(
        default_factory=dict, repr=False, description="Environment variables."
    )
    ports: list[PortBinding] = Field(default_factory=list, max_length=128, description="Ports to publish.")
    volumes: list[VolumeMount] = Field(default_factory=list, max_length=128, description="Folders and volumes.")
    detach: bool = Field(True, description="Only true: runtimes always run detached.")
    auto_remove: bool = Field(False, description="Remove the container when it ends; the exit record stays.")
    labels: dict[Name, PlainText] = Field(default_factory=dict, max_length=256, description="The caller's labels.")
    restart_policy: RestartPolicy | None = Field(None, description="What happens when the process ends.")
    network: Word | None = Field(None, description="An allowed network; none: the server's own.")
    working_dir: AbsolutePath | None = Field(None, description="Working directory.")
    user: Word | None = Field(None, description="User, `name`, `uid` or `uid:gid`.")
    group_add: list[Word] = Field(default_factory=list, max_length=64, description="Supplementary groups.")
    hostname: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62})$")] | None = Field(
        None, description="Host name in the container; none: the runtime's id."
    )
    cpus: Annotated[float, Field(ge=0.01, le=4096, allow_inf_nan=False)] | None = Field(
        None, description="CPU limit."
    )
    memory: str | int | None = Field(None, description='Memory limit: `"512m"` or bytes.', examples=["512m"])
    pids_limit: Annotated[int, Field(ge=1, le=4_194_304)] | None = Field(None, description="Process limit.")
    shm_size: str | int | None = Field(None, description="Size of /dev/shm.", examples=["64m"])
    read_only: bool = Field(False, description="Mount the root file system read-only.")
    tmpfs: dict[AbsolutePath, PlainText] = Field(
        default_factory=dict, max_length=64, description="Path to mount options."
    )
    extra_hosts: dict[HostName, HostAddress] = Field(
        default_factory=dict, max_length=64, description="Host name to address, or to `host-gateway`."
    )
    init: bool = Field(True, description="Run an init as process 1.")
    gpus: Literal["all"] | Annotated[int, Field(ge=1, le=64)] | None = Field(None, description="GPUs.")
    platform: Word | None = Field(None, description="Platform, e.g. `linux/amd64`.")
    runtime_class: Word | None = Field(
        None, description="OCI runtime, as `RUNTIME_SERVER_RUNTIME_CLASSES` names them."
    )
    resource_factor: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] = Field(
        1.0, description="Multiplies the default CPUs, memory and process limit.", examples=[2]
    )
    privileged: bool = Field(False, description="All the host's devices and capabilities; by policy only.")
    devices: list[Device] = Field(
        default_factory=list, max_length=64, description="Host devices, `host[:container[:rwm]]`; by policy only."
    )
    cap_add: list[Capability] = Field(
        default_factory=list, max_length=64, description="Capabilities beyond the default ones; by policy only."
    )
    cap_drop: list[Capability] = Field(
        default_factory=list, max_length=64, description="Default capabilities that it can do without; `ALL`: all."
    )
    no_new_privileges: bool | None = Field(
        None, description="False lets set-user-id programs such as sudo work, by policy only; none: the server's."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="When to pull.")
    registry_auth: RegistryAuth | None = Field(None, description="Credentials for the pull.")
    ttl: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = Field(
        None, description="Seconds until the runtime is stopped and removed; none: never."
    )
    retention: Seconds | None = Field(None, description="Seconds that it stays once stopped; none: the server's.")
    wait: Seconds = Field(8.0, description="Seconds after which the answer comes with `starting`.")

    @field_validator("detach")
    @classmethod
    def _detached(cls, value: bool) -> bool:
        if not value:
            raise ValueError(
                "runtimes always run detached, since they outlive the request; leave it out or send true"
            )
        return value

    @field_validator("memory", "shm_size")
    @classmethod
    def _sizes(cls, value: str | int | None) -> str | int | None:
        if value is not None and parse_size(value) <= 0:
            raise ValueError("must be more than 0")
        return value

    @field_validator("labels")
    @classmethod
    def _not_reserved(cls, value: dict[str, str]) -> dict[str, str]:
        if any(key.startswith(RESERVED_PREFIX) for key in value):
            raise ValueError(f"labels under {RESERVED_PREFIX} are reserved")
        return value

    @field_validator("ports")
    @classmethod
    def _ports_once(cls, value: list[PortBinding]) -> list[PortBinding]:
        taken = [(p.host_ip, p.host_port, p.protocol) for p in value if p.host_port]
        if len(set(taken)) != len(taken):
            raise ValueError("a host port is named twice")
        return value

    @field_validator("volumes")
    @classmethod
    def _targets_once(cls, value: list[VolumeMount]) -> list[VolumeMount]:
        if len({v.container_path.rstrip("/") for v in value}) != len(value):
            raise ValueError("a container path is named twice")
        return value


class RuntimeRequest(Request):
    """A body that names a runtime."""

    runtime_id: Word = Field(description="The runtime's id or alias.", examples=["runtime-0123456789ab"])


class PauseRequest(RuntimeRequest):
    """The body of ``POST /pause``."""


class ResumeRequest(RuntimeRequest):
    """The body of ``POST /resume``."""


class StopRequest(RuntimeRequest):
    """The body of ``POST /stop``."""

    timeout: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = Field(
        5, description="Seconds between TERM and KILL."
    )
    remove: bool = Field(False, description="Also remove the container.")


class RenewRequest(Request):
    """The body of ``POST /runtimes/{id}/renew``."""

    ttl: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = Field(
        description="Seconds from now until the runtime ends; null: never."
    )


class HostPort(Answer):
    """Where a container's port is published (the Engine's own names)."""

    HostIp: str
    HostPort: str


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
    session_api_key: str | None = Field(
        None, repr=False, description="Key of the service inside; for its owner only."
    )
    exit: Exit | None = Field(None, description="How it ended.")
    error: Failure | None = Field(None, description="Why it is in `error`.")
    restart_count: int = Field(0, description="How often the engine restarted it.")
    logs: str | None = Field(None, description="Last lines of its output, kept when it ended.")


class StartResponse(Runtime):
    """The answer of ``POST /start``."""

    created: bool = Field(True, description="False where the session's live runtime is returned.")
    warnings: list[str] = Field(default_factory=list, description="What was not applied, in sentences.")


class ActionResponse(Answer):
    """The answer of pause, resume, stop and remove."""

    runtime_id: str
    container_id: str | None = None
    status: RuntimeStatus = Field(description="The state after the call.")
    message: str = Field(description="What happened, for people.")
    changed: bool = Field(description="False where the runtime was in that state already.")
    warnings: list[str] = Field(default_factory=list, description="Unknown fields that were ignored.")


class RuntimePage(Answer):
    """The answer of ``GET /runtimes``."""

    runtimes: list[Runtime]
    next_cursor: str | None = Field(None, description="Pass as `cursor` for the next page; null at the end.")


class Health(Answer):
    """The answer of ``GET /healthz``."""

    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """The answer of ``GET /readyz``."""

    ready: bool
    reason: str | None = Field(None, description="Why not; only for callers with a key.")


class EngineVersion(Answer):
    """What the container engine says of itself."""

    name: str = Field(description="e.g. `Docker Engine` or `Podman Engine`.")
    version: str
    api_version: str


class Version(Answer):
    """The answer of ``GET /version``."""

    server: str = Field(description="This server's version.")
    api: str = Field(description="The API's version.")
    engine: EngineVersion | None = Field(None, description="Null while the engine doesn't answer.")


class FieldError(Answer):
    """One thing that is wrong with a request; values are never echoed."""

    loc: list[str | int] = Field(description="Where.")
    msg: str = Field(description="What.")
    type: str = Field(description="Pydantic's error type.")


class ProblemBody(Answer):
    """An RFC 9457 problem."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    request_id: str | None = None


def utc(seconds: float | None) -> datetime | None:
    """An aware datetime of Unix ``seconds``."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
