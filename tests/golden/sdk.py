"""``APIRemoteWorkspace`` of OpenHands' SDK (openhands-workspace, ``openhands/workspace/remote_api/workspace.py``)."""

from __future__ import annotations

from typing import Any

from tests.golden.wire import HTTPX, LOOKS, GaveUp, Refused, Wire


class ApiRemoteWorkspace:
    """As of 1.7.4 to 1.58.2. A call's limit is 60 s, that of /start and /resume 300 s, that of /stop and /pause 30 s.

    Since 1.1.0 it compares its HTTP client's base URL with ``url``, which therefore must have no path.
    """

    version = "sdk 1.58.2"
    runtime_class: str | None = "sysbox-runc"
    pull_policy: str | None = "IfNotPresent"

    def __init__(self, wire: Wire, session_id: str, image: str, resource_factor: int = 1) -> None:
        self.wire = wire
        self.session_id = session_id
        self.image = image
        self.resource_factor = resource_factor
        self.runtime_id: str | None = None
        self.url: str | None = None
        self.key: str | None = None
        wire.library = HTTPX

    def connect(self) -> None:
        """What making the object does."""
        if not self._attach():
            self._take(self.wire.ask("POST", "/start", self.start_body()))
        self.wait()
        assert self.url is not None
        self.check_url(self.url)
        # From here on its HTTP client sends the session's key to whatever it calls, this API included.
        self.wire.headers["X-Session-API-Key"] = str(self.key)

    def check_url(self, url: str) -> None:
        """httpx gives a base URL a slash at the end of its path, unless it has none."""
        scheme, _, rest = url.rstrip("/").partition("://")
        assert scheme in ("http", "https")
        assert "/" not in rest, "the base URL isn't the url any more"

    def start_body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "image": self.image,
            "command": "/usr/local/bin/openhands-agent-server --port 60000",
            "working_dir": "/",
            "environment": {},
            "session_id": self.session_id,
            "run_as_user": 10001,
            "fs_group": 10001,
        }
        if self.pull_policy:
            body["image_pull_policy"] = self.pull_policy
        if self.runtime_class:
            body["runtime_class"] = self.runtime_class
        if self.resource_factor != 1:
            body["resource_factor"] = self.resource_factor
        return body

    def _attach(self) -> bool:
        try:
            found = self.wire.ask("GET", f"/sessions/{self.session_id}")
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        status = found.get("status")
        if status not in ("running", "paused"):
            return False
        self._take(found)
        if status == "paused":
            try:
                self.ask_to_resume()
            except (Refused, ValueError):
                return False
        return True

    def ask_to_resume(self) -> None:
        self.wire.ask("POST", "/resume", {"runtime_id": self.runtime_id})

    def _take(self, found: dict[str, Any]) -> None:
        self.runtime_id = found.get("runtime_id") or found.get("id")
        self.url = found.get("url")
        self.key = found.get("session_api_key")
        if not self.runtime_id or not self.url:
            raise ValueError("not a runtime")

    def wait(self) -> None:
        """It waits 2 s at first and 10 s at most between two looks, 300 s in all."""
        for _ in range(LOOKS):
            if self._is_alive():
                return
            self.wire.pause()
        raise AssertionError("it never became alive")

    def _is_alive(self) -> bool:
        found = self.wire.ask("GET", f"/sessions/{self.session_id}")
        pod_status = found.get("pod_status", "").lower()
        if pod_status == "pending":
            assert isinstance(found.get("container_statuses", []), list)
            assert isinstance(found.get("events", []), list)
        if found.get("restart_count", 0) > 0:
            assert isinstance(found.get("restart_reasons", []), list)
        if pod_status in ("failed", "unknown", "crashloopbackoff"):
            raise GaveUp(pod_status + ": " + found.get("pod_logs", ""))
        if pod_status != "ready":
            return False
        try:
            return 200 <= self.wire.reach(f"{self.url}/health") < 300  # by urllib, 5 s
        except OSError:
            return False

    def pause(self) -> None:
        self.wire.ask("POST", "/pause", {"runtime_id": self.runtime_id})

    def resume(self) -> None:
        self.ask_to_resume()
        self.wait()

    def close(self) -> None:
        self.wire.ask("POST", "/stop", {"runtime_id": self.runtime_id})


class ApiRemoteWorkspace16(ApiRemoteWorkspace):
    """As of 1.1.0 to 1.6.0: it takes the answer of /resume for the runtime; it can't pause but when it is closed."""

    version = "sdk 1.6.0"

    def ask_to_resume(self) -> None:
        self._take(self.wire.ask("POST", "/resume", {"runtime_id": self.runtime_id}))


class ApiRemoteWorkspace10(ApiRemoteWorkspace16):
    """As of 1.0.0: another runtime class, no pull policy, and no X-API-Key: it needs a server without keys."""

    version = "sdk 1.0.0"
    runtime_class = "sysbox"
    pull_policy = None

    def __init__(self, wire: Wire, session_id: str, image: str, resource_factor: int = 1) -> None:
        super().__init__(wire, session_id, image, resource_factor)
        wire.key = None

    def check_url(self, url: str) -> None:
        """It compares nothing yet."""
