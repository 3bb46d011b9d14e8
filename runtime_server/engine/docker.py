"""The Engine protocol on Docker's and Podman's HTTP API, through docker-py."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import docker.auth
import docker.errors
import requests
import requests.adapters
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import compare_version

from runtime_server.engine import answers, labels, translate
from runtime_server.engine.answers import mapped
from runtime_server.engine.base import (
    ContainerMissing,
    ContainerState,
    EngineEvent,
    Listed,
    RegistryLogin,
    RuntimeSpec,
    Snapshot,
)
from runtime_server.engine.discovery import discover
from runtime_server.errors import EngineFailed, EngineTimeout, EngineUnreachable, ImageNotFound, InvalidState
from runtime_server.models import EngineVersion

PING_TIMEOUT = 5.0
"""Seconds: a ping that takes longer means that the engine isn't ready."""
PULL_SILENCE = 600.0
"""Seconds that a pull may say nothing: unpacking a large layer does."""
REMOVE_TRIES = 4
"""How often a removal is tried that the engine refuses: 20.10 briefly answers 409 or 500 after a kill."""
SETTLE = 0.1
"""Seconds after which an engine's idea of what is paused has caught up."""

_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)


class DockerEngine:
    """Containers of one instance on a Docker or Podman engine.

    The engine is looked for at the first call, and again as long as none answers; every process makes its own
    connections, so that an instance may be made before a fork. Thread-safe.

    Args:
        instance: value of the instance's label; containers without it are neither seen nor touched.
        address: of the engine, as in ``DOCKER_HOST``; empty: discovered.
        timeout: seconds that one call may take, besides a stop's grace.
        pool_size: connections kept; the number of threads that call.
    """

    def __init__(self, instance: str, *, address: str = "", timeout: float = 60.0, pool_size: int = 16) -> None:
        self.instance = instance
        self._address = address
        self._timeout = timeout
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._connected: tuple[int, APIClient] | None = None

    def _client(self) -> APIClient:
        """This process's client, which speaks a version that both sides know."""
        connected = self._connected
        if connected is not None and connected[0] == os.getpid():
            return connected[1]
        # Not under the lock: with an engine that hangs, callers would wait for one another in turn.
        made = self._connect()
        with self._lock:
            if self._connected is None or self._connected[0] != os.getpid():
                self._connected = (os.getpid(), made)
            else:
                made.close()
            return self._connected[1]

    def _connect(self) -> APIClient:
        probe = self._make_client(MINIMUM_DOCKER_API_VERSION, min(self._timeout, PING_TIMEOUT))
        with contextlib.closing(probe), mapped("version"):
            version = str(probe.version(api_version=False)["ApiVersion"])
        # compare_version(a, b) is 1 where b is the newer.
        if compare_version(DEFAULT_DOCKER_API_VERSION, version) > 0:
            version = DEFAULT_DOCKER_API_VERSION
        return self._make_client(version, self._timeout)

    def _make_client(self, version: str, timeout: float) -> APIClient:
        endpoint = discover(self._address)
        try:
            client = APIClient(
                base_url=endpoint.address,
                version=version,
                timeout=timeout,  # type: ignore[arg-type]  # requests takes fractions
                tls=endpoint.tls or False,
                max_pool_size=self._pool_size,
            )
        except docker.errors.DockerException as error:
            raise EngineUnreachable("The engine's address can't be used.", retry_after=answers.RETRY_AFTER) from error
        if endpoint.socket is not None:
            # Proxies and .netrc of the environment are looked up at each call, and are none of a socket's business.
            client.trust_env = False
            client.mount("http+docker://", _OnePoolAdapter(endpoint.socket, timeout, self._pool_size))
        elif not endpoint.address.startswith("ssh://"):
            for scheme in ("http://", "https://"):
                client.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=self._pool_size))
        return client

    @contextlib.contextmanager
    def _call(self, operation: str, container: str | None = None, **carried: Any) -> Iterator[APIClient]:
        """The client, for one call; what it raises is mapped."""
        # A name that isn't one would change the request's path.
        if container is not None and not _CONTAINER.fullmatch(container):
            raise ContainerMissing(container)
        client = self._client()
        try:
            with mapped(operation, **carried):
                yield client
        except answers.VersionMismatch as error:
            self._connected = None
            raise EngineUnreachable("The engine has been replaced.", retry_after=answers.RETRY_AFTER) from error

    def _url(self, client: APIClient, path: str) -> str:
        return f"{client.base_url}/v{client.api_version}{path}"

    def ping(self) -> None:
        """See ``Engine``."""
        with self._call("ping") as client:
            _check(client.get(self._url(client, "/_ping"), timeout=min(PING_TIMEOUT, self._timeout)))

    def version(self) -> EngineVersion:
        """See ``Engine``."""
        with self._call("version") as client:
            return translate.engine_version(client.version())

    def image_present(self, image: str) -> bool:
        """See ``Engine``."""
        translate.image_reference(image)
        try:
            with self._call("image", image=image) as client:
                client.inspect_image(image)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return False
        return True

    def pull(
        self,
        image: str,
        *,
        platform: str | None = None,
        login: RegistryLogin | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """See ``Engine``; without a login, Docker's own configuration has the credentials."""
        name, tag = translate.image_reference(image)
        params = {"fromImage": name, "tag": tag} | ({"platform": platform} if platform else {})
        said, summary = "", translate.PullProgress()
        with self._call("pull", image=image) as client:
            # Not client.pull, which has no timeout.
            response = client.post(
                self._url(client, "/images/create"),
                params=params,
                headers=_registry_headers(client, name, login),
                stream=True,
                timeout=(self._timeout, PULL_SILENCE),
            )
            # Closing the connection cancels the pull.
            with contextlib.closing(response):
                for message in _messages(_check(response)):
                    if "error" in message:
                        raise answers.answer("pull", 200, str(message["error"]), image=image)
                    sentence = summary.sentence(message)
                    if progress is not None and sentence != said:
                        progress(sentence)
                    said = sentence

    def create(self, spec: RuntimeSpec) -> str:
        """See ``Engine``."""
        translate.image_reference(spec.image)
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

    def pause(self, container: str) -> bool:
        """See ``Engine``."""
        return self._switch("pause", container)

    def resume(self, container: str) -> bool:
        """See ``Engine``."""
        if self._switch("resume", container):
            return True
        if self.inspect(container).state is ContainerState.RUNNING:
            return False
        raise InvalidState("The container isn't running.", runtime_status=None, allowed_actions=None)

    def _switch(self, operation: Literal["pause", "resume"], container: str) -> bool:
        """Freeze or thaw; False where the engine says twice that there is nothing to do.

        After a quick pause and resume, 20.10 takes containerd's late notice of the former for a new one, and holds
        the container for paused, or the other way round, until the notice of the latter comes: hence the second try.
        """
        for delay in (SETTLE, None):
            try:
                with self._call(operation, container) as client:
                    if operation == "pause":
                        client.pause(container)
                    else:
                        client.unpause(container)
                return True
            except answers.Unchanged:
                if delay is not None:
                    time.sleep(delay)
        return False

    def stop(self, container: str, grace: float) -> bool:
        """See ``Engine``; engines take whole seconds, so the grace is rounded up."""
        seconds = math.ceil(grace)
        with self._call("stop", container) as client:
            # Not client.stop, which hides the 304.
            response = client.post(
                self._url(client, f"/containers/{container}/stop"),
                params={"t": seconds},
                timeout=self._timeout + seconds,
            )
            return _check(response).status_code != 304

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

    def logs(self, container: str, tail: int = 100) -> str:
        """See ``Engine``."""
        with self._call("logs", container) as client:
            output = client.logs(container, stdout=True, stderr=True, tail=tail)
        return output.decode("utf-8", "replace")

    def events(self, since: float | None = None) -> DockerEvents:
        """See ``Engine``; events may come again that happened just before the subscription."""
        # Always with "since": engines answer the request before they subscribe, and what happens in between is lost.
        begin = time.time() if since is None else since
        filters = {"type": ["container"], **self._filters()}
        with self._call("events") as client:
            response = client.get(
                self._url(client, "/events"),
                params={"since": f"{begin:.9f}", "filters": json.dumps(filters)},
                stream=True,
                timeout=self._timeout,
            )
            return DockerEvents(_check(response))

    def close(self) -> None:
        """See ``Engine``."""
        with self._lock:
            connected, self._connected = self._connected, None
        # A forked process's copies of the connections belong to its parent.
        if connected is not None and connected[0] == os.getpid():
            connected[1].close()


class DockerEvents:
    """The engine's event stream; see ``EventStream``."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._closed = False
        connection = response.raw.connection
        self._socket: socket.socket | None = getattr(connection, "sock", None)
        if self._socket is not None:
            # The subscription had to be answered in time; from here on, silence is nothing unusual.
            self._socket.settimeout(None)

    def __iter__(self) -> Iterator[EngineEvent]:
        try:
            for message in _messages(self._response):
                if self._closed:
                    return
                found = translate.event(message)
                if found is not None:
                    yield found
        # An engine that goes away, or close() in another thread: either way there is no more to come.
        except (requests.RequestException, OSError, ValueError, AttributeError):
            return
        finally:
            self._response.close()

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        self._closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class _Connection(UnixHTTPConnection):
    """Gives the socket back where there is no engine; docker-py's leaves that to the garbage collector."""

    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self.timeout)
            connecting.connect(self.unix_socket)
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]


class _OnePoolAdapter(UnixHTTPAdapter):
    """Keeps one pool of connections for the socket.

    docker-py's own keeps one for each URL: it connects anew for each container, and closes a pool that another thread
    may be using once there are 25.
    """

    def __init__(self, path: str, timeout: float, pool_size: int) -> None:
        super().__init__(f"http+unix://{path}", max_pool_size=pool_size)
        self._pool = _Pool("http+docker://localhost", path, timeout, maxsize=pool_size)  # type: ignore[arg-type]
        # The adapter's close() closes what is in here.
        self.pools["all"] = self._pool

    def get_connection(self, url: str | bytes, proxies: Mapping[str, str] | None = None) -> Any:  # noqa: ARG002
        return self._pool


def _check(response: requests.Response) -> requests.Response:
    """The response.

    Raises:
        docker.errors.APIError: it is an error.
    """
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        with contextlib.closing(response):
            docker.errors.create_api_error_from_http_exception(error)
    return response


def _messages(response: requests.Response) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a stream, one a line; each as soon as it has come."""
    for line in response.iter_lines(chunk_size=65536):
        if line:
            yield json.loads(line)


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
