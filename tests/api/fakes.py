"""A manager that does nothing but answer, and calls that are kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime_server.builds.context import Upload
from runtime_server.errors import BuildNotFound, IdempotencyKeyReused, RuntimeNotFound, WorkspaceNotFound
from runtime_server.models import (
    ActionResponse,
    BuildAccepted,
    BuildRequest,
    BuildState,
    BuildStatus,
    ImageExists,
    ImageInfo,
    Readiness,
    RegistryPrefix,
    Runtime,
    RuntimePage,
    RuntimeStatus,
    StartRequest,
    StartResponse,
    Version,
    Workspace,
    WorkspaceDeleted,
    WorkspacePage,
)
from runtime_server.runtimes.caller import Caller
from runtime_server.runtimes.calls import StoredAnswer
from runtime_server.web.operation import Route

NAME = "runtime-0123456789ab"
WORKSPACE = "workspace-0123456789abcdef"
BUILD = "build-0123456789ab"
REFERENCE = "registry.test/sandboxes/alice/agent:1"
VOLUME = "cache"
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def path_of(route: Route, **other: str) -> str:
    """A path of the route to something that there is, unless it is named."""
    names = {"runtime_id": NAME, "session_id": "s", "workspace": WORKSPACE, "build_id": BUILD}
    return route.template.format(**{**names, "reference": REFERENCE, "volume": VOLUME, **other})


class Noting:
    """A part of what is inside of runtimes, whose calls are noted where the manager's are, and are its own.

    Args:
        part: does what is asked.
        manager: has ``asked`` and ``fail``.
        methods: are noted.
    """

    def __init__(self, part: object, manager: FakeManager, *methods: str) -> None:
        self._part = part
        self._manager = manager
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name not in self._methods:
            return found

        def noted(caller: Caller, *arguments: Any, **named: Any) -> Any:
            self._manager._note(name, caller.owner, *arguments, named)
            return found(caller, *arguments, **named)

        return noted


class FakeManager:
    """Knows one runtime. ``fail`` is raised by the next calls; ``asked`` has what was called with what."""

    def __init__(self) -> None:
        self.fail: Exception | None = None
        self.ready = Readiness(ready=True)
        self.asked: list[tuple[Any, ...]] = []

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.fail is not None:
            raise self.fail

    def _known(self, name: str) -> None:
        if name != NAME:
            raise RuntimeNotFound("No runtime of yours has this id or name.")

    def _runtime(self, caller: Caller, image: str = "busybox") -> dict[str, Any]:
        return {
            "runtime_id": NAME,
            "owner": caller.owner,
            "image": image,
            "status": RuntimeStatus.RUNNING,
            "created_at": MOMENT,
        }

    def start(self, caller: Caller, request: StartRequest, *, key: str | None = None) -> StartResponse:
        self._note("start", caller.owner, request, key)
        return StartResponse(**self._runtime(caller, request.image))

    def _act(self, action: str, caller: Caller, name: str, status: RuntimeStatus, *more: Any) -> ActionResponse:
        self._note(action, caller.owner, name, *more)
        self._known(name)
        fields = self._runtime(caller) | {"status": status}
        return ActionResponse(**fields, message=f"{action}.", changed=True)

    def pause(self, caller: Caller, name: str) -> ActionResponse:
        return self._act("pause", caller, name, RuntimeStatus.PAUSED)

    def resume(self, caller: Caller, name: str) -> ActionResponse:
        return self._act("resume", caller, name, RuntimeStatus.RUNNING)

    def stop(self, caller: Caller, name: str, *, timeout: float = 5.0, remove: bool = False) -> ActionResponse:
        return self._act("stop", caller, name, RuntimeStatus.STOPPED, timeout, remove)

    def remove(self, caller: Caller, name: str) -> ActionResponse:
        return self._act("remove", caller, name, RuntimeStatus.REMOVED)

    def renew(self, caller: Caller, name: str, ttl: float | None) -> Runtime:
        self._note("renew", caller.owner, name, ttl)
        self._known(name)
        return Runtime(**self._runtime(caller))

    def get(
        self,
        caller: Caller,
        name: str,
        *,
        wait_for: RuntimeStatus | None = None,
        timeout: float = 0.0,
        values: bool = False,
    ) -> Runtime:
        self._note("get", caller.owner, name, wait_for, timeout)
        self._known(name)
        return Runtime(**self._runtime(caller))

    def list(
        self,
        caller: Caller,
        *,
        statuses: Sequence[RuntimeStatus] = (),
        labels: Mapping[str, str | None],
        owner: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RuntimePage:
        self._note("list", caller.owner, list(statuses), dict(labels), limit, cursor)
        return RuntimePage(runtimes=[Runtime(**self._runtime(caller))])

    def session(self, caller: Caller, session_id: str) -> Runtime:
        self._note("session", caller.owner, session_id)
        return Runtime(**self._runtime(caller))

    def sessions(self, caller: Caller, session_ids: Sequence[str]) -> Sequence[Runtime]:
        self._note("sessions", caller.owner, list(session_ids))
        return [Runtime(**self._runtime(caller)) for _ in session_ids]

    def lookup(self, caller: Caller, name: str) -> Runtime:
        return self.get(caller, name)

    def running(self, caller: Caller) -> Sequence[Runtime]:
        self._note("running", caller.owner)
        return [Runtime(**self._runtime(caller))]

    def readiness(self) -> Readiness:
        self._note("readiness")
        return self.ready

    def version(self) -> Version:
        self._note("version")
        return Version(server="0", api="1")


class FakeWorkspaces:
    """Knows one workspace; notes what it is asked where the manager does."""

    def __init__(self, manager: FakeManager) -> None:
        self._manager = manager

    def _known(self, name: str) -> None:
        if name != WORKSPACE:
            raise WorkspaceNotFound("No workspace has that id, session or alias.")

    def _workspace(self, caller: Caller) -> Workspace:
        return Workspace(workspace_id=WORKSPACE, session_id="s", owner=caller.owner, volume="v", path="/workspace")

    def list(self, caller: Caller, **asked: Any) -> WorkspacePage:
        self._manager._note("list_workspaces", caller.owner, asked)
        return WorkspacePage(workspaces=[self._workspace(caller)])

    def get(self, caller: Caller, name: str, *, sizes: bool = False) -> Workspace:
        self._manager._note("get_workspace", caller.owner, name, sizes)
        self._known(name)
        return self._workspace(caller)

    def delete(self, caller: Caller, name: str) -> WorkspaceDeleted:
        self._manager._note("delete_workspace", caller.owner, name)
        self._known(name)
        return WorkspaceDeleted(workspace_id=name, message="deleted.", changed=True)


class FakeBuilds:
    """Knows one build. What was called is in the manager's ``asked``, and fails as that does.

    ``contexts`` has what was received, decoded.
    """

    max_context = 100_000

    def __init__(self, manager: FakeManager, folder: Path) -> None:
        self._manager = manager
        self._folder = folder
        self.contexts: list[bytes] = []

    @contextmanager
    def upload(self, caller: Caller, *, keyed: bool) -> Iterator[Upload]:
        with Upload(self._folder, self.max_context) as upload:
            yield upload

    def submit(
        self, caller: Caller, request: BuildRequest, upload: Upload, *, key: str | None = None
    ) -> BuildAccepted:
        self._manager._note("build", caller.owner, request, key)
        self.contexts.append(upload.path.read_bytes())
        return BuildAccepted(build_id=BUILD)

    def _status(self, action: str, caller: Caller, build_id: str) -> BuildStatus:
        self._manager._note(action, caller.owner, build_id)
        if build_id != BUILD:
            raise BuildNotFound("No build of yours has this id.")
        return BuildStatus(
            build_id=build_id,
            status=BuildState.SUCCESS,
            image="a/b:c",
            tags=[],
            created_at=MOMENT,
        )

    def status(self, caller: Caller, build_id: str) -> BuildStatus:
        return self._status("build status", caller, build_id)

    def cancel(self, caller: Caller, build_id: str) -> BuildStatus:
        return self._status("cancel", caller, build_id)

    def log(self, caller: Caller, build_id: str) -> bytes:
        self._status("log", caller, build_id)
        return b"#1 FROM busybox\n"

    def registry_prefix(self, caller: Caller) -> RegistryPrefix:
        return RegistryPrefix(registry_prefix="a/b")

    def image_exists(self, caller: Caller, image: str) -> ImageExists:
        self._manager._note("image", caller.owner, image)
        return ImageExists(exists=True, image=ImageInfo(upload_time=MOMENT, image_size_bytes=1))


class FakeCalls:
    """Keeps final answers for ever."""

    def __init__(self) -> None:
        self.unrecorded: list[bool] = []
        self.kept: dict[tuple[str, str], tuple[str, StoredAnswer]] = {}

    def once(
        self,
        caller: Caller,
        key: str,
        fingerprint: str,
        run: Callable[[], StoredAnswer],
        *,
        unrecorded: bool = False,
    ) -> tuple[StoredAnswer, bool]:
        self.unrecorded.append(unrecorded)
        found = self.kept.get((caller.owner, key))
        if found is None:
            answer = run()
            if answer.final:
                self.kept[caller.owner, key] = (fingerprint, answer)
            return answer, False
        if found[0] != fingerprint:
            raise IdempotencyKeyReused()
        return found[1], True
