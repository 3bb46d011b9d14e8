"""SECURITY.md's list of Engine routes, against what the adapter really sends."""

from __future__ import annotations

import base64
import inspect
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import Engine, RegistryLogin, RuntimeSpec
from runtime_server.engine.docker import DockerEngine
from runtime_server.engine.files import NoAccess, PathMissing
from runtime_server.engine.inside import ExecSpec, LogQuery
from runtime_server.engine.limits import NewLimits

DOCUMENT = Path(__file__).parents[2] / "SECURITY.md"
ID = "ab" * 32
SPEC = RuntimeSpec(runtime_id="runtime-0123456789ab", image="busybox:1", labels={})
CONTAINER = {
    "Id": ID,
    "ExecIDs": [ID],
    "Name": "/runtime-0123456789ab",
    "Created": "2026-01-31T12:00:00Z",
    "RestartCount": 0,
    "State": {"Status": "running", "Running": True, "Pid": 1, "ExitCode": 0, "StartedAt": "2026-01-31T12:00:00Z"},
    "Image": "sha256:" + ID,
    "Config": {"Image": "busybox:1", "Labels": {labels.INSTANCE: "me"}, "Env": [], "Tty": False, "User": "app"},
    "HostConfig": {},
    "Mounts": [],
    "NetworkSettings": {"Ports": {}, "Networks": {}},
}
VOLUME = {"Name": "workspace", "Labels": {labels.INSTANCE: "me", labels.WORKSPACE: "/workspace"}}
FOLDER = base64.b64encode(json.dumps({"name": "workspace", "mode": 1 << 31 | 0o755}).encode()).decode()
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}


def _tar(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


SAMPLE = {"read": "2026-01-31T12:00:00Z", "cpu_stats": {}, "memory_stats": {}}
PASSWD = _tar("passwd", b"app:x:1000:1000::/:/bin/sh")


class FakeEngine(BaseHTTPRequestHandler):
    """Answers what an engine would, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: set[str]
    networks: dict[str, Any]

    def _answer(self) -> None:
        path = re.sub(r"^/v[0-9.]+(?=/)", "", self.path.partition("?")[0])
        body = self._body()
        self.asked.add(f"{self.command} {shape(path)}")
        status, answer = self._told(path, json.loads(body) if body.startswith(b"{") else {})
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if path.endswith("/archive"):
            self.send_header("X-Docker-Container-Path-Stat", FOLDER)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if status != 204 else b"")

    def _body(self) -> bytes:
        """What was sent; left unread, it would be taken for the connection's next request."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _answer

    def _told(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/networks/create":
            self.networks[body["Name"]] = {**body, "Id": ID, "Scope": "local"}
            return 201, {"Id": ID}
        if path.startswith("/networks/"):
            found = self.networks.get(path.rpartition("/")[2])
            if self.command == "DELETE":
                return 204, b""
            return (404, {"message": "no such network"}) if found is None else (200, found)
        if path.startswith("/volumes") or path == "/system/df":
            return self._told_of_volumes(path)
        if path.endswith("/archive"):
            return 200, PASSWD if self.command == "GET" else b""
        known: dict[str, tuple[int, Any]] = {
            "GET /_ping": (200, b"OK"),
            "GET /version": (200, VERSION),
            "GET /events": (200, b""),
            "GET /containers/json": (200, []),
            "POST /containers/create": (201, {"Id": ID, "Warnings": []}),
            "GET /containers/{name}/json": (200, CONTAINER),
            "GET /containers/{name}/logs": (200, b""),
            "GET /images/{name}/json": (200, {"Id": ID, "Config": {}}),
            "POST /containers/{name}/exec": (201, {"Id": ID}),
            "POST /exec/{id}/start": (200, b""),
            "GET /exec/{id}/json": (200, {"ID": ID, "Running": False, "ExitCode": 0}),
            "GET /containers/{name}/stats": (200, SAMPLE),
            "POST /containers/{name}/update": (200, {"Warnings": []}),
            "GET /images/json": (200, []),
            "DELETE /images/{name}": (200, []),
            "POST /build/prune": (200, {"SpaceReclaimed": 0}),
            "POST /images/create": (200, b'{"status": "Pull complete"}\n'),
        }
        return known.get(f"{self.command} {shape(path)}", (204, b""))

    def _told_of_volumes(self, path: str) -> tuple[int, Any]:
        if self.command == "DELETE":
            return 204, b""
        if path == "/volumes/create":
            return 201, VOLUME
        return 200, VOLUME if path.startswith("/volumes/") else {"Volumes": [VOLUME]}

    def log_message(self, *_: Any) -> None:
        pass


def shape(path: str) -> str:
    """The path as the Engine API's reference writes it."""
    path = re.sub(r"^/images/(?!create$|json$).+?(/json)?$", r"/images/{name}\1", path)
    path = re.sub(r"^/exec/[^/]+", "/exec/{id}", path)
    return re.sub(r"^/(containers|networks|volumes)/(?!json$|create$|prune$)[^/]+", r"/\1/{name}", path)


@pytest.fixture
def fake() -> Iterator[tuple[DockerEngine, set[str]]]:
    asked: set[str] = set()
    handler = type("Handler", (FakeEngine,), {"asked": asked, "networks": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    engine = DockerEngine("me", address=f"tcp://127.0.0.1:{server.server_port}", timeout=30)
    yield engine, asked
    engine.close()
    server.shutdown()
    thread.join()
    server.server_close()


def every_exec(engine: DockerEngine) -> None:
    """A command, its terminal's size, and its end."""
    session = engine.exec(ID, ExecSpec(("true",), "marker", tty=True))
    engine.resize_exec(ID, 24, 80)
    session.kill()
    session.close()


def no_access(call: Callable[[], object]) -> None:
    """The container's processes aren't where this is."""
    with suppress(NoAccess, PathMissing):
        call()


CALLS: dict[str, Callable[[DockerEngine], object]] = {
    "ping": lambda engine: engine.ping(),
    "version": lambda engine: engine.version(),
    "image_present": lambda engine: engine.image_present("some/where/busybox:1"),
    "image_facts": lambda engine: engine.image_facts("some/where/busybox:1"),
    "pull": lambda engine: engine.pull("some/where/busybox:1", login=RegistryLogin("u", "p")),
    "create": lambda engine: engine.create(SPEC),
    "start": lambda engine: engine.start(ID),
    "inspect": lambda engine: engine.inspect(ID),
    "pause": lambda engine: engine.pause(ID),
    "resume": lambda engine: engine.resume(ID),
    "stop": lambda engine: engine.stop(ID, 1),
    "remove": lambda engine: engine.remove(ID),
    "list": lambda engine: engine.list(),
    "logs": lambda engine: engine.logs(ID),
    "http_status": lambda engine: engine.http_status(engine.inspect(ID), 80, "/health", 1),
    "http_json": lambda engine: engine.http_json(engine.inspect(ID), 80, "/server_info", 1),
    "connections": lambda engine: engine.connections(ID, 1),
    "commands": lambda engine: engine.commands(ID),
    "command_status": lambda engine: engine.command_status(ID, ("true",), 1),
    "exec": every_exec,
    "exec_state": lambda engine: engine.exec_state(ID),
    "log_entries": lambda engine: engine.log_entries(ID, LogQuery()).close(),
    "sample": lambda engine: engine.sample(ID),
    "set_limits": lambda engine: engine.set_limits(ID, NewLimits(cpus=1.5)),
    "file_entry": lambda engine: engine.file_entry(ID, "/srv"),
    "read_archive": lambda engine: engine.read_archive(ID, "/srv").close(),
    "write_archive": lambda engine: engine.write_archive(ID, "/srv", [PASSWD]),
    "list_folder": lambda engine: engine.list_folder(ID, "/srv", 10),
    "delete_path": lambda engine: no_access(lambda: engine.delete_path(ID, "/srv/x", recursive=False)),
    "file_owner": lambda engine: engine.file_owner(ID, None),
    "list_images": lambda engine: engine.list_images(),
    "delete_image": lambda engine: engine.delete_image("some/where/busybox:1"),
    "build_cache": lambda engine: engine.build_cache(0),
    "prune_build_cache": lambda engine: engine.prune_build_cache(0),
    "events": lambda engine: engine.events().close(),
    "ensure_network": lambda engine: engine.ensure_network("runtimes"),
    "find_network": lambda engine: engine.find_network("runtimes"),
    "remove_network": lambda engine: engine.ensure_network("runtimes") and engine.remove_network("runtimes"),
    "ensure_volume": lambda engine: engine.ensure_volume("workspace", {}),
    "find_volume": lambda engine: engine.find_volume("workspace"),
    "list_volumes": lambda engine: engine.list_volumes(labels.WORKSPACE),
    "volume_sizes": lambda engine: engine.volume_sizes(),
    "remove_volume": lambda engine: engine.remove_volume("workspace"),
    "give_folder": lambda engine: engine.give_folder(ID, "/workspace"),
}
"""A call of each method of the protocol."""


def test_the_listed_engine_routes_are_those_that_are_used(fake: tuple[DockerEngine, set[str]]) -> None:
    engine, asked = fake
    methods = {name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")}
    assert set(CALLS) == methods - {"close"}
    for call in CALLS.values():
        call(engine)
    listed = re.findall(
        r"^ *((?:GET|HEAD|POST|PUT|DELETE) +/\S*)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {re.sub(" +", " ", each) for each in listed} == asked


def test_only_the_adapter_speaks_to_the_engine() -> None:
    package = DOCUMENT.parent / "runtime_server"
    speaking = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r"^\s*(from|import) docker\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert speaking == {"engine"}
