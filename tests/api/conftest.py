from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from runtime_server.api import create_api
from runtime_server.engine import labels
from runtime_server.engine.base import RuntimeSpec
from runtime_server.engine.memory import MemoryEngine
from runtime_server.errors import TooManyStreams
from runtime_server.metrics.instruments import Metrics
from runtime_server.models import RuntimeStatus
from runtime_server.runtimes.inside import Inside
from runtime_server.runtimes.scrape import Scrape
from runtime_server.runtimes.waits import SlowLane
from runtime_server.service import Service
from runtime_server.settings import PREFIX, Settings
from runtime_server.state import locate
from runtime_server.store.migrate import migrate
from runtime_server.store.records import Record
from runtime_server.web.auth import KeyRing
from runtime_server.web.operation import Services
from runtime_server.web.streaming import Streams
from tests.api.fakes import NAME, REFERENCE, VOLUME, FakeBuilds, FakeCalls, FakeManager, FakeWorkspaces, Noting
from tests.forms import archive

KEY = "k-alice"
OTHER_KEY = "k-bob"


@dataclass
class Api:
    """The HTTP part on a fake manager, and a client that sends alice's key.

    What is inside of runtimes isn't a fake: alice has one that runs on ``engine``.
    """

    client: TestClient
    manager: FakeManager
    calls: FakeCalls
    builds: FakeBuilds
    engine: MemoryEngine

    def ask(self, method: str, path: str, **more: Any) -> Result:
        return self.client.simulate_request(method, path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> Result:
        return self.ask("POST", path, json=json, **more)

    def get(self, path: str, **more: Any) -> Result:
        return self.ask("GET", path, **more)


MakeApi = Callable[..., Api]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without records."""
    path = tmp_path_factory.mktemp("template") / "state.db"
    migrate(path)
    return path


def one_runtime(service: Service, engine: MemoryEngine) -> None:
    """Alice's, as a start would have left it."""
    spec = RuntimeSpec(
        runtime_id=NAME, image="busybox", labels={labels.INSTANCE: engine.instance, labels.RUNTIME_ID: NAME}
    )
    container = engine.create(spec)
    engine.start(container)
    engine.write_archive(container, "/", [archive({"srv/page.html": "hello\n"}, packed=False)])
    now = time.time()
    record = Record(
        NAME,
        "alice",
        RuntimeStatus.RUNNING,
        "busybox",
        now,
        now,
        container_id=container,
        spec={"image": "busybox", "network": "none"},
    )
    service.store.add(record)


def in_stock(engine: MemoryEngine) -> None:
    """An image that alice has built, one that can be pulled, and a volume of hers."""
    engine.add_image(REFERENCE)
    engine.add_pullable("registry.example.com/team/agent:1.4")
    mine = {labels.INSTANCE: engine.instance, labels.OWNER: "alice", labels.VOLUME: VOLUME}
    engine.ensure_volume(f"runtime-server-{VOLUME}", mine)


def noting(inside: Inside, manager: FakeManager) -> Inside:
    """What changes something, noted as what a manager is asked."""
    methods = {
        "restarts": ("restart",),
        "changes": ("change",),
        "images": ("delete",),
        "volumes": ("delete",),
        "housekeeping": ("prune",),
    }
    found: dict[str, Any] = {name: Noting(getattr(inside, name), manager, *told) for name, told in methods.items()}
    return dataclasses.replace(inside, **found)


@pytest.fixture
def make_api(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeApi]:
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    with contextlib.ExitStack() as services:

        def make(**changes: Any) -> Api:
            values: dict[str, Any] = {
                "api_keys": f"alice:{KEY},bob:{OTHER_KEY}",
                "state_dir": tmp_path,
                "max_stream": 0.2,
                "registry_prefix": "registry.test/sandboxes",
                "metrics": "open",
            }
            settings = Settings.model_validate(values | changes)
            manager, calls = FakeManager(), FakeCalls()
            builds, workspaces = FakeBuilds(manager, tmp_path), FakeWorkspaces(manager)
            keys = KeyRing.from_settings(settings, None)
            state = locate(settings)
            engine = MemoryEngine(state.instance)
            if not state.database.exists():
                shutil.copy(template, state.database)
            service = Service(settings, state, engine)
            services.callback(service.close)
            if service.store.get(NAME) is None:
                one_runtime(service, engine)
            in_stock(engine)
            streams = Streams(SlowLane(settings.streams, TooManyStreams), settings.heartbeat, settings.max_stream)
            fakes: tuple[Any, Any, Any, Any] = (manager, calls, workspaces, builds)
            scrape = Scrape(settings, Metrics())
            inside = noting(service.inside, manager)
            parts = Services(settings, *fakes, inside=inside, streams=streams, metrics=scrape)
            app = create_api(parts, keys)
            return Api(TestClient(app, headers={"X-API-Key": KEY}), manager, calls, builds, engine)

        yield make


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()
