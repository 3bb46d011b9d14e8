"""The body of ``POST /start``, and its parts."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StringConstraints,
    field_validator,
    model_validator,
)

from runtime_server.models.base import (
    RESERVED_PREFIX,
    AbsolutePath,
    Alias,
    Capability,
    Cpus,
    Device,
    EnvironmentName,
    HostAddress,
    HostName,
    Name,
    Pids,
    PlainText,
    Port,
    Request,
    Seconds,
    Word,
    parse_size,
)
from runtime_server.models.readiness import ReadyCheck
from runtime_server.models.workspaces import WorkspacePath, WorkspaceRequest


class PortBinding(Request):
    """A container's port, published on the host."""

    container_port: Port = Field(description="Port inside the container.")
    host_port: Port | None = Field(None, description="Port on the host; none: the engine picks a free one.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="Transport protocol.")
    host_ip: str | None = Field(
        None,
        description="Address on the host, only `RUNTIME_SERVER_PUBLISH_HOST` or loopback; none: that setting.",
    )


def _named_or_absolute(value: str) -> str:
    if not value.startswith("/") and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}", value):
        raise ValueError("must be an absolute path or a volume's name")
    return value


def _not_root(value: str) -> str:
    if not value.strip("/") or ":" in value:
        raise ValueError("must name a folder below / and hold no colon")
    return value


MountSource = Annotated[Word, AfterValidator(_named_or_absolute)]
MountTarget = Annotated[AbsolutePath, AfterValidator(_not_root)]


class VolumeMount(Request):
    """A folder of the host, or a named volume, inside the container."""

    host_path: MountSource = Field(description="Absolute path on the host; without a leading `/` a named volume.")
    container_path: MountTarget = Field(description="Absolute path in the container.")
    mode: Literal["rw", "ro"] = Field("rw", description="Writable or read-only.")


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


Id = Annotated[int, Field(ge=0, le=4_294_967_294)]
RunAs = Id | Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,63}$")]
"""A user or a group, by number or name."""


class StartRequest(Request):
    """The body of ``POST /start``."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\s\x00]+$")] = Field(
        description="Image reference.", examples=["busybox"]
    )
    name: Alias | None = Field(None, description="An alias, unique per owner.")
    session_id: Name | None = Field(None, description="At most one live runtime per session and owner.")
    runtime_id: Name | None = Field(
        None, description="As `session_id`, for OpenHands 0.10 to 0.12; the runtime's own id is always the server's."
    )
    command: PlainText | list[PlainText] | None = Field(
        None, description="Command, as a list or as a string that is split like a shell's words."
    )
    entrypoint: PlainText | list[PlainText] | None = Field(None, description="Replaces the image's entrypoint.")
    environment: dict[EnvironmentName, PlainText] = Field(
        default_factory=dict, repr=False, description="Environment variables."
    )
    ports: list[PortBinding] = Field(default_factory=list, max_length=128, description="Ports to publish.")
    volumes: list[VolumeMount] = Field(default_factory=list, max_length=128, description="Folders and volumes.")
    workspace: StrictBool | WorkspacePath | WorkspaceRequest | None = Field(
        None,
        description="Where to mount the session's workspace, a volume that is kept when the runtime is gone; without "
        "a session, the alias's. True: where the server has it; false: none; null: as the server has it.",
        examples=["/workspace"],
    )
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
    cpus: Cpus | None = Field(None, description="CPU limit.")
    memory: str | int | None = Field(None, description='Memory limit: `"512m"` or bytes.', examples=["512m"])
    pids_limit: Pids | None = Field(None, description="Process limit.")
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
    run_as_user: RunAs | None = Field(None, description="As `user`: the user, for OpenHands' clients.")
    run_as_group: RunAs | None = Field(None, description="The group that goes with `run_as_user`.")
    fs_group: Id | None = Field(None, description="A supplementary group, by its number.")
    main_port: Port | None = Field(
        None,
        description="Port of the main service, which `url` leads to; none: 60000 where there is a `session_id`, else "
        "the only port that is published or exposed.",
    )
    access: Literal["public", "private"] | None = Field(
        None,
        description="Behind the gateway: `public`, for a service with a key of its own, or `private`, where callers "
        "present the session key to the gateway; none: the server's.",
    )
    wake: bool | None = Field(
        None, description="Behind the gateway: whether a request resumes it while it is paused; none: the server's."
    )
    idle_timeout: Seconds | None = Field(
        None,
        description="Behind the gateway: seconds of disuse after which it sleeps; 0: never; none: the server's.",
    )
    idle_action: Literal["pause", "stop"] | None = Field(
        None, description="What is done to it then; none: the server's."
    )
    readiness: ReadyCheck | None = Field(
        None,
        description="What makes it ready, until which it is `starting`; none: where there is a `session_id`, the "
        "main service's `/health` or `/alive`, else the image's HEALTHCHECK, else that it runs.",
    )
    enable_gpu: bool | None = Field(None, description="As `gpus: all`.")
    use_host_network: bool | None = Field(None, description="As `network: host`, which no policy allows.")
    workspace_mount_path: MountSource | None = Field(
        None, description="A folder of the host, or a named volume, to be mounted, by policy only."
    )
    workspace_mount_path_in_sandbox: MountTarget | None = Field(
        None, description="Where `workspace_mount_path` is mounted; none: `/workspace`."
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

    @model_validator(mode="after")
    def _one_way_each(self) -> StartRequest:
        if self.user is not None and (self.run_as_user is not None or self.run_as_group is not None):
            raise ValueError("user goes without run_as_user and run_as_group")
        if self.run_as_group is not None and self.run_as_user is None:
            raise ValueError("run_as_group goes with run_as_user only")
        if self.workspace_mount_path_in_sandbox is not None and self.workspace_mount_path is None:
            raise ValueError("workspace_mount_path_in_sandbox goes with workspace_mount_path only")
        return self

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
