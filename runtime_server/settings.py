"""The service's settings: environment variables with the prefix ``RUNTIME_SERVER_``, read once at the edge."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime_server.models import MIN_MEMORY, parse_size, workspace_path
from runtime_server.paths import KEYS_FILE, default_state_dir, default_volume_root

PREFIX = "RUNTIME_SERVER_"
LINGERING = 8
"""Threads of a worker that wait for a connection's next request at most, beside those that requests have."""

Names = Annotated[tuple[str, ...], NoDecode]
"""A comma-separated list."""


_COMPONENT = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*(:[0-9]{{1,5}})?"
"""Parts of an image's name (grammar of github.com/distribution/reference)."""

_FORMS = {
    "host_services": (
        r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])(/(tcp|udp))?",
        "port, port/tcp or port/udp",
    ),
    "runtime_classes": (r"[^=/\s]+=[^=/\s]+", "asked=engine's"),
    "host_ports": (r"\d{1,5}(-\d{1,5})?", "ports or ranges like 8000-8999"),
    "default_ulimits": (r"[a-z]+=\d{1,18}(:\d{1,18})?", "name=soft[:hard]"),
}
"""How each entry of these lists looks."""


class OwnerLimits(BaseModel):
    """One owner's limits in ``RUNTIME_SERVER_OWNER_LIMITS``; what it leaves out is as for everybody. 0: unlimited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_runtimes: int | None = Field(None, ge=0)
    max_running: int | None = Field(None, ge=0)
    max_cpus: float | None = Field(None, ge=0, allow_inf_nan=False)
    max_memory: str | int | None = None
    requests_per_second: float | None = Field(None, ge=0, allow_inf_nan=False)

    @field_validator("max_memory")
    @classmethod
    def _size(cls, value: str | int | None) -> str | int | None:
        if value is not None and parse_size(value) < 0:
            raise ValueError("must not be negative")
        return value


class Settings(BaseSettings):
    """What an operator can set. Each field is ``RUNTIME_SERVER_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - the user's own default
    port: int = Field(8090, ge=0, le=65535, description="Port to listen on.")
    bind: str = Field(
        "",
        pattern=r"^(unix:/\S+)?$",
        description="Socket to listen on instead, e.g. `unix:/run/runtime-server/api.sock`.",
    )
    trusted_proxies: Names = Field(
        (), description="Addresses and subnets whose `X-Forwarded-For` counts; with BIND its peers' does anyway."
    )
    domain: str = Field(
        "",
        pattern=r"^([a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*)?$",
        description="Name of the API for `nginx-config`; runtimes' addresses behind it are made of it.",
    )
    tls_certificate: Path | None = Field(None, description="Certificate, with its chain, for `nginx-config`.")
    tls_key: Path | None = Field(None, description="Key of that certificate.")
    workers: int = Field(2, ge=1, le=64, description="Worker processes.")
    threads: int = Field(16, ge=2, le=256, description="Threads per worker.")
    slow_threads: int = Field(
        0, ge=0, le=255, description="Threads per worker that may wait; 0: three quarters of THREADS."
    )
    streams: int = Field(32, ge=1, le=1024, description="Streams per worker, each with a thread beyond THREADS.")
    heartbeat: float = Field(15.0, ge=0.05, le=3600, description="Seconds of silence after which a stream says so.")
    max_stream: float = Field(
        0.0, ge=0, description="Seconds after which a stream ends, for its reader to resume; 0: never."
    )
    state_dir: Path = Field(default_factory=default_state_dir, description="Records, keys, locks.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")
    graceful_timeout: int = Field(60, ge=1, description="Seconds that requests in flight get at SIGTERM.")

    auth: Literal["on", "off"] = Field("on", description="Whether callers need an API key.")
    dashboard: Literal["on", "off"] = Field(
        "on", description="Whether people get a dashboard at `/`; never with ROUTING=path."
    )
    api_keys: str = Field(
        "", repr=False, description="`name:key,…`; the name is the owner, `name+admin:key` an admin's."
    )
    keys_file: Path | None = Field(None, description="Hashed API keys; none: `keys.json` in the state directory.")
    metrics: Literal["off", "key", "open"] = Field(
        "key", description="Who may read `/metrics`: nobody, admins, or everybody, who then learn no owners' names."
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body in bytes.")
    unknown_fields: Literal["forbid", "ignore"] = Field(
        "forbid", description="Unknown JSON fields: 422 or a warning."
    )

    publish_host: str = Field("127.0.0.1", description="Address on which ports are published.")
    advertise_host: str = Field(
        "",
        pattern=r"^[A-Za-z0-9.:_-]{0,253}$",
        description="Host in the addresses of runtimes; empty: the one that their ports are bound to.",
    )
    routing: Literal["published", "subdomain", "path"] = Field(
        "published",
        description="How runtimes are reached: by ports on this host, or through nginx by host name or by path.",
    )
    gateway_scheme: Literal["", "http", "https"] = Field(
        "", description="Scheme of runtimes' addresses; empty: https where there is a TLS_CERTIFICATE."
    )
    gateway_port: int = Field(
        0, ge=0, le=65535, description="Port in runtimes' addresses, unless it is the scheme's usual one."
    )
    gateway_dir: Path = Field(
        Path("/run/runtime-server"),
        description="Folder that nginx shares: the gateway's socket, and the look-ups that it keeps.",
    )
    nginx_group: str = Field(
        "www-data", pattern=r"^[a-z_][a-z0-9_-]{0,31}$", description="Group of nginx, which may reach that folder."
    )
    access: Literal["public", "private"] = Field(
        "public", description="Whether the gateway lets everybody call a runtime, or asks for its session key."
    )
    wake: bool = Field(True, description="Whether a request through the gateway to a paused runtime resumes it.")
    idle_timeout: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds of disuse after which a runtime behind the gateway sleeps; 0: never.",
    )
    idle_action: Literal["pause", "stop"] = Field("pause", description="What is done to a runtime then.")
    volume_roots: Names = Field(
        default_factory=lambda: (str(default_volume_root()),),
        description="Folders under which host paths may be mounted.",
    )
    allowed_networks: Names = Field(
        # Not `bridge`: runtimes reach one another there, and the host.
        ("none",),
        description="Networks that a start may name, besides none at all.",
    )
    network: str = Field(
        "runtime-server",
        pattern=r"^([a-zA-Z0-9][a-zA-Z0-9_.-]{0,62})?$",
        description="Network of runtimes that name none, made at need; empty: the engine's default.",
    )
    # Costs Docker 20.10 a third of a second a start, and leads nowhere there: it translates no IPv6 addresses.
    ipv6: bool = Field(False, description="Whether that network is made with IPv6, where the engine can.")
    host_services: Names = Field(
        (), description="Ports of the host, `8000` or `53/udp`, that runtimes reach as `host.docker.internal`."
    )
    egress: Literal["open", "none"] = Field("open", description="Whether runtimes may connect beyond the host.")
    firewall: Literal["auto", "off"] = Field(
        "auto", description="Whether the server sets firewall rules; off: an administrator does."
    )
    default_cpus: float = Field(2.0, ge=0, description="CPUs where a start names none; 0: all of the host's.")
    default_memory: str = Field("2g", description="Memory where a start names none; 0: unlimited.")
    default_pids: int = Field(512, ge=0, description="Process limit where a start names none; 0: unlimited.")
    cap_add: Names = Field(
        (
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "SETGID",
            "SETUID",
            "SETPCAP",
            "NET_BIND_SERVICE",
            # Both for sshd: its unprivileged half lives in a chroot, and a login is told to the audit system.
            "SYS_CHROOT",
            "AUDIT_WRITE",
        ),
        description="Capabilities that containers keep; all others are dropped.",
    )
    no_new_privileges: bool = Field(True, description="Whether containers get no-new-privileges.")
    default_ulimits: Names = Field(
        # Modest on purpose: an engine without CAP_SYS_RESOURCE can't raise a limit above its own.
        ("nofile=16384", "core=0"),
        description="`name=soft[:hard]` of every container.",
    )
    log_max_size: str = Field("10m", description="Size at which the engine starts a new log file; 0: its own rule.")
    log_max_files: int = Field(3, ge=1, le=100, description="Log files that the engine keeps of a container.")

    allowed_images: Names = Field(("*",), description="Globs of images that a start may name.")
    restart_host_paths: bool = Field(False, description="Whether host paths below a root go with a restart policy.")
    runtime_classes: Names = Field(
        # OpenHands' SDK asks for sysbox by default, and takes a failure for an answer.
        (
            *("runc=runc", "crun=crun", "runsc=runsc", "gvisor=runsc", "kata=kata"),
            *("sysbox=sysbox-runc|runc", "sysbox-runc=sysbox-runc|runc"),
        ),
        description="`asked=engine's` OCI runtimes, `|` and another where the engine lacks it; `*=…` for all others.",
    )
    host_ports: Names = Field(("1024-65535",), description="Host ports that a start may name.")
    allowed_restart_policies: Names = Field(
        ("no", "on-failure", "unless-stopped", "always"), description="Restart policies that a start may name."
    )
    allow_privileged: bool = Field(False, description="Whether a start may ask for privileged mode.")
    allow_new_privileges: bool = Field(False, description="Whether a start may ask for sudo to work.")
    allow_gpus: bool = Field(False, description="Whether a start may ask for GPUs.")
    allowed_devices: Names = Field((), description="Globs of host devices that a start may name.")
    allowed_capabilities: Names = Field((), description="Capabilities that a start may add to CAP_ADD; ALL: any.")
    max_environment_bytes: int = Field(131_072, ge=0, description="Environment of one start, in bytes.")
    max_labels: int = Field(64, ge=0, description="Labels of one start.")
    origins: Names = Field(
        (), description="Origins, `https://host:port`, of pages that may open terminals, besides the server's own."
    )
    exec_users: Names = Field(("*",), description="Globs of users that a command in a runtime may name.")
    max_upload: str = Field("1g", description="Bytes of a file, or of all files of a tar, that are sent at once.")
    max_exec: float = Field(3600.0, gt=0, description="Largest `timeout` of a command in a runtime, seconds.")
    max_exec_output: int = Field(1_048_576, ge=1024, description="Bytes kept of each output of such a command.")
    max_pids: int = Field(4096, ge=0, description="Largest process limit of a start; 0: any.")
    max_resource_factor: float = Field(8.0, gt=0, description="Largest `resource_factor` of a start.")

    max_runtimes_per_owner: int = Field(
        0, ge=0, description="An owner's runtimes that aren't removed; 0: unlimited, as in all quotas."
    )
    max_running_per_owner: int = Field(0, ge=0, description="An owner's runtimes that are starting or running.")
    max_cpus_per_owner: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="CPUs of an owner's starting, running and paused runtimes."
    )
    max_memory_per_owner: str = Field("0", description="Memory of an owner's starting, running and paused runtimes.")
    requests_per_second: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Requests that an owner may send, over all workers."
    )
    owner_limits: Annotated[dict[str, OwnerLimits], NoDecode] = Field(
        default_factory=dict, description='Other limits for some owners: JSON, `{"ci": {"max_running": 50}}`.'
    )
    max_running: int = Field(0, ge=0, description="Runtimes of all owners that are starting or running.")
    max_starting: int = Field(
        0, ge=0, description="Starts that are worked on at once, others queue; 0: three times the cores."
    )

    builds: Literal["on", "off"] = Field(
        "on", description="Whether images may be built, once REGISTRY_PREFIX says how they are named."
    )
    registry_prefix: str = Field(
        "",
        pattern=rf"^(({_HOST}|{_COMPONENT})(/{_COMPONENT})*)?$",
        max_length=128,
        description="What built images' names begin with, e.g. `registry.example.com/sandboxes`; empty: no builds.",
    )
    registry_push: bool = Field(False, description="Whether built images are pushed to the prefix's registry.")
    shared_builds: bool = Field(
        False,
        description="Whether all owners build under the prefix itself, instead of a folder of their own below it.",
    )
    build_network: Literal["default", "none"] = Field("default", description="Network of a build's RUN steps.")
    build_timeout: float = Field(1800.0, gt=0, description="Seconds that a build may take.")
    max_builds: int = Field(2, ge=1, le=64, description="Builds that are worked on at once, others queue.")
    max_queued_builds: int = Field(8, ge=0, description="Builds of an owner that may queue.")
    max_build_context: str = Field("256m", description="Largest build context, as it is sent before base64.")
    max_build_unpacked: str = Field("2g", description="Largest build context, unpacked.")
    docker_cli: str = Field("", description="The `docker` command that builds; empty: one on PATH that can.")

    engine: str = Field("", description="Address of the engine, e.g. unix:///run/docker.sock; empty: discovered.")
    engine_timeout: float = Field(60.0, gt=0, description="Seconds that one engine call may take.")
    idempotency_ttl: float = Field(86_400.0, gt=0, description="Seconds that answers are kept for replay.")
    idempotency_wait: float = Field(10.0, ge=0, description="Seconds that a twin waits for the first call.")
    retention: float = Field(86_400.0, ge=0, description="Seconds that stopped runtimes and removed records stay.")
    workspace: str = Field(
        "", description="Where sessions that say nothing else have their workspace, `/workspace`; empty: nowhere."
    )
    workspace_retention: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Seconds that an unused workspace stays; 0: for ever."
    )
    max_wait: float = Field(300.0, gt=0, description="Longest `wait` or `timeout` of a waiting request, seconds.")
    sweep_interval: float = Field(30.0, gt=0, description="Seconds between two sweeps of the reconciler.")

    @field_validator(
        "trusted_proxies",
        "volume_roots",
        "allowed_networks",
        "cap_add",
        "default_ulimits",
        "allowed_images",
        "runtime_classes",
        "host_ports",
        "host_services",
        "allowed_restart_policies",
        "allowed_devices",
        "allowed_capabilities",
        "exec_users",
        "origins",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("registry_prefix", mode="before")
    @classmethod
    def _without_slash(cls, value: Any) -> Any:
        return value.strip().rstrip("/") if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _subnets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ipaddress.ip_network(each)) for each in value)
        except ValueError:
            raise ValueError("must be a list of IP addresses and subnets") from None

    @field_validator("default_memory")
    @classmethod
    def _least(cls, value: str) -> str:
        if 0 < parse_size(value) < MIN_MEMORY:
            raise ValueError("must be 0, or at least 6m")
        return value

    @field_validator("workspace")
    @classmethod
    def _folder(cls, value: str) -> str:
        return workspace_path(value) if value else value

    @field_validator("workspace_retention", mode="before")
    @classmethod
    def _none_is_never(cls, value: Any) -> Any:
        return value or 0

    @field_validator("publish_host")
    @classmethod
    def _ip_address(cls, value: str) -> str:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address") from None
        return value

    @field_validator("runtime_classes", "host_ports", "host_services", "default_ulimits")
    @classmethod
    def _formed(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        pattern, form = _FORMS[info.field_name or ""]
        if not all(re.fullmatch(pattern, each, re.ASCII) for each in value):
            raise ValueError(f"must be a list of {form}")
        return value

    @field_validator("owner_limits", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value or "{}")
        except ValueError:
            raise ValueError("must be JSON") from None

    @field_validator("log_max_size", "max_upload", "max_memory_per_owner", "max_build_context", "max_build_unpacked")
    @classmethod
    def _size(cls, value: str) -> str:
        parse_size(value)
        return value

    @field_validator("routing")
    @classmethod
    def _named(cls, value: str, info: ValidationInfo) -> str:
        if value != "published" and not info.data.get("domain"):
            raise ValueError("needs RUNTIME_SERVER_DOMAIN")
        return value

    @property
    def gateway_socket(self) -> Path:
        """Where nginx asks who serves a request."""
        return self.gateway_dir / "gateway.sock"

    @property
    def gateway_lookups(self) -> Path:
        """Where nginx keeps the answers for a moment."""
        return self.gateway_dir / "lookups"

    @property
    def gateway_secure(self) -> bool:
        """Whether runtimes are reached by TLS."""
        return self.gateway_scheme == "https" or (not self.gateway_scheme and self.tls_certificate is not None)

    @property
    def gateway_host(self) -> str:
        """The domain as it stands in addresses, with its port where that isn't the usual one."""
        usual = 443 if self.gateway_secure else 80
        return f"{self.domain}:{self.gateway_port}" if self.gateway_port not in (0, usual) else self.domain

    @property
    def gateway_cookie(self) -> str:
        """Name of the cookie for private runtimes."""
        # Browsers take a cookie of that prefix from its own host alone, and by TLS (RFC 6265bis, section 4.1.3.2).
        return "__Host-runtime-session" if self.gateway_secure else "runtime-session"

    @property
    def routed(self) -> bool:
        """Whether runtimes are reached through nginx, and no port of theirs is published."""
        return self.routing != "published"

    @property
    def shows_dashboard(self) -> bool:
        """Whether there is a dashboard. By path, pages of runtimes share its origin, and could read the key."""
        return self.dashboard == "on" and self.routing != "path"

    @property
    def keys_path(self) -> Path:
        """Where hashed API keys lie."""
        return (self.keys_file or self.state_dir / KEYS_FILE).expanduser().absolute()

    @property
    def starting_places(self) -> int:
        """How many starts are worked on at once."""
        return self.max_starting or 3 * (os.cpu_count() or 1)

    @property
    def request_threads(self) -> int:
        """All threads of a worker that requests may have: streams hold one each, and take none from others."""
        return self.threads + self.streams + LINGERING

    @property
    def slow_lane(self) -> int:
        """How many threads of a worker may wait at once, always fewer than all."""
        return min(self.slow_threads or max(1, self.threads * 3 // 4), self.threads - 1)


def explain(error: ValidationError) -> list[str]:
    """One sentence for each setting that is wrong; never with the value, which may be a secret."""
    sentences = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        name = PREFIX + str(each["loc"][0]).upper().removeprefix(PREFIX) if each["loc"] else f"{PREFIX}*"
        said = each["msg"].removeprefix("Value error, ")
        sentences.append(f"{name}: {said[:1].lower()}{said[1:]}.")
    return sentences


def load() -> Settings:
    """The settings of the environment.

    Raises:
        SystemExit: 2, with a sentence on stderr for each setting that is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        sys.stderr.write("".join(f"{sentence}\n" for sentence in explain(error)))
        raise SystemExit(2) from None
