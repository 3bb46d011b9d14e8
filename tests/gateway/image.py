"""An image with this interpreter in it, made without a registry: what runs behind the gateway is a script of ours."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from docker import APIClient
from packaging.requirements import Requirement

VERSION = "{}.{}".format(*sys.version_info)
PYTHON = f"{sys.base_prefix}/bin/python{VERSION}"
# Another interpreter of the same version lies elsewhere.
_PLACE = hashlib.sha256(PYTHON.encode()).hexdigest()[:8]
IMAGE = f"runtime-server-test/python:{'.'.join(map(str, sys.version_info[:3]))}-{_PLACE}"
SERVER = "runtime-server-test/server:latest"
_COMMAND = f"#!{PYTHON}\nfrom runtime_server.cli.main import main\nmain()\n"
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


def make_server(client: APIClient, nginx: str) -> str:
    """An image of the service and of this machine's nginx, for both of their parts; made anew for each run."""
    import runtime_server

    programs = [Path(nginx), *Path("/usr/sbin").glob("ip*tables*")]
    plugins = [each for folder in Path("/usr/lib").glob("*/xtables") for each in folder.glob("*.so")]
    dependencies = _dependencies()
    modules = [each for path in dependencies for each in (path.rglob("*.so") if path.is_dir() else [path])]
    files = [*programs, *plugins, *sorted(libraries([*programs, *plugins, *modules]))]
    out = io.BytesIO(_archive(files, compiled=True))
    with tarfile.open(fileobj=out, mode="a") as tar:
        for name, content, mode in (
            ("opt/runtime-server/bin/runtime-server", _COMMAND.encode(), 0o755),
            ("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755),
            ("etc/passwd", b"root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www-data:/:/bin/sh\n", 0o644),
            ("etc/group", b"root:x:0:\nwww-data:x:33:\n", 0o644),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for applet in ("sh", "rm"):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        for folder in ("var/lib/nginx", "var/log/nginx", "etc/nginx/conf.d", "run", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path in dependencies:
            tar.add(path, f"opt/runtime-server/lib/{path.name}")
        package = Path(runtime_server.__file__).parent
        tar.add(package, "opt/runtime-server/lib/runtime_server")
    repository, _, tag = SERVER.partition(":")
    changes = ["ENV PYTHONPATH=/opt/runtime-server/lib", 'ENTRYPOINT ["/opt/runtime-server/bin/runtime-server"]']
    changes += ["ENV PATH=/usr/sbin:/usr/bin:/bin"]
    client.import_image_from_data(out.getvalue(), repository=repository, tag=tag, changes=changes)
    return SERVER


def _dependencies() -> set[Path]:
    """What lies in site-packages of all that the service needs."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    found: set[Path] = set()
    seen: set[str] = set()
    wanted = [Requirement(each).name for each in project["dependencies"]]
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        distribution = metadata.distribution(name)
        for each in distribution.files or ():
            if not each.parts[0].startswith((".", "__pycache__")):
                found.add(Path(str(distribution.locate_file(each.parts[0]))))
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                wanted.append(needed.name)
    return found


def _archive(more: Iterable[Path] = (), *, compiled: bool = False) -> bytes:
    library = Path(sys.base_prefix, "lib", f"python{VERSION}")
    files = [Path(PYTHON)]
    for folder, names, found in os.walk(library):
        kept = {"__pycache__"} if compiled else set()
        names[:] = [name for name in names if name not in _LEFT_OUT - kept and not name.startswith("config-")]
        files += [Path(folder, name) for name in found if not name.endswith((".a", ".opt-1.pyc", ".opt-2.pyc"))]
    files += sorted(libraries([each for each in files if each.name.endswith(".so") or each == Path(PYTHON)]))
    files += more
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for folder in ("tmp", "root", "srv", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for path in dict.fromkeys(files):
            tar.add(path, str(path).lstrip("/"))
    return out.getvalue()
