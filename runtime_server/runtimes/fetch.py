"""A start's image, pulled in a way that its caller can follow."""

from __future__ import annotations

from collections.abc import Callable

from runtime_server.engine.base import RegistryLogin
from runtime_server.engine.stock import PullState
from runtime_server.errors import ImageNotFound, ImagePullFailed, RegistryCredentialsLost
from runtime_server.models import RuntimeStatus, StartRequest
from runtime_server.runtimes import pods, sessions
from runtime_server.runtimes.pulls import Pulls
from runtime_server.runtimes.waits import until
from runtime_server.store.records import Operation, Record
from runtime_server.store.store import Store

HAD_LOGIN = "had_login"
"""In a start's payload: the request brought registry credentials, which only its first worker has."""
PULL_AGAIN = 5.0
"""Seconds after which a session's image is pulled once more."""

Check = Callable[[], None]
"""Raises where the start is no longer wanted."""


class ImageFetch:
    """Pulls for starts.

    Args:
        store: is told how far it is.
        pulls: does it, once for all that want the same image.
    """

    def __init__(self, store: Store, pulls: Pulls) -> None:
        self._store = store
        self._pulls = pulls

    def fetch(
        self, record: Record, operation: Operation, request: StartRequest, login: RegistryLogin | None, check: Check
    ) -> None:
        """Pull the image, a session's once more a while after a failure: it has been answered, and is looked at.

        Raises:
            RegistryCredentialsLost: another worker had them.
            ImageNotFound, ImagePullFailed: of the last try.
        """
        if login is None and operation.payload.get(HAD_LOGIN):
            raise RegistryCredentialsLost("The worker that held the registry credentials ended; send the call again.")
        try:
            self._once(record, request, login, check)
            return
        except (ImageNotFound, ImagePullFailed) as problem:
            if not sessions.is_session(record.session_id, record.name):
                raise
            self._tell(record, pods.detail(problem))
        until(check, PULL_AGAIN)
        try:
            self._once(record, request, login, check)
        except (ImageNotFound, ImagePullFailed) as problem:
            problem.detail = f"{pods.IMAGE_PULL_BACK_OFF}: {problem.detail}"
            raise

    def _once(self, record: Record, request: StartRequest, login: RegistryLogin | None, check: Check) -> None:
        shown = ""

        def progress(state: PullState) -> None:
            nonlocal shown
            check()
            if state.sentence != shown:
                shown = state.sentence
                self._detail(record, f"Pulling {record.image}: {shown}")

        self._pulls.pull(request.image, platform=request.platform, login=login, progress=progress)

    def _tell(self, record: Record, detail: str) -> None:
        self._store.note(record.runtime_id, detail)
        self._detail(record, detail)

    def _detail(self, record: Record, detail: str) -> None:
        self._store.change(record.runtime_id, only_from={RuntimeStatus.STARTING}, status_detail=detail)
