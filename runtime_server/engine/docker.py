"""The Engine protocol on Docker's and Podman's HTTP API, through docker-py."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable
from typing import Any, Literal

import docker.auth
import docker.errors
from docker import APIClient

from runtime_server.engine import answers, labels, networks, probes, sockets, translate
from runtime_server.engine.base import (
    Connections,
    ContainerMissing,
    ContainerState,
    ImageFacts,
    Listed,
    Network,
    RegistryLogin,
    RuntimeSpec,
    Snapshot,
)
from runtime_server.engine.docker_client import PING_TIMEOUT, check, post_empty, url
from runtime_server.engine.docker_events import DockerEvents, messages
from runtime_server.engine.docker_files import DockerFiles
from runtime_server.engine.docker_limits import DockerLimits
from runtime_server.engine.docker_logs import DockerLogs
from runtime_server.engine.docker_stats import DockerStats
from runtime_server.engine.docker_stock import DockerStock
from runtime_server.engine.stock import PullState
from runtime_server.errors import EngineFailed, EngineTimeout, ImageNotFound, InvalidState
from runtime_server.models import EngineVersion

PULL_SILENCE = 600.0
"""Seconds that a pull may say nothing: unpacking a large layer does."""
REMOVE_TRIES = 4
"""How often a removal is tried that the engine refuses: 20.10 briefly answers 409 or 500 after a kill."""
SETTLE = 0.1
"""Seconds after which an engine's idea of what is paused has caught up."""


class DockerEngine(DockerLogs, DockerFiles, DockerStats, DockerLimits, DockerStock):
    """Containers of one instance on a Docker or Podman engine; see ``DockerCalls`` for its arguments.

    Their lives are here, what is inside of them in the modules of its bases.
    """

    _log_sizes = True
    """Whether the engine's log driver takes sizes, as far as is known."""

    def ping(self) -> None:
        """See ``Engine``."""
        with self._call("ping") as client:
            check(client.get(url(client, "/_ping"), timeout=min(PING_TIMEOUT, self._timeout)))

    def version(self) -> EngineVersion:
        """See ``Engine``."""
        with self._call("version") as client:
            return translate.engine_version(client.version())

    def image_present(self, image: str) -> bool:
        """See ``Engine``."""
        return self.image_facts(image) is not None

    def image_facts(self, image: str) -> ImageFacts | None:
        """See ``Engine``."""
        translate.image_reference(image)
        try:
            with self._call("image", image=image) as client:
                return translate.image_facts(client.inspect_image(image))  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None

    def pull(
        self,
        image: str,
        *,
        platform: str | None = None,
        login: RegistryLogin | None = None,
        progress: Callable[[PullState], None] | None = None,
    ) -> None:
        """See ``Engine``; without a login, Docker's own configuration has the credentials."""
        name, tag = translate.image_reference(image)
        params = {"fromImage": name, "tag": tag} | ({"platform": platform} if platform else {})
        said, summary = None, translate.PullProgress()
        with self._call("pull", image=image) as client:
            # Not client.pull, which has no timeout.
            response = client.post(
                url(client, "/images/create"),
                params=params,
                headers=_registry_headers(client, name, login),
                stream=True,
                timeout=(self._timeout, PULL_SILENCE),
            )
            # Closing the connection cancels the pull.
            with contextlib.closing(response):
                for message in messages(check(response)):
                    if "error" in message:
                        raise answers.answer("pull", 200, str(message["error"]), image=image)
                    state = summary.state(message)
                    if progress is not None and state != said:
                        progress(state)
                    said = state

    def create(self, spec: RuntimeSpec) -> str:
        """See ``Engine``."""
        translate.image_reference(spec.image)
        if self._log_sizes:
            try:
                return self._create(spec)
            except answers.LogSizeRefused:
                # Learnt from its refusal: to ask for the driver first would cost every process a call.
                self._log_sizes = False
        return self._create(dataclasses.replace(spec, log_max_size=0))

    def _create(self, spec: RuntimeSpec) -> str:
        body = translate.create_body(spec)
        with self._call("create", image=spec.image, network=spec.network, runtime_class=spec.runtime_class) as client:
            made = client.create_container_from_config(  # type: ignore[no-untyped-call]
                body, name=spec.runtime_id, platform=spec.platform
            )
            return str(made["Id"])

    def start(self, container: str) -> None:
        """See ``Engine``."""
        with self._call("start", container) as client:
            client.start(container)

    def inspect(self, container: str) -> Snapshot:
        """See ``Engine``."""
        with self._call("inspect", container) as client:
            found = translate.snapshot(client.inspect_container(container))
        if found.labels.get(labels.INSTANCE) != self.instance:
            raise ContainerMissing(container)
        return found

    def pause(self, container: str, meanwhile: Callable[[], object] | None = None) -> bool:
        """See ``Engine``."""
        return self._switch("pause", container, meanwhile)

    def resume(self, container: str, meanwhile: Callable[[], object] | None = None) -> bool:
        """See ``Engine``."""
        if self._switch("resume", container, meanwhile):
            return True
        if self.inspect(container).state is ContainerState.RUNNING:
            return False
        raise InvalidState("The container isn't running.", runtime_status=None, allowed_actions=None)

    def _switch(
        self,
        operation: Literal["pause", "resume"],
        container: str,
        meanwhile: Callable[[], object] | None = None,
    ) -> bool:
        """Freeze or thaw; False where the engine says twice that there is nothing to do.

        After a quick pause and resume, 20.10 takes containerd's late notice of the former for a new one, and holds
        the container for paused, or the other way round, until the notice of the latter comes: hence the second try.
        """
        for delay in (SETTLE, None):
            try:
                with self._call(operation, container) as client:
                    word = "pause" if operation == "pause" else "unpause"
                    post_empty(client, f"/containers/{container}/{word}", meanwhile)
                return True
            except answers.Unchanged:
                meanwhile = None
                if delay is not None:
                    time.sleep(delay)
        return False

    def stop(self, container: str, grace: float) -> bool:
        """See ``Engine``; engines take whole seconds, so the grace is rounded up."""
        for _ in range(2):
            try:
                return self._stop(container, math.ceil(grace))
            except answers.StillPaused:
                self._switch("resume", container)
        raise EngineFailed("The engine doesn't stop a paused container.")

    def _stop(self, container: str, seconds: int) -> bool:
        with self._call("stop", container) as client:
            # Not client.stop, which hides the 304.
            response = client.post(
                url(client, f"/containers/{container}/stop"),
                params={"t": seconds},
                timeout=self._timeout + seconds,
            )
            return check(response).status_code != 304

    def remove(self, container: str) -> bool:
        """See ``Engine``."""
        end, refused, there = time.monotonic() + self._timeout, 0, False
        while True:
            try:
                with self._call("remove", container) as client:
                    client.remove_container(container, v=True, force=True)
                return True
            except ContainerMissing:
                return there
            except answers.BeingRemoved:
                there = True
            except EngineFailed:
                there, refused = True, refused + 1
                if refused == REMOVE_TRIES:
                    raise
            if time.monotonic() > end:
                raise EngineTimeout("The container isn't removed yet.", retry_after=answers.RETRY_AFTER)
            time.sleep(0.05 * (1 + refused))

    def list(self) -> list[Listed]:
        """See ``Engine``."""
        with self._call("list") as client:
            return [translate.listed(each) for each in client.containers(all=True, filters=self._filters())]

    def _filters(self) -> dict[str, Any]:
        return {"label": [f"{labels.INSTANCE}={self.instance}"]}

    def http_status(self, snapshot: Snapshot, port: int, path: str, timeout: float) -> int | None:
        """See ``Engine``."""
        return probes.http_status(snapshot, port, path, timeout)

    def http_json(self, snapshot: Snapshot, port: int, path: str, timeout: float) -> object | None:
        """See ``Engine``."""
        return probes.http_json(snapshot, port, path, timeout)

    def connections(self, container: str, pid: int | None) -> Connections | None:
        """See ``Engine``."""
        return sockets.connections(container, pid)

    def commands(self, container: str) -> int:
        """See ``Engine``."""
        with self._call("inspect", container) as client:
            return probes.commands(client, client.inspect_container(container))

    def command_status(self, container: str, command: tuple[str, ...], timeout: float) -> int | None:
        """See ``Engine``."""
        with self._call("probe", container) as client:
            return probes.command_status(client, container, command, timeout)

    def events(self, since: float | None = None) -> DockerEvents:
        """See ``Engine``; events may come again that happened just before the subscription."""
        # Always with "since": engines answer the request before they subscribe, and what happens in between is lost.
        begin = time.time() if since is None else since
        filters = {"type": ["container"], **self._filters()}
        with self._call("events") as client:
            response = client.get(
                url(client, "/events"),
                params={"since": f"{begin:.9f}", "filters": json.dumps(filters)},
                stream=True,
                timeout=self._timeout,
            )
            return DockerEvents(check(response))

    def ensure_network(self, name: str, *, ipv6: bool = False) -> Network:
        """See ``Engine``."""
        with self._call("network") as client:
            return networks.ensure(client, name, self.instance, ipv6=ipv6)

    def find_network(self, name: str) -> Network | None:
        """See ``Engine``."""
        with self._call("network") as client:
            return networks.find_own(client, name, self.instance)

    def remove_network(self, name: str) -> bool:
        """See ``Engine``."""
        with self._call("network") as client:
            return networks.remove(client, name, self.instance)

    def close(self) -> None:
        """See ``Engine``."""
        self._lazy.close()


def _registry_headers(client: APIClient, name: str, login: RegistryLogin | None) -> dict[str, str]:
    if login is not None:
        header = docker.auth.encode_header({"username": login.username, "password": login.password})
    else:
        registry, _ = docker.auth.resolve_repository_name(name)
        found = docker.auth.get_config_header(client, registry)
        if not found:
            return {}
        header = found
    return {"X-Registry-Auth": header.decode("ascii") if isinstance(header, bytes) else header}
