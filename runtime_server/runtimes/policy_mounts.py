"""Host folders and named volumes of a start.

How a link that is swapped between check and mount is kept from helping: what policy checked is the source's real
path, found by following all links, and it is that path which the engine gets. Policy also walks it once more from
the root without following anything, and keeps the device and inode that it arrives at. Once the container is there,
and before its process is started, the walk is done again (``unswapped``): a component that has become a link, or
another file at the end of it, ends the start. When the process runs, what is really mounted in it is compared
(``mounted``), which also finds a path that was swapped to and fro just between the two; then the container is
removed.

What remains: such a to and fro lets a process run for the milliseconds until it is removed; and where this server
can't look into the container's process (it isn't root, or the engine is in another process namespace), ``mounted``
sees only the path as it is then. Both take somebody who can write to a folder above the source.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runtime_server.engine import labels as tags
from runtime_server.engine.base import Mount, RuntimeSpec, Snapshot
from runtime_server.engine.discovery import DEFAULT_SOCKET, ROOT_PODMAN_SOCKET
from runtime_server.errors import MountSourceMissing, PolicyRefused
from runtime_server.models import VolumeMount
from runtime_server.runtimes.policy_rules import refusal

NEVER = (
    "/proc",
    "/sys",
    "/dev",
    DEFAULT_SOCKET,
    ROOT_PODMAN_SOCKET,
    "/run/containerd",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
)
"""As good as root on the host, by their usual paths."""

Identity = tuple[int, int]
"""Device and inode."""

_SWAPPED = "A mount's source was exchanged while the runtime was being started."


class Mounts:
    """Which host folders may be mounted.

    Args:
        roots: folders under which they must lie.
        forbidden: paths that may never be mounted, nor what is in them or holds them.
    """

    def __init__(self, roots: Iterable[str], forbidden: Iterable[str]) -> None:
        self._roots = [os.path.realpath(os.path.expanduser(root)) for root in roots]
        self._never = [os.path.realpath(path) for path in (*NEVER, *forbidden)]
        self._above = {str(parent) for path in self._never for parent in Path(path).parents}

    def host(self, volume: VolumeMount, *, restarts: bool = False) -> Mount:
        """The mount of a host path.

        Args:
            volume: as asked for.
            restarts: the engine may start the container again by itself.

        Raises:
            PolicyRefused, MountSourceMissing
        """
        try:
            source = os.path.realpath(volume.host_path)
        except OSError:  # a link that may not be read, as in /proc
            raise _unreachable() from None
        if not any(_within(source, root) for root in self._roots):
            raise refusal("VOLUME_ROOTS", "Host paths can be mounted only under RUNTIME_SERVER_VOLUME_ROOTS.")
        if any(_within(source, never) or _within(never, source) for never in self._never):
            raise _forbidden()
        if restarts and source not in self._roots:
            raise refusal(
                "RESTART_HOST_PATHS", "A host path below a root can't be mounted together with a restart policy."
            )
        try:
            way = walk(source)
        except FileNotFoundError:
            raise MountSourceMissing("The folder to be mounted does not exist.", host_path=volume.host_path) from None
        except OSError:
            raise _unreachable() from None
        self._check_identities(way)
        return Mount(source, volume.container_path, volume.mode == "ro", identity=way[-1])

    def _check_identities(self, way: Sequence[Identity]) -> None:
        """The same by identity: hard links and bind mounts have paths of their own."""
        if _identities(self._never) & set(way) or way[-1] in _identities(self._above):
            raise _forbidden()


def volume(request: VolumeMount, labels: Mapping[str, str]) -> Mount:
    """A named volume of the owner's own.

    Its name on the engine has instance and owner in it, and it carries labels with them: the same name is another
    volume for another owner, and a volume that isn't this service's is never met.

    Args:
        request: as asked for.
        labels: of the container.
    """
    owner, instance = labels.get(tags.OWNER, ""), labels.get(tags.INSTANCE, "")
    digest = hashlib.sha256(owner.encode()).hexdigest()[:16]
    name = f"runtime-server-{instance[:8]}-{digest}-{request.host_path}"
    ours = {tags.INSTANCE: instance, tags.OWNER: owner, tags.VOLUME: request.host_path}
    return Mount(name, request.container_path, request.mode == "ro", labels=ours)


def walk(path: str) -> list[Identity]:
    """Device and inode of each step from the root to an absolute path, following no link.

    Raises:
        OSError: a step is missing, a link, or can't be entered; or the end is neither a folder nor a file.
    """
    steps = [step for step in path.split("/") if step]
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(here)
        found = [_identity(status)]
        for step in steps:
            there = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = there
            status = os.fstat(here)
            if stat.S_ISLNK(status.st_mode):
                raise OSError(f"{step} is a link")
            found.append(_identity(status))
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise OSError("neither a folder nor a file")
        return found
    finally:
        os.close(here)


def unswapped(spec: RuntimeSpec) -> None:
    """Return if each host path still leads, without a link, to what policy checked.

    Raises:
        PolicyRefused: it doesn't.
    """
    for mount in spec.mounts:
        if mount.identity is None:
            continue
        try:
            found = walk(mount.source)[-1]
        except OSError:
            raise swapped() from None
        if found != mount.identity:
            raise swapped()


def mounted(spec: RuntimeSpec, snapshot: Snapshot) -> None:
    """Return if a started container has the host paths that policy checked, as far as can be seen from here.

    Raises:
        PolicyRefused: it hasn't.
    """
    wanted = Counter(mount.identity for mount in spec.mounts if mount.identity is not None)
    if not wanted:
        return
    unswapped(spec)
    there = _mounted_in(snapshot)
    if there is not None and wanted - there:
        raise swapped()


def _mounted_in(snapshot: Snapshot) -> Counter[Identity] | None:
    """What is mounted in a container's first process; None where that can't be seen."""
    try:
        table = Path(f"/proc/{snapshot.pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        if snapshot.container_id not in table:
            # Another process: the engine counts in another namespace, or the container has ended. Its own has
            # /etc/hosts and the like from a folder of the engine that is named after it.
            return None
        points = [_unescaped(line.split(" ")[4]) for line in table.splitlines()]
        return Counter(_identity(os.stat(f"/proc/{snapshot.pid}/root{point}")) for point in points)
    except OSError:
        return None


def _unescaped(field: str) -> str:
    """A path of mountinfo, with space, tab, newline and backslash in octal (proc(5))."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def swapped() -> PolicyRefused:
    """The refusal of what isn't what was checked."""
    return refusal("VOLUME_ROOTS", _SWAPPED)


def _unreachable() -> PolicyRefused:
    return refusal("VOLUME_ROOTS", "The host path can't be reached by this server without following links.")


def _forbidden() -> PolicyRefused:
    return refusal(
        "VOLUME_ROOTS", "The engine's socket and the state directory can't be mounted, nor what holds them."
    )


def _identities(paths: Iterable[str]) -> set[Identity]:
    found = set()
    for path in paths:
        with suppress(OSError):
            found.add(_identity(os.stat(path)))
    return found


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root.rstrip('/')}/")
