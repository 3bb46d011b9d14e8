"""The query parameters, as models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from runtime_server.models import RuntimeStatus, Seconds


class Query(BaseModel):
    """Query parameters; the names in ``repeatable`` may be given more than once."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    repeatable: ClassVar[frozenset[str]] = frozenset()


class NoQuery(Query):
    """No query parameters."""


class RuntimesQuery(Query):
    """The query of ``GET /runtimes``."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"status", "label"})

    status: list[RuntimeStatus] = Field(
        default_factory=list, description="Only these states; repeated, or with commas."
    )
    label: list[Annotated[str, StringConstraints(min_length=1, max_length=4096)]] = Field(
        default_factory=list, max_length=64, description="Only with this label, as `key` or `key=value`; repeatable."
    )
    owner: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Only this owner's, where the caller is an admin; others see none but their own."
    )
    limit: int = Field(100, ge=1, le=1000, description="How many at most.")
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        None, description="The `next_cursor` of the page before."
    )

    @field_validator("status", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return [part.strip() for each in value for part in each.split(",")]
        return value

    @field_validator("label")
    @classmethod
    def _one_value_each(cls, value: list[str]) -> list[str]:
        wanted = dict.fromkeys(value)
        keys = [each.partition("=")[0] for each in wanted]
        if "" in keys:
            raise ValueError("a label's key is empty")
        if len(set(keys)) != len(keys):
            raise ValueError("a label is asked for in two ways")
        return value

    @property
    def labels(self) -> dict[str, str | None]:
        """The labels by key; None where any value will do."""
        parts = [each.partition("=") for each in self.label]
        return {key: value if equals else None for key, equals, value in parts}


class WorkspacesQuery(Query):
    """The query of ``GET /workspaces``."""

    session_id: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = Field(
        None, description="Only this session's."
    )
    owner: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Only this owner's, where the caller is an admin; others see none but their own."
    )
    sizes: bool = Field(False, description="Also measure them, which reads all volumes and may take long.")
    limit: int = Field(100, ge=1, le=1000, description="How many at most.")
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        None, description="The `next_cursor` of the page before."
    )


class WorkspaceQuery(Query):
    """The query of ``GET /workspaces/{workspace}``."""

    sizes: bool = Field(False, description="Also measure it, which reads all volumes and may take long.")


class RuntimeQuery(Query):
    """The query of ``GET /runtimes/{runtime_id}``."""

    wait_for: RuntimeStatus | None = Field(None, description="Answer once it is in this state, or at the timeout.")
    timeout: Seconds = Field(30.0, description="Seconds to wait, with `wait_for`; the server has a limit of its own.")
    environment: Literal["names", "values"] = Field(
        "names", description="`values`: with the environment's values, which only the runtime's owner gets."
    )


class BatchQuery(Query):
    """The query of ``GET /sessions/batch``."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"ids"})

    ids: list[Annotated[str, StringConstraints(min_length=1, max_length=65_536)]] = Field(
        default_factory=list, max_length=1000, description="Sessions; repeated, or with commas."
    )

    @field_validator("ids")
    @classmethod
    def _split(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(part for each in value for part in each.split(",") if part))


class BuildQuery(Query):
    """The query of ``GET /build_status``."""

    build_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="The `build_id` of `POST /build`.", examples=["build-0123456789ab"]
    )


class ImageQuery(Query):
    """The query of ``GET /image_exists``."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="An image's reference.", examples=["busybox:latest"]
    )
