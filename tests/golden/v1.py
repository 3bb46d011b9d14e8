"""``RemoteSandboxService`` of OpenHands V1's app server (openhands-ai, ``openhands/app_server/sandbox/``)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.golden.wire import HTTPX, LOOKS, GaveUp, Refused, Wire

BY_STATUS = {
    "running": "RUNNING",
    "paused": "PAUSED",
    "stopped": "MISSING",
    "starting": "STARTING",
    "error": "ERROR",
}
BY_POD_STATUS = {
    "ready": "RUNNING",
    "pending": "STARTING",
    "running": "STARTING",
    "failed": "ERROR",
    "unknown": "ERROR",
    "crashloopbackoff": "ERROR",
}


@dataclass
class Sandbox:
    """A sandbox as the app server shows it."""

    status: str
    key: str | None
    urls: dict[str, str]


class RemoteSandboxService:
    """As of 1.9 to 1.11, for one user. All its calls have a limit of 15 s."""

    version = "v1 1.11.0"
    most = 10

    def __init__(self, wire: Wire, session_id: str, image: str, resource_factor: int = 1) -> None:
        self.wire = wire
        self.session_id = session_id
        self.image = image
        self.resource_factor = resource_factor
        self.runtime_id: str | None = None
        self.url: str | None = None
        self.key: str | None = None
        self.stored: dict[str, str | None] = {}
        """The app server's own table, oldest first: sandboxes, each with the hash of its key."""
        wire.library = HTTPX

    def connect(self) -> None:
        """What opening a conversation does: start or resume its sandbox, and wait until it runs."""
        known = self.sandbox(self.session_id) if self.session_id in self.stored else None
        if known is None or known.status == "MISSING":
            self.start(self.session_id)
        elif known.status == "PAUSED":
            assert self.resume_sandbox(self.session_id)
        self.wait()
        found = self.runtime(self.session_id)
        self.runtime_id, self.url, self.key = found["runtime_id"], found["url"], found["session_api_key"]

    def start(self, sandbox_id: str) -> Sandbox:
        self.pause_old(self.most - 1)
        self.stored.setdefault(sandbox_id, None)
        found = self.wire.ask("POST", "/start", self.start_body(sandbox_id))
        key = found.get("session_api_key")
        if key:
            self.stored[sandbox_id] = hashed(key)
        return self.shown(found)

    def start_body(self, sandbox_id: str) -> dict[str, Any]:
        """With ``runtime_class = "sysbox"`` and a public URL; the command is the default specification's."""
        return {
            "image": self.image,
            "command": ["/usr/local/bin/openhands-agent-server", "--port", "60000"],
            "working_dir": "/workspace",
            "environment": {
                "OPENVSCODE_SERVER_ROOT": "/openhands/.openvscode-server",
                "LOG_JSON": "true",
                "OH_ENABLE_VNC": "0",
                "OH_CONVERSATIONS_PATH": "/workspace/conversations",
                "OH_BASH_EVENTS_DIR": "/workspace/bash_events",
                "OH_VSCODE_PORT": "60001",
                "OH_WEBHOOKS_0_BASE_URL": "https://openhands.example/api/v1/webhooks",
                "OH_ALLOW_CORS_ORIGINS_0": "https://openhands.example",
                "WORKER_1": "12000",
                "WORKER_2": "12001",
            },
            "session_id": sandbox_id,
            "resource_factor": self.resource_factor,
            "run_as_user": 10001,
            "run_as_group": 10001,
            "fs_group": 10001,
            "runtime_class": "sysbox-runc",
        }

    def wait(self) -> None:
        """``wait_for_sandbox_running``: it looks every 2 s, for 120 s in all."""
        for _ in range(LOOKS):
            found = self.sandbox(self.session_id)
            if found.status == "ERROR":
                raise GaveUp("Sandbox entered error state")
            if found.status == "RUNNING" and self._answers(found):
                return
            self.wire.pause()
        raise AssertionError("it never ran")

    def _answers(self, found: Sandbox) -> bool:
        try:
            return 200 <= self.wire.reach(found.urls["AGENT_SERVER"].rstrip("/") + "/alive") < 300  # 5 s
        except OSError:
            return False

    def runtime(self, sandbox_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.wire.ask("GET", f"/sessions/{sandbox_id}")
        return found

    def sandbox(self, sandbox_id: str) -> Sandbox:
        try:
            return self.shown(self.runtime(sandbox_id))
        except Refused:
            return self.shown(None)

    def sandboxes(self, ids: list[str]) -> dict[str, Sandbox]:
        """A page of the user's sandboxes, up to a hundred."""
        found = self.wire.ask("GET", "/sessions/batch", params=[("ids", each) for each in ids])
        runtimes = {each["session_id"]: each for each in found if each and "session_id" in each}
        return {each: self.shown(runtimes.get(each)) for each in ids}

    def shown(self, runtime: dict[str, Any] | None) -> Sandbox:
        if not runtime:
            return Sandbox("MISSING", None, {})
        status, key, urls = self.status(runtime), runtime["session_api_key"], {}
        url = runtime.get("url", None)
        if status == "RUNNING" and url:
            names = {"VSCODE": "vscode", "WORKER_1": "work-1", "WORKER_2": "work-2"}
            urls = {name: self.service_url(url, service, runtime["runtime_id"]) for name, service in names.items()}
            urls["VSCODE"] += f"?tkn={key}&folder=%2Fworkspace%2Fproject"
            urls["AGENT_SERVER"] = url
        return Sandbox(status, key, urls)

    def service_url(self, url: str, service: str, runtime_id: str) -> str:
        """By path where the url's path starts with the runtime's id, else by subdomain."""
        scheme, host, path, _, _ = urlsplit(url)
        if path.startswith(f"/{runtime_id}"):
            return f"{scheme}://{host}/{runtime_id}/{service}"
        return f"{scheme}://{service}-{host}{path or '/'}"

    def status(self, runtime: dict[str, Any]) -> str:
        return BY_STATUS.get((runtime.get("status") or "").lower(), "MISSING")

    def running(self) -> set[str]:
        found = self.wire.ask("GET", "/list")
        return {each["session_id"] for each in found.get("runtimes", []) if "session_id" in each}

    def pause_old(self, most: int) -> list[str]:
        """Pause the oldest ones beyond ``most``."""
        running = self.running_now()
        mine = [each for each in self.stored if each in running]
        return [each for each in mine[: max(0, len(mine) - most)] if self.pause_sandbox(each)]

    def running_now(self) -> set[str]:
        return self.running()

    def polled(self) -> dict[str, str]:
        """What the poller (without a public URL) goes to, by session."""
        found = self.wire.ask("GET", "/list")["runtimes"]
        running = {each["session_id"]: each for each in found if each["status"] == "running"}
        return {session: f"{each['url']} {each['session_api_key']}" for session, each in running.items()}

    def by_key(self, key: str) -> str | None:
        return next((each for each, kept in self.stored.items() if kept == hashed(key)), None)

    def pause_sandbox(self, sandbox_id: str) -> bool:
        self.stored[sandbox_id] = None
        return self._act("/pause", sandbox_id) is not None

    def resume_sandbox(self, sandbox_id: str) -> bool:
        self.pause_old(self.most - 1)
        found = self._act("/resume", sandbox_id)
        if found and found.get("session_api_key"):
            self.stored[sandbox_id] = hashed(found["session_api_key"])
        return found is not None

    def delete_sandbox(self, sandbox_id: str) -> bool:
        self.stored[sandbox_id] = None
        try:
            self._act("/stop", sandbox_id)
        except Refused as refused:
            if refused.status != 404:
                raise
        del self.stored[sandbox_id]
        return True

    def _act(self, path: str, sandbox_id: str) -> dict[str, Any] | None:
        answer = self.wire.call("POST", path, {"runtime_id": self.runtime(sandbox_id)["runtime_id"]})
        if answer.status_code == 404:
            return None
        if answer.status_code >= 400:
            raise Refused(answer)
        found: dict[str, Any] = answer.json()
        return found

    def pause(self) -> None:
        assert self.pause_sandbox(self.session_id)

    def resume(self) -> None:
        assert self.resume_sandbox(self.session_id)
        self.wait()

    def close(self) -> None:
        assert self.delete_sandbox(self.session_id)


class RemoteSandboxService16(RemoteSandboxService):
    """As of 1.6: a key that it doesn't know is looked for in /list, then in each sandbox's runtime."""

    version = "v1 1.6.0"

    def by_key(self, key: str) -> str | None:
        known = super().by_key(key)
        if known is not None:
            return known
        for each in self.wire.ask("GET", "/list")["runtimes"]:
            if key == each["session_api_key"]:
                return str(each.get("session_id"))
        for each in self.stored:
            if self.runtime(each).get("session_api_key") == key:
                return each
        return None


class RemoteSandboxService13(RemoteSandboxService16):
    """As of 1.3: pod_status comes before status, and that of a start's answer isn't looked at."""

    version = "v1 1.3.0"

    def start(self, sandbox_id: str) -> Sandbox:
        self.pause_old(self.most - 1)
        self.stored.setdefault(sandbox_id, None)
        return self.shown({**self.wire.ask("POST", "/start", self.start_body(sandbox_id)), "pod_status": "pending"})

    def status(self, runtime: dict[str, Any]) -> str:
        return BY_POD_STATUS.get(self.pod_status(runtime).lower()) or super().status(runtime)

    def pod_status(self, runtime: dict[str, Any]) -> str:
        return runtime.get("pod_status") or ""

    def service_url(self, url: str, service: str, runtime_id: str) -> str:
        scheme, rest = url.split("://")
        return f"{scheme}://{service}-{rest}" + ("/" if service == "vscode" else "")


class RemoteSandboxService10(RemoteSandboxService13):
    """As of 1.0: pod_status is indexed; it knows neither /list, but for its poller, nor /sessions/batch."""

    version = "v1 1.0.0"

    def pod_status(self, runtime: dict[str, Any]) -> str:
        return str(runtime["pod_status"])

    def running_now(self) -> set[str]:
        return {each for each in self.stored if self.sandbox(each).status == "RUNNING"}

    def sandboxes(self, ids: list[str]) -> dict[str, Sandbox]:
        return {each: self.sandbox(each) for each in ids}

    def by_key(self, key: str) -> str | None:
        return next((each for each in self.stored if self.runtime(each).get("session_api_key") == key), None)


def hashed(key: str) -> str:
    """As the app server keeps a key."""
    return hashlib.sha256(key.encode()).hexdigest()
