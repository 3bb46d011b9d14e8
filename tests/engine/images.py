"""Test images made without a registry: Debian's static busybox, imported from a tar."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from docker import APIClient

BUSYBOX = "runtime-server-test/busybox:latest"
"""busybox in ``/bin``, users ``root`` and ``nobody``; neither a command nor an entrypoint."""
EXPOSING = "runtime-server-test/exposing:latest"
"""The same, with ``EXPOSE 8000``."""

_BINARY = Path("/bin/busybox")
_APPLETS = (
    "sh",
    "sleep",
    "cat",
    "echo",
    "env",
    "httpd",
    "id",
    "kill",
    "ls",
    "mkdir",
    "nc",
    "ps",
    "test",
    "true",
    "wget",
)
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


def root_file_system() -> bytes:
    """The images' tar; the same bytes each time, so that making it again adds no layer."""
    if not _BINARY.is_file():
        raise RuntimeError("no /bin/busybox: scripts/engine installs busybox-static")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "root", "srv"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for name, content, mode in (
            ("bin/busybox", _BINARY.read_bytes(), 0o755),
            *((name, content, 0o644) for name, content in _FILES.items()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for applet in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return out.getvalue()


def make(client: APIClient) -> None:
    """Import the images that the engine doesn't have yet."""
    there = {tag for image in client.images() for tag in image.get("RepoTags") or ()}
    for image, changes in ((BUSYBOX, []), (EXPOSING, ["EXPOSE 8000"])):
        if image in there:
            continue
        repository, _, tag = image.partition(":")
        client.import_image_from_data(root_file_system(), repository=repository, tag=tag, changes=changes)
