"""Commands in containers, of engines that speak Docker's HTTP API."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from typing import Any

import docker.errors
from docker import APIClient

from runtime_server.engine import answers, translate
from runtime_server.engine.answers import mapped
from runtime_server.engine.base import ContainerMissing
from runtime_server.engine.docker_calls import DockerCalls
from runtime_server.engine.docker_client import check, url
from runtime_server.engine.docker_streams import EngineConnection
from runtime_server.engine.feeds import FeedEnded
from runtime_server.engine.host_processes import HostProcesses
from runtime_server.engine.inside import ExecOutput, ExecSpec
from runtime_server.engine.multiplexed import Demultiplexer
from runtime_server.errors import EngineFailed, Problem

MARKER = "RUNTIME_SERVER_EXEC"
"""The variable that marks a command's processes."""
ENDING = 2.0
"""Seconds that a killed command's processes get to be gone."""
LOOK = 0.02
"""Seconds between two looks at whether a command has ended."""

_FAILED = (b"OCI runtime exec failed", b"unable to find ", b"no matching entries", b"Error: ")
"""How an engine's own words begin, which come as output where a command can't be started."""

_SCRIPT = """
for round in 1 2 3; do
  for process in /proc/[0-9]*; do
    case "$(cat "$process/environ" 2>/dev/null)" in *{marker}*) kill -9 "${{process#/proc/}}" ;; esac
  done
done
"""
"""Ends what has the marker from inside, with what any shell has, and ``cat``. It doesn't have the marker itself."""


class DockerExecs(DockerCalls):
    """Runs commands in containers."""

    def exec(self, container: str, spec: ExecSpec) -> DockerExecSession:
        """See ``InsideEngine``."""
        with self._call("exec", container) as client:
            body = translate.exec_body(spec, MARKER)
            made = check(client.post(url(client, f"/containers/{container}/exec"), json=body, timeout=self._timeout))
            return self._begin(client, container, spec, str(made.json()["Id"]))

    def _begin(self, client: APIClient, container: str, spec: ExecSpec, exec_id: str) -> DockerExecSession:
        connection = EngineConnection(
            client,
            "POST",
            f"/exec/{exec_id}/start",
            body=json.dumps({"Detach": False, "Tty": spec.tty}).encode(),
            upgrade=True,
            timeout=self._timeout,
        )
        return DockerExecSession(self, connection, container, spec, exec_id)

    def exec_state(self, exec_id: str) -> tuple[bool, int | None] | None:
        """See ``InsideEngine``."""
        attrs = self.exec_attrs(exec_id)
        return None if attrs is None else (bool(attrs.get("Running")), attrs.get("ExitCode"))

    def exec_attrs(self, exec_id: str) -> dict[str, Any] | None:
        """What the engine says of a command; None where it has forgotten it."""
        with self._call("exec inspect", exec_id) as client:
            try:
                found: dict[str, Any] = client.exec_inspect(exec_id)
            except docker.errors.NotFound:
                return None
            return found

    def resize_exec(self, exec_id: str, rows: int, columns: int) -> None:
        """Set a command's terminal's size; nothing where it has ended."""
        with suppress(EngineFailed, ContainerMissing), self._call("resize", exec_id) as client:
            client.exec_resize(exec_id, height=rows, width=columns)

    def kill_marked(self, container: str, spec: ExecSpec) -> bool:
        """End a command and what it started: by the host's own process numbers, else by another command."""
        with self._call("inspect", container) as client:
            snapshot = translate.snapshot(client.inspect_container(container))
        if HostProcesses(snapshot.container_id, snapshot.pid).kill(spec.marker):
            return True
        # The command's own user may signal it, and so may root, where that is another, with CAP_KILL.
        return any(self._kill_inside(container, spec, user) for user in dict.fromkeys((spec.user, "0")))

    def _kill_inside(self, container: str, spec: ExecSpec, user: str | None) -> bool:
        script = _SCRIPT.format(marker=spec.marker)
        killer = ExecSpec(("sh", "-c", script), marker="", user=user)
        try:
            session = self.exec(container, killer)
        except (Problem, ContainerMissing):
            return False
        ends = time.monotonic() + ENDING * 2
        try:
            while time.monotonic() < ends:
                session.receive(LOOK)
        except FeedEnded:
            return session.exit_code() == 0
        except Problem:
            return False
        finally:
            session.close()
        return False


class DockerExecSession:
    """A command that runs; see ``ExecSession``."""

    def __init__(
        self, execs: DockerExecs, connection: EngineConnection, container: str, spec: ExecSpec, exec_id: str
    ) -> None:
        self._execs = execs
        self._connection = connection
        self._container = container
        self._spec = spec
        self._frames = None if spec.tty else Demultiplexer(whole=False)
        self._ready: deque[ExecOutput] = deque()
        self._begun = self._failed = False
        self.exec_id = exec_id

    def receive(self, timeout: float, wake: int | None = None) -> ExecOutput | None:
        """See ``ExecSession``."""
        with mapped("exec"):
            while not self._ready:
                data = self._connection.receive(timeout, wake)
                if data is None:
                    return None
                if not data:
                    raise FeedEnded
                self._unpack(data)
        return self._ready.popleft()

    def _unpack(self, data: bytes) -> None:
        frames = [("stdout", data)] if self._frames is None else self._frames.feed(data)
        for stream, payload in frames:
            if not self._begun and payload.startswith(_FAILED):
                self._check_begun(payload)
            self._begun = True
            self._ready.append(ExecOutput(stream, payload))

    def _check_begun(self, said: bytes) -> None:
        """See whether the first output is the engine's: then there never was a process.

        Raises:
            Problem: it is.
        """
        if self._never_began():
            self._failed = True
            raise answers.answer("exec", 400, said.decode("utf-8", "replace").strip())

    def _never_began(self) -> bool:
        """Whether there was no process, once the engine knows."""
        attrs = self._execs.exec_attrs(self.exec_id) or {}
        ends = time.monotonic() + ENDING
        while attrs.get("Running") and not attrs.get("Pid") and time.monotonic() < ends:
            time.sleep(LOOK)
            attrs = self._execs.exec_attrs(self.exec_id) or {}
        return not attrs.get("Pid") and not attrs.get("Running")

    @property
    def backlog(self) -> int:
        """See ``ExecSession``."""
        return self._connection.backlog

    def send(self, data: bytes) -> None:
        """See ``ExecSession``."""
        self._connection.send(data)

    def end_input(self) -> None:
        """See ``ExecSession``."""
        self._connection.end_output()

    def resize(self, rows: int, columns: int) -> None:
        """See ``ExecSession``."""
        # For a process that never comes, Docker waits 10 s before it refuses (ContainerExecResize in 20.10 to 26).
        if self._begun or not self._never_began():
            self._execs.resize_exec(self.exec_id, rows, columns)

    def exit_code(self) -> int | None:
        """See ``ExecSession``; an engine may close the output a moment before it knows how the process ended."""
        ends = time.monotonic() + ENDING
        while True:
            state = self._execs.exec_state(self.exec_id)
            if state is None:
                return None
            running, code = state
            if not running:
                return code
            if time.monotonic() >= ends:
                return None
            time.sleep(LOOK)

    def kill(self) -> bool:
        """See ``ExecSession``."""
        if self._failed:
            return True
        try:
            return self._execs.kill_marked(self._container, self._spec)
        except ContainerMissing:
            return True

    def close(self) -> None:
        """See ``Feed``."""
        self._connection.close()
