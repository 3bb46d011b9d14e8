from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from falcon.testing import Result, TestClient

from runtime_server.api import create_api
from runtime_server.settings import PREFIX, Settings
from runtime_server.web.auth import KeyRing
from runtime_server.web.operation import Services
from tests.api.fakes import FakeBuilds, FakeCalls, FakeManager, FakeWorkspaces

KEY = "k-alice"
OTHER_KEY = "k-bob"


@dataclass
class Api:
    """The HTTP part on a fake manager, and a client that sends alice's key."""

    client: TestClient
    manager: FakeManager
    calls: FakeCalls
    builds: FakeBuilds

    def ask(self, method: str, path: str, **more: Any) -> Result:
        return self.client.simulate_request(method, path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> Result:
        return self.ask("POST", path, json=json, **more)

    def get(self, path: str, **more: Any) -> Result:
        return self.ask("GET", path, **more)


MakeApi = Callable[..., Api]


@pytest.fixture
def make_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeApi:
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def make(**changes: Any) -> Api:
        values: dict[str, Any] = {"api_keys": f"alice:{KEY},bob:{OTHER_KEY}", "state_dir": tmp_path}
        settings = Settings.model_validate(values | changes)
        manager, calls = FakeManager(), FakeCalls()
        builds = FakeBuilds(manager, tmp_path)
        keys = KeyRing.from_settings(settings, None)
        workspaces = FakeWorkspaces(manager)
        services = Services(settings, *map(partial(cast, Any), (manager, calls, workspaces, builds)))
        app = create_api(services, keys)
        return Api(TestClient(app, headers={"X-API-Key": KEY}), manager, calls, builds)

    return make


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()
