"""The service's settings: environment variables with the prefix ``RUNTIME_SERVER_``, read once at the edge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime_server.paths import KEYS_FILE, default_state_dir, default_volume_root

PREFIX = "RUNTIME_SERVER_"

Names = Annotated[tuple[str, ...], NoDecode]
"""A comma-separated list."""


class Settings(BaseSettings):
    """What an operator can set. Each field is ``RUNTIME_SERVER_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - the user's own default
    port: int = Field(8090, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(2, ge=1, le=64, description="Worker processes.")
    threads: int = Field(16, ge=2, le=256, description="Threads per worker.")
    slow_threads: int = Field(
        0, ge=0, le=255, description="Threads per worker that may wait; 0: three quarters of THREADS."
    )
    state_dir: Path = Field(default_factory=default_state_dir, description="Records, keys, locks.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")
    graceful_timeout: int = Field(60, ge=1, description="Seconds that requests in flight get at SIGTERM.")

    auth: Literal["on", "off"] = Field("on", description="Whether callers need an API key.")
    api_keys: str = Field(
        "", repr=False, description="`name:key,…`; the name is the owner, `name+admin:key` an admin's."
    )
    keys_file: Path | None = Field(None, description="Hashed API keys; none: `keys.json` in the state directory.")
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body in bytes.")
    unknown_fields: Literal["forbid", "ignore"] = Field(
        "forbid", description="Unknown JSON fields: 422 or a warning."
    )

    publish_host: str = Field("127.0.0.1", description="Address on which ports are published.")
    volume_roots: Names = Field(
        default_factory=lambda: (str(default_volume_root()),),
        description="Folders under which host paths may be mounted.",
    )
    allowed_networks: Names = Field(("bridge", "none"), description="Networks that a start may name.")
    default_cpus: float = Field(0.0, ge=0, description="CPUs where a start names none; 0: all of the host's.")
    default_memory: str = Field("2g", description="Memory where a start names none; 0: unlimited.")
    default_pids: int = Field(1024, ge=0, description="Process limit where a start names none; 0: unlimited.")
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
        ),
        description="Capabilities that containers keep; all others are dropped.",
    )
    no_new_privileges: bool = Field(True, description="Whether containers get no-new-privileges.")

    engine: str = Field("", description="Address of the engine, e.g. unix:///run/docker.sock; empty: discovered.")
    engine_timeout: float = Field(60.0, gt=0, description="Seconds that one engine call may take.")
    idempotency_ttl: float = Field(86_400.0, gt=0, description="Seconds that answers are kept for replay.")
    idempotency_wait: float = Field(10.0, ge=0, description="Seconds that a twin waits for the first call.")
    retention: float = Field(86_400.0, ge=0, description="Seconds that stopped runtimes and removed records stay.")
    max_wait: float = Field(300.0, gt=0, description="Longest `wait` or `timeout` of a waiting request, seconds.")
    sweep_interval: float = Field(30.0, gt=0, description="Seconds between two sweeps of the reconciler.")

    @field_validator("volume_roots", "allowed_networks", "cap_add", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def keys_path(self) -> Path:
        """Where hashed API keys lie."""
        return (self.keys_file or self.state_dir / KEYS_FILE).expanduser().absolute()

    @property
    def slow_lane(self) -> int:
        """How many threads of a worker may wait at once, always fewer than all."""
        return min(self.slow_threads or max(1, self.threads * 3 // 4), self.threads - 1)


def explain(error: ValidationError) -> list[str]:
    """One sentence for each setting that is wrong; never with the value, which may be a secret."""
    sentences = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        name = PREFIX + str(each["loc"][0]).upper().removeprefix(PREFIX) if each["loc"] else f"{PREFIX}*"
        sentences.append(f"{name}: {each['msg'][:1].lower()}{each['msg'][1:]}.")
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
