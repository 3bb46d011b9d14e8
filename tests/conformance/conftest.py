"""One bench to test any engine on: in memory, and Docker (marked ``engine``)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runtime_server.engine import labels
from runtime_server.engine.base import ContainerMissing, ContainerState, Engine, RuntimeSpec
from runtime_server.engine.docker import DockerEngine
from runtime_server.engine.memory import MemoryEngine
from tests.engine import images
from tests.engine.conftest import docker_client, test_images

__all__ = ["bench", "docker_client", "test_images"]

DEADLINE = 60.0


class Bench:
    """An engine under test, and what a test does with it again and again."""

    image: str
    exposing_image: str
    """An image like ``image`` that exposes 8000/tcp."""

    def __init__(self, connect: Callable[[str], Engine], say: Callable[[str, str, str], None]) -> None:
        self._connect = connect
        self._say = say
        self._engines: list[Engine] = []
        self.instance = "conformance-" + secrets.token_hex(4)
        self.engine = self.connect()

    def connect(self, instance: str | None = None) -> Engine:
        """A further client of the same engine, for the same instance or another."""
        engine = self._connect(instance or self.instance)
        self._engines.append(engine)
        return engine

    def spec(self, *, instance: str | None = None, **changes: Any) -> RuntimeSpec:
        runtime_id = changes.pop("runtime_id", "runtime-" + secrets.token_hex(6))
        stamped = {labels.INSTANCE: instance or self.instance, labels.RUNTIME_ID: runtime_id, "team": "blue"}
        return RuntimeSpec(
            runtime_id=runtime_id,
            labels=stamped,
            image=changes.pop("image", self.image),
            command=changes.pop("command", ("sleep", "600")),
            **changes,
        )

    def create(self, **changes: Any) -> str:
        return self.engine.create(self.spec(**changes))

    def run(self, **changes: Any) -> str:
        container = self.create(**changes)
        self.engine.start(container)
        return container

    def in_state(self, state: str) -> str:
        """A container that is created, running, paused, exited or gone."""
        container = self.create()
        if state in ("running", "paused", "exited"):
            self.engine.start(container)
        if state == "paused":
            self.engine.pause(container)
        if state == "exited":
            self.engine.stop(container, 5)
        if state == "gone":
            self.engine.remove(container)
        return container

    def say(self, container: str, line: str, stream: str = "stdout") -> None:
        """Have the container write a line."""
        self._say(container, line, stream)

    def state(self, container: str) -> str:
        try:
            return str(self.engine.inspect(container).state)
        except ContainerMissing:
            return "gone"

    def until_exited(self, container: str) -> None:
        ends = time.monotonic() + DEADLINE
        while self.engine.inspect(container).state is not ContainerState.EXITED:
            assert time.monotonic() < ends, "it still runs"
            time.sleep(0.02)

    def close(self) -> None:
        for engine in self._engines:
            for listed in engine.list():
                engine.remove(listed.container_id)
            for volume in engine.list_volumes(labels.INSTANCE):
                engine.remove_volume(volume.name)
            engine.close()


def _in_memory() -> Bench:
    root = MemoryEngine("root")
    root.add_image("exposing", exposed=("8000/tcp",))
    bench: Bench

    def say(container: str, line: str, stream: str) -> None:
        assert isinstance(bench.engine, MemoryEngine)
        bench.engine.write(container, f"{line}\n", stream)

    bench = Bench(root.sibling, say)
    bench.image, bench.exposing_image = "busybox", "exposing"
    return bench


def _on_docker(request: pytest.FixtureRequest) -> Bench:
    request.getfixturevalue("test_images")
    client = request.getfixturevalue("docker_client")

    def say(container: str, line: str, stream: str) -> None:
        script = f"echo '{line}' > /proc/1/fd/{1 if stream == 'stdout' else 2}"
        client.exec_start(client.exec_create(container, ["/bin/sh", "-c", script])["Id"])

    bench = Bench(DockerEngine, say)
    bench.image, bench.exposing_image = images.BUSYBOX, images.EXPOSING
    return bench


@pytest.fixture(params=["memory", pytest.param("docker", marks=pytest.mark.engine)])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = _in_memory() if request.param == "memory" else _on_docker(request)
    yield bench
    bench.close()
