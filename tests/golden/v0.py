"""``RemoteRuntime`` of OpenHands V0, ``RemoteRuntimeBuilder`` and what else calls the same API.

Package openhands-ai: ``openhands/runtime/remote/runtime.py`` until 0.11, then
``openhands/runtime/impl/remote/remote_runtime.py``; ``openhands/runtime/builder/remote.py``.
"""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Any

from tests.golden.wire import HTTPX, LOOKS, REQUESTS, GaveUp, Refused, Wire

MICROMAMBA = ["/openhands/micromamba/bin/micromamba", "run", "-n", "openhands", "poetry", "run"]


def server_command(module: str) -> list[str]:
    """The action execution server's command line, as user ``openhands`` with the default plugins."""
    return [
        *MICROMAMBA,
        *("python", "-u", "-m", module, "60000", "--working-dir", "/workspace"),
        *("--plugins", "agent_skills", "jupyter", "vscode", "--username", "openhands", "--user-id", "1000"),
    ]


class RemoteRuntime:
    """As of 0.26 to 1.6. Every call of the API has a limit of 10 s until 0.62, of 180 s later."""

    version = "v0 0.62.0"
    library = HTTPX
    module = "openhands.runtime.action_execution_server"
    id_field = "session_id"

    def __init__(self, wire: Wire, session_id: str, image: str, resource_factor: int = 1) -> None:
        self.wire = wire
        self.session_id = session_id
        self.image = image
        self.resource_factor = resource_factor
        self.runtime_id: str | None = None
        self.url: str | None = None
        self.key: str | None = None
        self.work_hosts: dict[str, int] = {}
        wire.library = self.library

    def connect(self) -> None:
        """Use what there is, or start it, and wait until it is alive."""
        if not self.attach():
            self.start()
        assert self.runtime_id is not None
        assert self.url is not None
        self.wait()

    def attach(self) -> bool:
        try:
            found = self.wire.ask("GET", self.existing_path())
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        status = found.get("status")
        if status in ("running", "paused"):
            self._take(found)
        if status == "running":
            return True
        if status != "paused":
            return False  # `stopped` is expected; any other is logged as an error, `starting` too
        self.resume()
        return True

    def existing_path(self) -> str:
        return f"/sessions/{self.session_id}"

    def look_path(self) -> str:
        return f"/runtime/{self.runtime_id}"

    def start(self) -> None:
        self._take(self.wire.ask("POST", "/start", self.start_body()))

    def start_body(self) -> dict[str, Any]:
        """With ``remote_runtime_class = "sysbox"``, and with a variable of ``runtime_startup_env_vars``."""
        return {
            "image": self.image,
            "command": server_command(self.module),
            "working_dir": "/openhands/code/",
            "environment": {"DEBUG": "true", "TRACE": "a=b c"},
            "session_id": self.session_id,
            "resource_factor": self.resource_factor,
            "runtime_class": "sysbox-runc",
        }

    def _take(self, found: dict[str, Any]) -> None:
        self.runtime_id = found["runtime_id"]
        self.url = found["url"]
        self.work_hosts = found.get("work_hosts", {})
        if "session_api_key" in found:
            assert isinstance(found["session_api_key"], str), "it goes into a header as it is"
            self.key = found["session_api_key"]
            # On the session that all its requests go by, to this API and to the runtime.
            self.wire.headers["X-Session-API-Key"] = self.key

    def wait(self) -> None:
        """It looks every 2 s, for 180 s in all."""
        for _ in range(LOOKS):
            if self._is_alive():
                return
            self.wire.pause()
        raise AssertionError("it never became alive")

    def _is_alive(self) -> bool:
        found = self.wire.ask("GET", self.look_path())
        assert found["runtime_id"] == self.runtime_id
        pod_status = self.word(found["pod_status"])
        if found.get("restart_count", 0) != 0:
            assert found.get("restart_reasons") is not None
        if pod_status in self.words("Failed", "Unknown", "CrashLoopBackOff"):
            self.before_giving_up()
            raise GaveUp(pod_status)
        if pod_status != self.words("Ready")[0]:
            return False
        try:
            return self.wire.reach(f"{self.url}/alive") == 200  # 5 s
        except OSError:
            return False

    def word(self, pod_status: str) -> str:
        return pod_status.lower()

    def words(self, *known: str) -> tuple[str, ...]:
        return tuple(self.word(each) for each in known)

    def before_giving_up(self) -> None:
        """It leaves the runtime as it is."""

    def pause(self) -> None:
        """When it is closed, with ``keep_runtime_alive`` and ``pause_closed_runtimes``."""
        self.wire.ask("POST", "/pause", {"runtime_id": self.runtime_id})

    def resume(self) -> None:
        self.wire.ask("POST", "/resume", {"runtime_id": self.runtime_id})
        self.wait()

    def close(self) -> None:
        self.wire.ask("POST", "/stop", {"runtime_id": self.runtime_id})

    @property
    def vscode_url(self) -> str:
        """It takes a path that starts with the runtime's id for path mode, and anything else for subdomains."""
        assert self.url is not None
        scheme, _, rest = self.url.partition("://")
        host, _, path = rest.partition("/")
        query = f"?tkn={self.key}&folder=/workspace"
        if f"/{path}".startswith(f"/{self.runtime_id}"):
            return f"{scheme}://{host}/{self.runtime_id}/vscode{query}"
        return f"{scheme}://vscode-{host}/{query}"


class RemoteRuntime020(RemoteRuntime):
    """As of 0.16 to 0.25: looks by the session, stops what has failed."""

    version = "v0 0.20.0"
    library = REQUESTS

    def look_path(self) -> str:
        return f"/sessions/{self.session_id}"

    def start_body(self) -> dict[str, Any]:
        body = super().start_body()
        del body["runtime_class"]
        body["environment"] = {}
        return body

    def before_giving_up(self) -> None:
        self.close()


class RemoteRuntime014(RemoteRuntime020):
    """As of 0.13 to 0.15: pod states to the letter, no resource factor; it doesn't wait after a resume by itself."""

    version = "v0 0.14.3"

    def start_body(self) -> dict[str, Any]:
        body = super().start_body()
        del body["resource_factor"]
        return body

    def word(self, pod_status: str) -> str:
        return pod_status

    def words(self, *known: str) -> tuple[str, ...]:
        return tuple(each for each in known if each != "CrashLoopBackOff")

    def resume(self) -> None:
        self.wire.ask("POST", "/resume", {"runtime_id": self.runtime_id})


class RemoteRuntime012(RemoteRuntime014):
    """As of 0.10 to 0.12: the session goes by the name of ``runtime_id``; statuses of answers are compared.

    It looks every 10 s, and takes ``Not Found`` twelve times.
    """

    version = "v0 0.12.3"
    module = "openhands.runtime.client.client"

    def attach(self) -> bool:
        answer = self.wire.call("GET", self.existing_path())
        if answer.status_code != 200:
            return False
        return super().attach()

    def existing_path(self) -> str:
        return f"/runtime/{self.session_id}"

    def look_path(self) -> str:
        return f"/runtime/{self.runtime_id}"

    def start_body(self) -> dict[str, Any]:
        body = super().start_body()
        body["runtime_id"] = body.pop("session_id")
        return body

    def start(self) -> None:
        answer = self.wire.call("POST", "/start", self.start_body())
        if answer.status_code != 201:
            raise GaveUp(answer.text)
        self._take(answer.json())

    def resume(self) -> None:
        assert self.wire.call("POST", "/resume", {"runtime_id": self.runtime_id}).status_code == 200

    def close(self) -> None:
        assert self.wire.call("POST", "/stop", {"runtime_id": self.runtime_id}).status_code == 200


class RemoteRuntime009(RemoteRuntime012):
    """As of 0.9: no sessions, a name for each runtime instead; only ``/alive`` is waited for."""

    version = "v0 0.9.8"

    def attach(self) -> bool:
        return False

    def start_body(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "command": " ".join(server_command(self.module)) + " ",
            "working_dir": "/openhands/code/",
            "name": "oh-remote-runtime-" + self.session_id,
            "environment": {},
        }

    def _is_alive(self) -> bool:
        try:
            return self.wire.reach(f"{self.url}/alive") == 200
        except OSError:
            return False


class RemoteRuntimeBuilder:
    """Builds an image; as of 0.14 to 1.6 (0.9 wants the status 202, which all get). By requests until 0.29."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.prefix = ""

    def registry_prefix(self) -> str:
        """Where the tags of what is built lie; the client adds ``/runtime`` to it."""
        self.prefix = str(self.wire.ask("GET", "/registry_prefix")["registry_prefix"]).rstrip("/") + "/runtime"
        return self.prefix

    def image_exists(self, image: str) -> bool:
        answer = self.wire.call("GET", "/image_exists", params={"image": image})
        assert answer.status_code == 200
        found = answer.json()
        if found["exists"]:
            assert found["image"]["upload_time"]  # only printed
            assert found["image"]["image_size_bytes"] / 1024 / 1024 > 0
        return bool(found["exists"])

    def build(self, folder: Path, tags: list[str]) -> str:
        """It looks every 30 s, for 30 minutes. Raises ``GaveUp`` with the build's error."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.add(folder, arcname=".")
        context = base64.b64encode(packed.getvalue()).decode()
        files: list[Any] = [
            # httpx guesses the type by the name, requests names none.
            ("context", ("context.tar.gz", context, *(["application/x-tar"] if self.wire.library is HTTPX else []))),
            ("target_image", (None, tags[0])),
            *(("tags", (None, tag)) for tag in tags[1:]),
        ]
        answer = self.wire.call("POST", "/build", files=files)
        if answer.status_code >= 400:
            raise Refused(answer)
        assert answer.status_code == 202
        build_id = answer.json()["build_id"]
        for _ in range(LOOKS):
            told = self.wire.call("GET", "/build_status", params={"build_id": build_id})
            assert told.status_code == 200
            found = told.json()
            if found["status"] == "SUCCESS":
                return str(found["image"])
            if found["status"] in ("FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED"):
                raise GaveUp(found.get("error", found["status"]))
            self.wire.pause()
        raise AssertionError("the build never ended")
