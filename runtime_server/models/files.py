"""A runtime's files on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from runtime_server.models.base import Answer


class FileInfo(Answer):
    """What is at a path."""

    name: str = Field(description="The last part of its path.")
    type: Literal["file", "folder", "link", "other"] = Field(description="`other`: a device, a pipe or a socket.")
    size: int = Field(0, description="Bytes of a file.")
    mode: str = Field(description="Permissions in octal, e.g. `0644`.")
    mtime: AwareDatetime | None = Field(None, description="When it was changed last.")
    owner: str | None = Field(None, description="`uid:gid`; null where the engine doesn't tell.")
    target: str | None = Field(None, description="Where a link leads.")


class FileListing(Answer):
    """The answer of ``GET /runtimes/{id}/files`` with ``list``."""

    path: str = Field(description="Of what was listed, links followed.")
    entries: list[FileInfo] = Field(description="What is in the folder, by name; of what is no folder, that alone.")
    truncated: bool = Field(False, description="Whether there is, or may be, more.")


class FilesWritten(Answer):
    """The answer of ``PUT`` and ``DELETE /runtimes/{id}/files``."""

    path: str = Field(description="Of the file or folder, links followed.")
    entries: int = Field(description="Files, folders and links that the request was about.")
    bytes: int = Field(description="Of what was written.")
    warnings: list[str] = Field(default_factory=list, description="What was ignored.")
