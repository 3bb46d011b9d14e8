"""What an engine's answers mean: one table, from what Docker Engine 20.10 and 26, and Podman, say.

The first row that fits wins. ``answer`` reads the table, ``problem`` takes any exception of docker-py or requests.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker.errors
import requests.exceptions
import urllib3.exceptions

from runtime_server.engine.base import ContainerMissing, NameTaken
from runtime_server.engine.files import NotAFolder, PathMissing, ReadOnly
from runtime_server.engine.stock import ImageInUse
from runtime_server.errors import (
    ArchiveInvalid,
    CommandNotExecutable,
    CommandNotFound,
    EngineFailed,
    EngineTimeout,
    EngineUnreachable,
    ImageNotFound,
    ImagePullFailed,
    ImageReferenceInvalid,
    InvalidState,
    LimitOutOfRange,
    MountSourceMissing,
    NetworkNotFound,
    PortInUse,
    Problem,
    RuntimeClassUnknown,
    SpecRejected,
    UserUnknown,
)

RETRY_AFTER = 2.0
"""Seconds after which an unreachable engine is worth another try."""


class Unchanged(Exception):
    """The container is in that state already."""


class BeingRemoved(Exception):
    """Another call is removing the container."""


class StillPaused(Exception):
    """The engine, Podman, doesn't thaw what it is told to stop."""


class LogSizeRefused(Exception):
    """The engine's log driver (journald, syslog and the like) knows nothing of sizes."""


class ReadOnlyRoot(Exception):
    """Nothing can be unpacked into a container whose root is read-only, but into its volumes."""


class VersionMismatch(Exception):
    """The engine doesn't speak the API version that was agreed with it: it has been replaced since."""


@dataclass(frozen=True, slots=True)
class Row:
    """An engine's answer and its meaning.

    ``operations``, ``statuses`` (HTTP) and ``pattern`` (searched for in the message, any case) all have to fit; an
    empty tuple fits all. Named groups of the pattern become the problem's extension members. An empty ``detail`` is
    the engine's own message, for answers that are about the caller's specification only.
    """

    name: str
    operations: tuple[str, ...]
    statuses: tuple[int, ...]
    pattern: str
    error: type[Exception]
    detail: str = ""


_SPEC = ("create", "start")
_COMMAND = ("start", "exec")
_ON_IMAGE = ("image", "pull", "create")

TABLE = (
    Row("api version", (), (400,), r"client (api )?version .* is too (new|old)", VersionMismatch),
    Row("container missing", (), (404,), r"no such container|no container with name or id", ContainerMissing),
    Row("name taken", ("create",), (409, 500), r"already in use by|name .* is in use", NameTaken),
    Row(
        "image reference",
        _ON_IMAGE,
        (400, 404, 500),
        r"invalid reference format|repository name must|invalid (image )?reference",
        ImageReferenceInvalid,
        "The image reference is not valid.",
    ),
    Row(
        "image platform",
        ("create", "pull"),
        (400, 404, 500),
        r"does not match the specified platform|no matching manifest|no image found in .* for ",
        ImageNotFound,
        "The image does not exist for this platform.",
    ),
    Row(
        "image missing at the registry",
        ("pull",),
        (404,),
        r"",
        ImageNotFound,
        "The registry has no such image, or not for these credentials.",
    ),
    Row(
        "image missing",
        ("image", "create", "remove_image"),
        (404,),
        r"no such image|image not known|failed to find image",
        ImageNotFound,
        "The image is not on the engine.",
    ),
    Row("disk full", (), (500,), r"no space left on device", EngineFailed, "The engine's disk is full."),
    Row(
        "image missing, said within the stream",
        ("pull",),
        (200, 500),
        r"manifest unknown|not found|does not exist or",
        ImageNotFound,
        "The registry has no such image, or not for these credentials.",
    ),
    Row(
        "registry credentials",
        ("pull",),
        (200, 500),
        r"unauthorized|authentication required|no basic auth credentials|denied|incorrect username",
        ImagePullFailed,
        "The registry refuses these credentials.",
    ),
    Row(
        "registry unreachable",
        ("pull",),
        (200, 500),
        r"dial tcp|no such host|connection refused|timeout|timed out|deadline|x509|tls|eof|reset by peer|pinging",
        ImagePullFailed,
        "The registry can't be reached.",
    ),
    Row("pull failed", ("pull",), (200, 500), r"", ImagePullFailed, "The image can't be pulled."),
    Row(
        "runtime class",
        _SPEC,
        (400, 500),
        r"unknown runtime specified (?P<runtime_class>[^\s,]+)"
        r"|unknown or invalid runtime name: (?P<runtime_class_2>[^\s,]+)"
        r"|(oci )?runtime \"?(?P<runtime_class_3>[^\s\"]+)\"? not found",
        RuntimeClassUnknown,
        "The engine has no runtime class of that name.",
    ),
    Row(
        "limit in use",
        ("update",),
        (400, 500),
        r"device or resource busy|memory.*(in use|usage)",
        LimitOutOfRange,
        "The runtime uses more memory than that.",
    ),
    Row(
        "limit",
        (*_SPEC, "update"),
        (400, 500),
        r"minimum memory limit|range of cpus|shm ?size|memory limit too low|unable to set memory limit|pids limit"
        r"|requested cpus are not available|cpu.* can not be",
        LimitOutOfRange,
    ),
    Row(
        "mount source",
        _SPEC,
        (400, 500),
        r"bind source path does not exist:? (?P<host_path>/.*)|statfs (?P<host_path_2>/.*): no such file",
        MountSourceMissing,
        "The folder to be mounted does not exist on the engine's host.",
    ),
    Row(
        "network missing",
        _SPEC,
        (404, 500),
        r"network (?P<network>\S+) not found|network with name or id (?P<network_2>[^\s:]+)",
        NetworkNotFound,
        "The engine has no network of that name.",
    ),
    Row(
        "port in use",
        ("start",),
        (500,),
        r"port is already allocated|address already in use|ports are not available",
        PortInUse,
        "A host port that was asked for is in use.",
    ),
    Row(
        "user",
        (*_SPEC, "exec"),
        (400, 404, 500),
        r"unable to find (user|group)|no matching entries in (passwd|group)",
        UserUnknown,
        "The image has no such user or group.",
    ),
    Row(
        "working directory",
        (*_SPEC, "exec"),
        (400, 500),
        r"cannot mkdir: .* is not a directory|workdir .* is not a directory|\bchdir to cwd\b",
        SpecRejected,
        "The working directory can't be entered.",
    ),
    Row(
        "command not executable",
        _COMMAND,
        (400, 500),
        r"exec: .*(permission denied|is a directory|exec format error)|open executable: permission denied",
        CommandNotExecutable,
        "The command is in the image and can't be executed.",
    ),
    Row(
        "command not found",
        _COMMAND,
        (400, 404, 500),
        r"exec(utable)?.*(not found in|no such file or directory)|command that was not found",
        CommandNotFound,
        "The command is not in the image.",
    ),
    Row(
        "gpus",
        ("start",),
        (500,),
        r"could not select device driver",
        SpecRejected,
        "The engine can't give GPUs to a container.",
    ),
    Row(
        "device",
        ("start",),
        (500,),
        r"error gathering device information",
        SpecRejected,
        "The engine has no such device.",
    ),
    Row(
        "bad mount",
        _SPEC,
        (500,),
        r"invalid mount|invalid mode|invalid tmpfs|mount path must be absolute"
        r"|invalid volume specification|invalid container path|source .* is not directory|cannot be mounted because",
        SpecRejected,
        "The engine does not accept a mount of this specification.",
    ),
    Row(
        "capability", ("create",), (500,), r"unknown capability", SpecRejected, "The engine knows no such capability."
    ),
    Row("log size", ("create",), (400, 500), r"unknown log opt", LogSizeRefused),
    Row(
        "exec not allowed",
        ("exec",),
        (409, 500),
        r"is paused|not running|state improper",
        InvalidState,
        "The container isn't running.",
    ),
    Row("exec refused", ("exec",), (400,), r"", SpecRejected, "The command can't be started."),
    Row("specification", ("create",), (400, 409), r"", SpecRejected),
    Row("specification, at start", ("start",), (400,), r"", SpecRejected),
    Row(
        "start while paused",
        ("start",),
        (409, 500),
        r"paused|state improper",
        InvalidState,
        "The container is paused.",
    ),
    Row("start otherwise not allowed", ("start",), (409,), r"", InvalidState, "The container can't be started."),
    Row("paused already", ("pause",), (409, 500), r"already paused", Unchanged),
    Row("not paused", ("resume",), (409, 500), r"not paused", Unchanged),
    Row(
        "pause, resume not allowed",
        ("pause", "resume"),
        (409, 500),
        r"not running|stopped container|is restarting|state improper",
        InvalidState,
        "The container isn't running.",
    ),
    Row(
        "update not allowed",
        ("update",),
        (409, 500),
        r"marked for removal|state improper|is restarting",
        InvalidState,
        "The container can't be changed now.",
    ),
    Row("stop while paused", ("stop",), (500,), r"running or paused", StillPaused),
    Row("path missing", ("archive",), (404,), r"could not find the file|no such file or directory", PathMissing),
    Row("path not a folder", ("archive",), (400, 500), r"not a directory|cannot overwrite", NotAFolder),
    Row("path read-only", ("archive",), (400, 403, 500), r"marked read-only|read-only file ?system", ReadOnly),
    Row(
        "archive refused",
        ("archive",),
        (400, 500),
        r"invalid (sym|hard)link|is outside of|archive/tar:|unexpected eof",
        ArchiveInvalid,
        "The engine refuses the archive, for a link in it that leads above the folder, or for its form.",
    ),
    Row("read-only root", ("folder",), (400, 403, 500), r"rootfs is marked read-only", ReadOnlyRoot),
    Row(
        "image in use",
        ("remove_image",),
        (409, 500),
        r"conflict|in use|being used|must be forced|multiple repositories",
        ImageInUse,
    ),
    Row("removal in progress", ("remove",), (409,), r"removal .*in progress|being removed", BeingRemoved),
)

_FAILED = "The container engine answered with an error of its own."


def matching(operation: str, status: int, message: str) -> tuple[Row, re.Match[str]] | None:
    """The first row that fits, with what its pattern found."""
    for row in TABLE:
        if (row.operations and operation not in row.operations) or (row.statuses and status not in row.statuses):
            continue
        found = re.search(row.pattern, message, re.IGNORECASE)
        if found is not None:
            return row, found
    return None


def answer(operation: str, status: int, message: str, **carried: Any) -> Exception:
    """The meaning of an error that the engine sent.

    Args:
        operation: ``create``, ``start``, ``exec``, ``pause``, ``resume``, ``stop``, ``remove``, ``inspect``,
            ``image``, ``pull`` or another word, for which only the rows about any operation count.
        status: of HTTP; 200 for an error within a stream.
        message: of the engine.
        carried: what the problem may carry, such as ``image``.
    """
    match = matching(operation, status, message)
    if match is None:
        return EngineFailed(_FAILED)
    row, found = match
    if not issubclass(row.error, Problem):
        return row.error(message)
    known = carried | {re.sub(r"_\d$", "", name): value for name, value in found.groupdict().items() if value}
    # Every member that the problem promises is there, if only as null.
    extensions = {name: known.get(name) for name in row.error.carries}
    return row.error(row.detail or message, **extensions)


def problem(error: BaseException, operation: str = "", **carried: Any) -> Exception:
    """The meaning of whatever docker-py, requests or urllib3 raised; details never hold a path or an address."""
    if isinstance(error, docker.errors.APIError):
        # Without a response it is no answer, but something docker-py made of one.
        if error.response is not None and _is_cut_short(error.response):
            return EngineUnreachable("The container engine's answer broke off.", retry_after=RETRY_AFTER)
        status = error.status_code if error.response is not None else 500
        return answer(operation, int(status or 500), str(error.explanation or ""), **carried)
    if _is_timeout(error):
        return EngineTimeout("The container engine didn't answer in time.", retry_after=RETRY_AFTER)
    # requests' exceptions are OSErrors themselves.
    lost = isinstance(error, OSError) and not isinstance(error, requests.exceptions.RequestException)
    if lost or isinstance(error, _NO_ANSWER):
        return EngineUnreachable("The container engine can't be reached.", retry_after=RETRY_AFTER)
    return EngineFailed(_FAILED)


_NO_ANSWER = (
    requests.exceptions.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    http.client.HTTPException,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ClosedPoolError,
    docker.errors.TLSParameterError,
    docker.errors.InvalidConfigFile,
    docker.errors.ContextException,
    docker.errors.ContextNotFound,
    docker.errors.MissingContextParameter,
    docker.errors.ContextAlreadyExists,
)


def _is_cut_short(response: requests.Response) -> bool:
    """Whether an error's body is only a part of what was sent: engines explain each error in a JSON object.

    Where the connection ends within the headers, they look like whole ones without a length, and the body is empty.
    """
    framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    if framed and "json" not in response.headers.get("Content-Type", ""):
        return False  # somebody else's page, a proxy's for one
    try:
        return not isinstance(response.json(), dict)
    except ValueError:
        return True


def _is_timeout(error: BaseException) -> bool:
    # While a body is read, requests wraps the timeout in a ConnectionError.
    inner = error.args[0] if error.args else None
    return isinstance(error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)) or (
        isinstance(error, requests.exceptions.ConnectionError)
        and isinstance(inner, urllib3.exceptions.ReadTimeoutError)
    )


@contextmanager
def mapped(operation: str, **carried: Any) -> Iterator[None]:
    """Raise what an engine's answer means instead of docker-py's and requests' exceptions."""
    try:
        yield
    except (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        docker.errors.StreamParseError,
        OSError,
        # Of an answer that is cut short or isn't an engine's.
        LookupError,
        ValueError,
    ) as error:
        raise problem(error, operation, **carried) from error
