from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime_server.engine.building import Builder
from runtime_server.engine.memory import MemoryEngine
from runtime_server.engine.memory_build import MemoryBuilder
from runtime_server.models import Runtime, RuntimeStatus, StartRequest, StartResponse
from runtime_server.runtimes import steps
from runtime_server.runtimes.caller import Caller
from runtime_server.service import Service
from runtime_server.settings import PREFIX, Settings
from runtime_server.state import locate
from runtime_server.store.database import Database
from runtime_server.store.migrate import migrate
from runtime_server.store.store import Store

DEADLINE = 60.0
ALICE = Caller("alice")
BOB = Caller("bob")


def eventually(so: Callable[[], Any]) -> Any:
    """What ``so`` returns once that is true."""
    end = time.monotonic() + DEADLINE
    while not (found := so()):
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.005)
    return found


class Killed(BaseException):
    """The process ends here."""


class World:
    """One state directory and one engine; each service on them stands for a process."""

    def __init__(self, directory: Path, template: Path) -> None:
        self.settings = Settings.model_validate({"state_dir": directory, "threads": 4, "auth": "off"})
        self.state = locate(self.settings)
        self._template = template
        self.fresh_database()
        self.engine = MemoryEngine(self.state.instance)
        self.builder: Builder = MemoryBuilder(self.engine)
        self._services: list[Service] = []

    def fresh_database(self) -> None:
        for each in self.state.directory.glob("state.db*"):
            each.unlink()
        shutil.copy(self._template, self.state.database)

    def service(self, **changes: Any) -> Service:
        settings = self.settings.model_copy(update=changes)
        service = Service(settings, self.state, self.engine, self.builder)
        self._services.append(service)
        return service

    def kill(self, service: Service) -> None:
        """What the kernel does to a dead process: its locks are free."""
        service.holder.close()

    def close(self) -> None:
        self.engine.away = False
        self.engine.clear_hooks()
        for service in self._services:
            service.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without records: copied, since a migration takes a second."""
    path = tmp_path_factory.mktemp("template") / "state.db"
    migrate(path)
    return path


@pytest.fixture
def database(tmp_path: Path, template: Path) -> Path:
    path = tmp_path / "state.db"
    shutil.copy(template, path)
    return path


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    found = Store(Database(database))
    yield found
    found.database.close()


@pytest.fixture
def world(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    made = World(tmp_path / "state", template)
    yield made
    steps.hooks.clear()
    made.close()


@pytest.fixture
def service(world: World) -> Service:
    return world.service()


def start(service: Service, *, key: str | None = None, caller: Caller = ALICE, **fields: Any) -> StartResponse:
    request = StartRequest.model_validate({"image": "busybox", "wait": DEADLINE, **fields})
    return service.manager.start(caller, request, key=key)


def get(service: Service, runtime: str, caller: Caller = ALICE) -> Runtime:
    return service.manager.get(caller, runtime)


def status(service: Service, runtime: str) -> RuntimeStatus:
    """By the store alone."""
    record = service.store.get(runtime)
    assert record is not None
    return record.status


def sweep(service: Service) -> None:
    """One round of the reconciler, with all that it sets going."""
    service.reconciler.sweep()
    service._chores.settle()
    service._chores.interrupted()
    service._chores.settle()
