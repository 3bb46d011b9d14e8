"""Every error of the API and of its client.

    RuntimeClientError
    ├── TransportError             no answer that could be read
    │   ├── ServerUnreachable      no connection
    │   └── ServerTimeout          connected, but no answer in time
    ├── DeadlineExceeded           the total deadline of one call ran out between attempts
    ├── IncompatibleServer         an answer that this client can't make sense of
    ├── BuildFailed                an image build that was waited for ended without an image
    └── Problem                    an RFC 9457 answer; one class for each code in CATALOGUE

The server raises the classes under ``Problem`` and the client raises the same ones again from the answer.
This module knows nothing of Falcon or requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

TYPE_PREFIX = "urn:runtime-server:problem:"
"""A problem's ``type`` is this followed by its code (RFC 9457, section 3.1.1: any URI, need not resolve)."""


class RuntimeClientError(Exception):
    """The root of all errors that the client raises.

    Attributes:
        attempts: how many times the call was sent, 0 where nothing was sent.
        request_id: the ``X-Request-ID`` of the last attempt.
        retryable: whether sending the same call again may help.
        gave_up: why the client made no further attempt although one might have helped.
    """

    attempts: int = 0
    request_id: str | None = None
    retryable: bool = False
    gave_up: str | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} (gave up at attempt {self.attempts}: {self.gave_up})" if self.gave_up else text


class TransportError(RuntimeClientError):
    """No answer could be read: whether the server acted is unknown."""

    retryable = True


class ServerUnreachable(TransportError):
    """No connection to the server, or it broke before the answer was whole."""


class ServerTimeout(TransportError):
    """The server didn't answer within the connect or the read timeout."""


class DeadlineExceeded(RuntimeClientError):
    """The call's total deadline ran out; the cause is the last attempt's error."""


class IncompatibleServer(RuntimeClientError):
    """An answer that isn't this API's, or of a version that can't be read."""


class BuildFailed(RuntimeClientError):
    """An image build ended otherwise than with an image; its text is the build's ``error``.

    Attributes:
        build_id: which.
        status: how it ended, such as ``FAILURE`` or ``TIMEOUT``.
    """

    build_id: str = ""
    status: str = ""


class Problem(RuntimeClientError):
    """An error of the catalogue.

    Args:
        detail: one sentence for a person; never holds a secret.
        retry_after: seconds after which another try makes sense, sent as ``Retry-After``.
        extensions: the problem's own members, JSON values.
    """

    code: str = "unknown"
    status: int = 500
    title: str = "Unknown problem"
    retryable: bool = False
    carries: ClassVar[tuple[str, ...]] = ()
    """Names of the extension members that this problem has."""

    def __init__(self, detail: str = "", *, retry_after: float | None = None, **extensions: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.extensions: dict[str, Any] = extensions

    def to_body(self, request_id: str | None = None) -> dict[str, Any]:
        """The ``application/problem+json`` members."""
        return {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retryable": self.retryable,
            "request_id": request_id,
            **self.extensions,
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any], *, status: int, retry_after: float | None = None) -> Problem:
        """The error of a problem body; an unknown code becomes a plain ``Problem`` with all its data."""
        known = {"type", "title", "status", "detail", "code", "retryable", "request_id"}
        found = CATALOGUE.get(str(body.get("code")), Problem)
        problem = found(str(body.get("detail") or body.get("title") or f"HTTP {status}"), retry_after=retry_after)
        problem.extensions = {key: value for key, value in body.items() if key not in known}
        problem.status = status
        if found is Problem and isinstance(body.get("code"), str):
            problem.code = body["code"]
        if isinstance(body.get("retryable"), bool):
            problem.retryable = body["retryable"]
        if isinstance(body.get("request_id"), str):
            problem.request_id = body["request_id"]
        return problem


class _Input(Problem):
    """The caller's request can't be accepted as it is."""


class ValidationFailed(_Input):
    """The body, a query parameter or a header doesn't fit its model."""

    code, status, title = "validation-failed", 422, "The request is not valid"
    carries = ("errors",)


class MalformedJson(_Input):
    """The body isn't JSON."""

    code, status, title = "malformed-json", 400, "The body is not valid JSON"


class BadRequest(_Input):
    """The request breaks HTTP's rules in a way no other code names."""

    code, status, title = "bad-request", 400, "The request can't be understood"


class UnsupportedMediaType(_Input):
    """The body's ``Content-Type`` isn't JSON."""

    code, status, title = "unsupported-media-type", 415, "The body must be application/json"


class BodyTooLarge(_Input):
    """The body is larger than ``RUNTIME_SERVER_MAX_BODY_BYTES``."""

    code, status, title = "body-too-large", 413, "The body is too large"
    carries = ("limit",)


class Unauthorized(Problem):
    """No API key, or one that isn't known."""

    code, status, title = "unauthorized", 401, "A valid API key is needed"


class FileTooLarge(_Input):
    """What is sent is larger than ``RUNTIME_SERVER_MAX_UPLOAD``."""

    code, status, title = "file-too-large", 413, "That is too large"
    carries = ("limit",)


class ArchiveInvalid(_Input):
    """The body isn't a tar, or has something in it that is refused."""

    code, status, title = "archive-invalid", 422, "The archive is not accepted"


class PathNotFound(Problem):
    """There is nothing at that path in the runtime."""

    code, status, title = "path-not-found", 404, "No such path in the runtime"
    carries = ("path",)


class PathConflict(Problem):
    """What is at the path is of another kind: a folder, no folder, or one that isn't empty."""

    code, status, title = "path-conflict", 409, "What is at the path doesn't allow this"
    carries = ("path",)


class PathReadOnly(Problem):
    """The runtime's file system, or a volume, is read-only there."""

    code, status, title = "path-read-only", 409, "The path is read-only"


class UpgradeRequired(_Input):
    """The route speaks WebSocket, and the request doesn't ask for that as RFC 6455 has it."""

    code, status, title = "upgrade-required", 426, "The request must be a WebSocket handshake"


class TerminalUnavailable(Problem):
    """The server program in front of the service doesn't hand over connections, or is reached by HTTP/2."""

    code, status, title = "terminal-unavailable", 501, "Terminals don't work behind this server"


class PolicyRefused(Problem):
    """The server's policy forbids what was asked; ``setting`` rules it."""

    code, status, title = "policy-refused", 403, "Refused by the server's policy"
    carries = ("setting",)


class RuntimeNotFound(Problem):
    """No runtime of this caller has that id or alias."""

    code, status, title = "runtime-not-found", 404, "No such runtime"


class BuildNotFound(Problem):
    """No image build of this caller has that id, or its time of retention is over."""

    code, status, title = "build-not-found", 404, "No such build"


class BuildContextInvalid(_Input):
    """The build context isn't an archive, has no Dockerfile, is too large unpacked, or leads out of itself."""

    code, status, title = "build-context-invalid", 422, "The build context can't be used"
    carries = ("member",)


class BuilderUnavailable(Problem):
    """The server has no ``docker`` command that can build with BuildKit."""

    code, status, title = "builder-unavailable", 503, "Images can't be built on this server"


class TooManyBuilds(Problem):
    """As many builds of the owner are waiting as may."""

    code, status, title, retryable = "too-many-builds", 429, "Too many builds are waiting", True


class RouteNotFound(Problem):
    """No route has that path."""

    code, status, title = "route-not-found", 404, "No such route"


class MethodNotAllowed(Problem):
    """The route exists, with other methods."""

    code, status, title = "method-not-allowed", 405, "Method not allowed on this route"
    carries = ("allowed",)


class AdminOnly(Problem):
    """The call needs the key of an admin."""

    code, status, title = "admin-only", 403, "Only an admin may do this"


class ImageInUse(Problem):
    """A container is made of the image, or it is named by its id and has other names."""

    code, status, title = "image-in-use", 409, "The image is in use"
    carries = ("image",)


class VolumeNotFound(Problem):
    """No named volume of this caller has that name."""

    code, status, title = "volume-not-found", 404, "No such volume"


class VolumeInUse(Problem):
    """A runtime that isn't removed has the volume."""

    code, status, title = "volume-in-use", 409, "The volume is in use"
    carries = ("runtime_ids",)


class WorkspaceNotFound(Problem):
    """No workspace of this caller has that id, session or alias."""

    code, status, title = "workspace-not-found", 404, "No such workspace"


class WorkspaceInUse(Problem):
    """A runtime that isn't removed has the workspace."""

    code, status, title = "workspace-in-use", 409, "The workspace is in use"
    carries = ("runtime_ids",)


class InvalidState(Problem):
    """The runtime's state doesn't allow the action."""

    code, status, title = "invalid-state", 409, "The runtime's state does not allow this"
    carries = ("runtime_status", "allowed_actions")


class NameConflict(Problem):
    """Another runtime of this owner has that alias."""

    code, status, title = "name-conflict", 409, "The name is taken"
    carries = ("name", "runtime_id")


class RuntimeBusy(Problem):
    """Another call is working on the same runtime; soon it will not be."""

    code, status, title, retryable = "runtime-busy", 409, "The runtime is busy", True


class PortInUse(Problem):
    """A host port that was asked for is taken."""

    code, status, title = "port-in-use", 409, "The host port is in use"


class IdempotencyKeyReused(Problem):
    """The ``Idempotency-Key`` was used before, with another request."""

    code, status, title = "idempotency-key-reused", 422, "The Idempotency-Key belongs to another request"


class IdempotencyInFlight(Problem):
    """The first call with this ``Idempotency-Key`` hasn't ended yet."""

    code, status, title, retryable = "idempotency-in-flight", 409, "The first call is still running", True


class ImageNotFound(Problem):
    """Neither the engine nor the registry has the image."""

    code, status, title = "image-not-found", 404, "No such image"
    carries = ("image",)


class ImagePullFailed(Problem):
    """The registry couldn't be reached, or refused."""

    code, status, title = "image-pull-failed", 502, "The image can't be pulled"
    carries = ("image",)


class ImageReferenceInvalid(_Input):
    """The image's name isn't a valid reference."""

    code, status, title = "image-reference-invalid", 422, "The image reference is not valid"
    carries = ("image",)


class CommandNotFound(_Input):
    """The command isn't in the image."""

    code, status, title = "command-not-found", 422, "The command is not in the image"


class CommandNotExecutable(_Input):
    """The command is in the image and can't be executed."""

    code, status, title = "command-not-executable", 422, "The command is not executable"


class NetworkNotFound(_Input):
    """The engine has no network of that name."""

    code, status, title = "network-not-found", 422, "No such network"
    carries = ("network",)


class RuntimeClassUnknown(_Input):
    """The engine has no OCI runtime of that name."""

    code, status, title = "runtime-class-unknown", 422, "No such runtime class"
    carries = ("runtime_class",)


class LimitOutOfRange(_Input):
    """A CPU, memory or other limit that the engine can't give."""

    code, status, title = "limit-out-of-range", 422, "A limit is out of range"


class MountSourceMissing(_Input):
    """A folder to be mounted doesn't exist on the engine's host."""

    code, status, title = "mount-source-missing", 422, "The mount's source does not exist"
    carries = ("host_path",)


class UserUnknown(_Input):
    """The user or group isn't in the image."""

    code, status, title = "user-unknown", 422, "No such user in the image"


class SpecRejected(_Input):
    """The engine refuses the specification for a reason that no other code names."""

    code, status, title = "spec-rejected", 422, "The engine rejects the specification"


class EngineUnreachable(Problem):
    """The container engine doesn't answer."""

    code, status, title, retryable = "engine-unreachable", 503, "The container engine can't be reached", True


class EngineTimeout(Problem):
    """The container engine didn't answer in time; it may still act."""

    code, status, title, retryable = "engine-timeout", 504, "The container engine didn't answer in time", True


class EngineFailed(Problem):
    """The container engine answered with an error of its own."""

    code, status, title = "engine-failed", 502, "The container engine failed"


class ExecOutcomeUnknown(Problem):
    """The worker that ran the command died: it isn't run again, and what it has written is lost."""

    code, status, title = "exec-outcome-unknown", 409, "What became of the command is not known"
    carries = ("exec_id", "running", "exit_code")


class StorageUnavailable(Problem):
    """The server's records can't be read or written, for instance because the disk is full."""

    code, status, title, retryable = "storage-unavailable", 503, "The server's storage is unavailable", True


class RegistryCredentialsLost(Problem):
    """The worker that held the request's registry credentials died; send the call again."""

    code, status, title, retryable = "registry-credentials-lost", 503, "Registry credentials were lost", True


class TooManyWaiting(Problem):
    """All threads for slow requests are taken."""

    code, status, title, retryable = "too-many-waiting", 429, "Too many waiting requests", True


class TooManyStreams(Problem):
    """All threads for streams are taken."""

    code, status, title, retryable = "too-many-streams", 429, "Too many streams", True


class QuotaExceeded(Problem):
    """A limit on runtimes is reached: the owner's, or the host's.

    Not retryable: the client doesn't send the call again by itself, since nothing frees a quota but the end or the
    pause of a runtime. ``Retry-After`` tells when to look again at the soonest; the same call may then succeed.
    """

    code, status, title = "quota-exceeded", 429, "A quota is used up"
    carries = ("limit", "maximum", "used")


class RateLimited(Problem):
    """The owner sends more requests a second than it may."""

    code, status, title, retryable = "rate-limited", 429, "Too many requests", True


class RuntimeUnanswered(Problem):
    """The gateway's: the runtime's service doesn't answer, or the runtime has ended."""

    code, status, title = "runtime-unanswered", 502, "The runtime doesn't answer"


class RuntimeUnavailable(Problem):
    """The gateway's: the runtime is paused and isn't woken, by its terms, for want of a quota or of an engine."""

    code, status, title, retryable = "runtime-unavailable", 503, "The runtime is unavailable", True


class ServerDraining(Problem):
    """The server accepts no new starts, since it is about to stop."""

    code, status, title, retryable = "server-draining", 503, "The server is draining", True


class ServerUnavailable(Problem):
    """Said by the shipped nginx: the server behind it doesn't answer."""

    code, status, title, retryable = "server-unavailable", 503, "The server doesn't answer", True


class InternalError(Problem):
    """Something unforeseen; the server's log has it under the request id."""

    code, status, title = "internal-error", 500, "Internal error"


def _all(root: type[Problem]) -> list[type[Problem]]:
    return [each for child in root.__subclasses__() for each in ([child, *_all(child)])]


CATALOGUE: dict[str, type[Problem]] = {each.code: each for each in _all(Problem) if each.code != "unknown"}
"""Every code with its class."""
