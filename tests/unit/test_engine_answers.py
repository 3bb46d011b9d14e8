"""The table of engine answers: one real message for each row, and no exception without a meaning."""

from __future__ import annotations

import inspect
from typing import Any

import docker.errors
import pytest
import requests
import requests.exceptions
import urllib3.exceptions

from runtime_server.engine import answers, files
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

SHIM = (
    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
)

# Name of the row, operation, status, an engine's message, what it means, what it carries.
EXAMPLES: list[tuple[str, str, int, str, type[Exception], dict[str, Any]]] = [
    (
        "api version",
        "pause",
        400,
        "client version 1.45 is too new. Maximum supported API version is 1.41",
        answers.VersionMismatch,
        {},
    ),
    (
        "api version",
        "inspect",
        400,
        "client version 1.24 is too old. Minimum supported API version is 1.44",
        answers.VersionMismatch,
        {},
    ),
    ("container missing", "stop", 404, "No such container: runtime-0123456789ab", ContainerMissing, {}),
    (
        "container missing",
        "inspect",
        404,
        'no container with name or ID "runtime-1" found: no such container',
        ContainerMissing,
        {},
    ),
    (
        "name taken",
        "create",
        409,
        'Conflict. The container name "/runtime-1" is already in use by container "4f". You have to remove it',
        NameTaken,
        {},
    ),
    (
        "name taken",
        "create",
        500,
        'creating container storage: the container name "runtime-1" is already in use by 4f. You have to remove it',
        NameTaken,
        {},
    ),
    (
        "image reference",
        "image",
        400,
        "no such image: BAD: invalid reference format: repository name must be lowercase",
        ImageReferenceInvalid,
        {"image": "asked"},
    ),
    ("image reference", "pull", 400, "invalid reference format", ImageReferenceInvalid, {"image": "asked"}),
    (
        "image platform",
        "create",
        404,
        "image with reference x was found but does not match the specified platform: wanted linux/arm64",
        ImageNotFound,
        {"image": "asked"},
    ),
    (
        "image platform",
        "pull",
        404,
        "no matching manifest for linux/arm64 in the manifest list entries",
        ImageNotFound,
        {"image": "asked"},
    ),
    (
        "image missing at the registry",
        "pull",
        404,
        "pull access denied for x, repository does not exist or may require 'docker login'",
        ImageNotFound,
        {"image": "asked"},
    ),
    ("image missing", "create", 404, "No such image: nope:latest", ImageNotFound, {"image": "asked"}),
    (
        "image missing",
        "image",
        404,
        "failed to find image nope: nope: image not known",
        ImageNotFound,
        {"image": "asked"},
    ),
    ("disk full", "create", 500, "mkdir /var/lib/docker/x: no space left on device", EngineFailed, {}),
    (
        "image missing, said within the stream",
        "pull",
        200,
        "manifest for busybox:nope not found: manifest unknown: manifest unknown",
        ImageNotFound,
        {"image": "asked"},
    ),
    (
        "registry credentials",
        "pull",
        500,
        'Head "https://r.example/v2/x/manifests/latest": no basic auth credentials',
        ImagePullFailed,
        {"image": "asked"},
    ),
    (
        "registry unreachable",
        "pull",
        500,
        'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
        ImagePullFailed,
        {"image": "asked"},
    ),
    ("pull failed", "pull", 200, "filesystem layer verification failed", ImagePullFailed, {"image": "asked"}),
    (
        "runtime class",
        "create",
        400,
        "Unknown runtime specified runsc",
        RuntimeClassUnknown,
        {"runtime_class": "runsc"},
    ),
    (
        "runtime class",
        "create",
        400,
        "unknown or invalid runtime name: runsc",
        RuntimeClassUnknown,
        {"runtime_class": "runsc"},
    ),
    ("limit", "create", 400, "Minimum memory limit allowed is 6MB", LimitOutOfRange, {}),
    (
        "limit",
        "create",
        400,
        "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        LimitOutOfRange,
        {},
    ),
    ("limit", "create", 400, "SHM size can not be less than 0", LimitOutOfRange, {}),
    (
        "limit",
        "start",
        500,
        "error during container init: error setting cgroup config for procHooks process: "
        "unable to set memory limit to 1000 (current usage: 2748416, peak usage: 2899968): OCI runtime error",
        LimitOutOfRange,
        {},
    ),
    (
        "mount source",
        "create",
        400,
        'invalid mount config for type "bind": bind source path does not exist: /srv/no such',
        MountSourceMissing,
        {"host_path": "/srv/no such"},
    ),
    (
        "mount source",
        "start",
        500,
        "statfs /srv/gone: no such file or directory",
        MountSourceMissing,
        {"host_path": "/srv/gone"},
    ),
    ("network missing", "start", 404, "network inner not found", NetworkNotFound, {"network": "inner"}),
    (
        "network missing",
        "create",
        500,
        "unable to find network with name or ID inner: network not found",
        NetworkNotFound,
        {"network": "inner"},
    ),
    (
        "port in use",
        "start",
        500,
        "driver failed programming external connectivity on endpoint r: Bind for 127.0.0.1:80 failed: "
        "port is already allocated",
        PortInUse,
        {},
    ),
    (
        "port in use",
        "start",
        500,
        "failed to bind host port for 127.0.0.1:80:172.17.0.2:80/tcp: address already in use",
        PortInUse,
        {},
    ),
    ("user", "start", 500, "unable to find user zz: no matching entries in passwd file", UserUnknown, {}),
    ("user", "start", 500, "Unable to find group zz: no matching entries in group file", UserUnknown, {}),
    (
        "command not executable",
        "start",
        400,
        SHIM + 'exec: "/etc/passwd": permission denied: unknown',
        CommandNotExecutable,
        {},
    ),
    (
        "command not executable",
        "start",
        400,
        "crun: open executable: Permission denied: OCI permission denied",
        CommandNotExecutable,
        {},
    ),
    (
        "command not found",
        "start",
        400,
        SHIM + 'exec: "nope": executable file not found in $PATH: unknown',
        CommandNotFound,
        {},
    ),
    (
        "command not found",
        "start",
        400,
        SHIM + 'exec: "/nope": stat /nope: no such file or directory: unknown',
        CommandNotFound,
        {},
    ),
    (
        "command not found",
        "start",
        400,
        "crun: executable file `nope` not found in $PATH: No such file or directory",
        CommandNotFound,
        {},
    ),
    ("gpus", "start", 500, 'could not select device driver "" with capabilities: [[gpu]]', SpecRejected, {}),
    (
        "device",
        "start",
        500,
        'error gathering device information while adding custom device "/dev/x": no such file or directory',
        SpecRejected,
        {},
    ),
    (
        "bad mount",
        "create",
        500,
        'fill out specgen: invalid container path "rel", must be an absolute path',
        SpecRejected,
        {},
    ),
    ("bad mount", "start", 500, 'invalid tmpfs option ["zz"]', SpecRejected, {}),
    (
        "exec not allowed",
        "exec",
        409,
        "Container 3bd7149ba5ad is paused, unpause the container before exec",
        InvalidState,
        {"runtime_status": None, "allowed_actions": None},
    ),
    ("exec refused", "exec", 400, "OCI runtime exec failed: exec failed: something new", SpecRejected, {}),
    (
        "working directory",
        "exec",
        400,
        'OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd ("/no") set in '
        "config.json failed: no such file or directory: unknown",
        SpecRejected,
        {},
    ),
    (
        "command not found",
        "exec",
        400,
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "no": executable file not '
        "found in $PATH: unknown",
        CommandNotFound,
        {},
    ),
    (
        "command not executable",
        "exec",
        400,
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "/etc/passwd": permission '
        "denied: unknown",
        CommandNotExecutable,
        {},
    ),
    ("user", "exec", 400, "unable to find user no: no matching entries in passwd file", UserUnknown, {}),
    ("working directory", "create", 500, "Cannot mkdir: /etc/passwd is not a directory", SpecRejected, {}),
    (
        "working directory",
        "start",
        500,
        'workdir "/etc/passwd" exists on container 4f, but is not a directory',
        SpecRejected,
        {},
    ),
    ("capability", "create", 500, 'container create: "CAP_ZZ": unknown capability', SpecRejected, {}),
    ("log size", "create", 400, "unknown log opt 'max-size' for journald log driver", answers.LogSizeRefused, {}),
    ("specification", "create", 400, 'invalid CapAdd: unknown capability: "CAP_ZZ"', SpecRejected, {}),
    ("specification, at start", "start", 400, SHIM + "apparmor profile is missing", SpecRejected, {}),
    (
        "start while paused",
        "start",
        409,
        "cannot start a paused container, try unpause instead",
        InvalidState,
        {"runtime_status": None, "allowed_actions": None},
    ),
    (
        "start otherwise not allowed",
        "start",
        409,
        "container is marked for removal and cannot be started",
        InvalidState,
        {"runtime_status": None, "allowed_actions": None},
    ),
    ("paused already", "pause", 409, "Container 4f is already paused", answers.Unchanged, {}),
    ("not paused", "resume", 500, "Container 4f is not paused", answers.Unchanged, {}),
    (
        "pause, resume not allowed",
        "pause",
        409,
        "Container 4f is not running",
        InvalidState,
        {"runtime_status": None, "allowed_actions": None},
    ),
    (
        "stop while paused",
        "stop",
        500,
        "container 4f is running or paused, refusing to clean up: container state improper",
        answers.StillPaused,
        {},
    ),
    ("path missing", "archive", 404, "Could not find the file /no in container web", files.PathMissing, {}),
    ("path not a folder", "archive", 400, "extraction point is not a directory", files.NotAFolder, {}),
    (
        "path not a folder",
        "archive",
        400,
        'cannot overwrite directory "/x" with non-directory',
        files.NotAFolder,
        {},
    ),
    ("path read-only", "archive", 403, "container rootfs is marked read-only", files.ReadOnly, {}),
    ("archive refused", "archive", 500, 'invalid symlink "/srv/link" -> "../etc/passwd"', ArchiveInvalid, {}),
    ("archive refused", "archive", 500, "archive/tar: invalid tar header", ArchiveInvalid, {}),
    ("read-only root", "folder", 500, "container rootfs is marked read-only", answers.ReadOnlyRoot, {}),
    ("image missing", "remove_image", 404, "No such image: none:1", ImageNotFound, {"image": "asked"}),
    (
        "limit in use",
        "update",
        500,
        "Cannot update container 4f: OCI runtime update failed: failed to write 6291456: write "
        "/sys/fs/cgroup/memory/docker/4f/memory.limit_in_bytes: device or resource busy: unknown",
        LimitOutOfRange,
        {},
    ),
    (
        "limit",
        "update",
        400,
        "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        LimitOutOfRange,
        {},
    ),
    (
        "update not allowed",
        "update",
        409,
        'Cannot update container 4f: Container is marked for removal and cannot be "update".',
        InvalidState,
        {"runtime_status": None, "allowed_actions": None},
    ),
    ("path missing", "archive", 404, "Could not find the file /none in container 4f", PathMissing, {}),
    ("path not a folder", "archive", 400, "extraction point is not a directory", NotAFolder, {}),
    ("path read-only", "archive", 403, "container rootfs is marked read-only", ReadOnly, {}),
    (
        "image in use",
        "remove_image",
        409,
        'conflict: unable to remove repository reference "a:1" (must force) - container 4f is using its referenced '
        "image 9b0c",
        ImageInUse,
        {},
    ),
    (
        "removal in progress",
        "remove",
        409,
        "removal of container 4f is already in progress",
        answers.BeingRemoved,
        {},
    ),
]


@pytest.mark.parametrize(
    ("row", "operation", "status", "message", "error", "carried"),
    EXAMPLES,
    ids=[f"{e[0]}-{e[3][:20]}" for e in EXAMPLES],
)
def test_row(
    row: str, operation: str, status: int, message: str, error: type[Exception], carried: dict[str, Any]
) -> None:
    found = answers.answer(operation, status, message, image="asked")

    assert type(found) is error
    if isinstance(found, Problem):
        assert found.extensions == carried
        assert (
            found.detail == next(each.detail for each in answers.TABLE if each.name == row) or found.detail == message
        )


def test_every_row_has_an_example_that_it_answers() -> None:
    answered = set()
    for name, operation, status, message, *_ in EXAMPLES:
        first = answers.matching(operation, status, message)
        assert first is not None
        assert first[0].name == name
        answered.add(name)
    assert answered == {row.name for row in answers.TABLE}


@pytest.mark.parametrize("operation", ["create", "start", "pause", "pull", "list"])
def test_an_unknown_server_error_tells_nothing_of_the_inside(operation: str) -> None:
    found = answers.answer(operation, 503, "open /var/run/secret.sock: something")

    assert type(found) is EngineFailed
    assert "secret" not in found.detail


def response(status: int, body: bytes = b'{"message": "No such container: x"}', **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code, made._content = status, body
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


def refused(status: int, body: bytes, **headers: str) -> docker.errors.APIError:
    return docker.errors.APIError("", response=response(status, body, **headers), explanation=body.decode())


def exceptions_of(*modules: Any) -> list[type[Exception]]:
    found = {each for module in modules for _, each in inspect.getmembers(module, inspect.isclass)}
    kinds = [each for each in found if issubclass(each, Exception) and not issubclass(each, Warning)]
    return sorted(kinds, key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize(
    "kind",
    exceptions_of(docker.errors, requests.exceptions, urllib3.exceptions),
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_every_exception_of_the_libraries_leaves_as_an_engine_error(kind: type[Exception]) -> None:
    # Some want arguments of their own, which the mapping doesn't look at.
    error = (
        kind("a /secret/path") if issubclass(kind, docker.errors.APIError) else kind.__new__(kind, "a /secret/path")
    )
    with pytest.raises(Problem) as caught, answers.mapped("pause"):
        raise error

    assert isinstance(caught.value, (EngineUnreachable, EngineTimeout, EngineFailed))
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (requests.exceptions.ConnectionError(PermissionError(13, "Permission denied")), EngineUnreachable),
        (requests.exceptions.ConnectionError(FileNotFoundError()), EngineUnreachable),
        (requests.exceptions.ChunkedEncodingError(), EngineUnreachable),
        (ConnectionResetError(), EngineUnreachable),
        (requests.exceptions.ReadTimeout(), EngineTimeout),
        (requests.exceptions.ConnectTimeout(), EngineTimeout),
        (
            requests.exceptions.ConnectionError(urllib3.exceptions.ReadTimeoutError(None, "", "")),  # type: ignore[arg-type]
            EngineTimeout,
        ),
        (TimeoutError(), EngineTimeout),
        (requests.exceptions.JSONDecodeError("", "", 0), EngineFailed),
        (docker.errors.APIError("", response=response(500), explanation="x"), EngineFailed),
        (docker.errors.NotFound("", response=response(404), explanation="No such container: x"), ContainerMissing),
        # Cut within the headers, and within the body.
        (refused(409, b""), EngineUnreachable),
        (refused(409, b'{"message": "Conf', Content_Type="application/json"), EngineUnreachable),
        (refused(502, b"<html>", Content_Type="text/html", Content_Length="6"), EngineFailed),
    ],
)
def test_what_no_answer_means(error: Exception, meaning: type[Exception]) -> None:
    found = answers.problem(error, "pause")

    assert type(found) is meaning
    if isinstance(found, (EngineUnreachable, EngineTimeout)):
        assert found.retry_after is not None
