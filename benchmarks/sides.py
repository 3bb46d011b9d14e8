"""The four ways to start a container that are compared, with the same configuration each."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any, Protocol

import docker
import requests
from docker.utils import kwargs_from_env

from benchmarks import report
from benchmarks.servers import Server
from runtime_server import RuntimeServerClient

COMMAND = ["sleep", "3600"]
PORT = 8000
LABEL = "runtime-server-benchmark"
PARALLEL = 16
WAIT = 120
"""Seconds that a start through the service may take: longer than any, so that ``running`` is always waited for."""


class Side(Protocol):
    """One way; ``start`` returns what the others take, and raises where the container doesn't run."""

    name: str

    def start(self) -> str: ...

    def pause(self, container: str) -> None: ...

    def resume(self, container: str) -> None: ...


def engine_client() -> docker.APIClient:
    """A low-level client with a connection for each of the parallel threads."""
    return docker.APIClient(**kwargs_from_env(), version="auto", timeout=WAIT, max_pool_size=PARALLEL)


class Engine:
    """docker-py's low-level calls: create, start, inspect. ``config`` is the body of the Engine's create."""

    name = report.ENGINE

    def __init__(self, api: docker.APIClient, config: Mapping[str, Any]) -> None:
        self._api = api
        self._config = dict(config)

    def start(self) -> str:
        created = self._api.create_container_from_config(self._config)  # type: ignore[no-untyped-call]
        container = str(created["Id"])
        self._api.start(container)
        status = self._api.inspect_container(container)["State"]["Status"]
        return _running(container, status)

    def pause(self, container: str) -> None:
        self._api.pause(container)

    def resume(self, container: str) -> None:
        self._api.unpause(container)


class CommandLine:
    """``docker run -d``, with the flags that mean ``config``."""

    name = report.RUN

    def __init__(self, config: Mapping[str, Any]) -> None:
        host = config["HostConfig"]
        flags = [f"--label={key}={value}" for key, value in config["Labels"].items()]
        flags += [f"--cap-drop={each}" for each in host.get("CapDrop") or ()]
        flags += [f"--cap-add={each}" for each in host.get("CapAdd") or ()]
        flags += [f"--security-opt={each}" for each in host.get("SecurityOpt") or ()]
        flags += [f"--memory={host['Memory']}", f"--memory-swap={host['MemorySwap']}"] if host.get("Memory") else []
        flags += [f"--pids-limit={host['PidsLimit']}"] if host.get("PidsLimit") else []
        flags += [f"--cpus={host['NanoCpus'] / 1e9}"] if host.get("NanoCpus") else []
        flags += ["--init"] if host.get("Init") else []
        for port, bindings in host["PortBindings"].items():
            flags += [f"--publish={each['HostIp']}::{port}" for each in bindings]
        self._run = [
            "docker",
            "run",
            "--detach",
            f"--network={host['NetworkMode']}",
            *flags,
            config["Image"],
            *COMMAND,
        ]

    def start(self) -> str:
        return self._docker(*self._run[1:])

    def pause(self, container: str) -> None:
        self._docker("pause", container)

    def resume(self, container: str) -> None:
        self._docker("unpause", container)

    @staticmethod
    def _docker(*arguments: str) -> str:
        return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


class Naive:
    """The FastAPI server, by ``requests``."""

    name = report.NAIVE

    def __init__(self, server: Server, image: str) -> None:
        self._url = server.url
        self._image = image
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=PARALLEL))

    def start(self) -> str:
        answer = self._post("/start", {"image": self._image, "command": COMMAND})
        return _running(str(answer["runtime_id"]), str(answer["status"]))

    def pause(self, container: str) -> None:
        self._post("/pause", {"runtime_id": container})

    def resume(self, container: str) -> None:
        self._post("/resume", {"runtime_id": container})

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        response = self._session.post(self._url + path, json=body, timeout=WAIT)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


class Service:
    """This service, through its client, both with their defaults."""

    name = report.SERVICE

    def __init__(self, server: Server, image: str, labels: Mapping[str, str]) -> None:
        self.client = RuntimeServerClient(server.url, api_key=server.key)
        self._request = {
            "image": image,
            "command": COMMAND,
            "ports": [{"container_port": PORT}],
            "labels": dict(labels),
            "wait": WAIT,
        }

    def start(self) -> str:
        started = self.client.start_runtime(self._request)
        return _running(started.runtime_id, str(started.status))

    def pause(self, container: str) -> None:
        self.client.pause_runtime(container)

    def resume(self, container: str) -> None:
        self.client.resume_runtime(container)


def _running(container: str, status: str) -> str:
    if status != "running":
        raise RuntimeError(f"{container} is {status}")
    return container


def create_body(attrs: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """The body of the Engine's create that makes a container like the one inspected.

    Labels aside: the service would take one with its own for its own.
    """
    config = attrs["Config"]
    return {
        "Image": config["Image"],
        "Cmd": config["Cmd"],
        "Labels": dict(labels),
        "ExposedPorts": config.get("ExposedPorts") or {},
        "HostConfig": attrs["HostConfig"],
    }


def run_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same as keyword arguments of docker-py's ``containers.run``."""
    host = config["HostConfig"]
    options = {
        "labels": config["Labels"],
        "network": host["NetworkMode"],
        "ports": {port: (bindings[0]["HostIp"], None) for port, bindings in host["PortBindings"].items()},
        "cap_drop": host.get("CapDrop"),
        "cap_add": host.get("CapAdd"),
        "security_opt": host.get("SecurityOpt"),
        "mem_limit": host.get("Memory"),
        "memswap_limit": host.get("MemorySwap"),
        "pids_limit": host.get("PidsLimit"),
        "nano_cpus": host.get("NanoCpus"),
        "init": host.get("Init"),
    }
    return {key: value for key, value in options.items() if value}
