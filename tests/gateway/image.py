"""An image with this interpreter in it, made without a registry: what runs behind the gateway is a script of ours."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from docker import APIClient

VERSION = "{}.{}".format(*sys.version_info)
PYTHON = f"{sys.base_prefix}/bin/python{VERSION}"
# Another interpreter of the same version lies elsewhere.
_PLACE = hashlib.sha256(PYTHON.encode()).hexdigest()[:8]
IMAGE = f"runtime-server-test/python:{'.'.join(map(str, sys.version_info[:3]))}-{_PLACE}"
_LEFT_OUT = {
    "__pycache__", "config", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages",
    "test", "tests", "tkinter", "turtledemo", "unittest",
}  # fmt: skip


def libraries(programs: Iterable[Path]) -> set[Path]:
    """The shared libraries that programs need, the loader included, by the names under which they are looked for."""
    done = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False, timeout=60)
    return {Path(found) for found in re.findall(r"(?:=>\s|^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE)}


def make(client: APIClient) -> str:
    """The image's name; it is imported where the engine doesn't have it yet."""
    if not any(IMAGE in (each.get("RepoTags") or ()) for each in client.images()):
        repository, _, tag = IMAGE.partition(":")
        client.import_image_from_data(_archive(), repository=repository, tag=tag, changes=["EXPOSE 8000"])
    return IMAGE


def _archive() -> bytes:
    library = Path(sys.base_prefix, "lib", f"python{VERSION}")
    files = [Path(PYTHON)]
    for folder, names, found in os.walk(library):
        names[:] = [name for name in names if name not in _LEFT_OUT and not name.startswith("config-")]
        files += [Path(folder, name) for name in found if not name.endswith((".a", ".pyc"))]
    files += sorted(libraries([each for each in files if each.name.endswith(".so") or each == Path(PYTHON)]))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for folder in ("tmp", "root", "srv", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for path in files:
            tar.add(path, str(path).lstrip("/"))
    return out.getvalue()
