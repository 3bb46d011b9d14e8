from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from falcon.testing import TestClient

from runtime_server.api import create_api
from runtime_server.settings import Settings
from runtime_server.web.auth import KeyRing
from tests.api.fakes import FakeCalls, FakeManager

KEY = "k-alice"
OTHER_KEY = "k-bob"


@dataclass
class Api:
    """An API on a fake manager, and a client that sends alice's key."""

    client: TestClient
    manager: FakeManager
    settings: Settings

    def post(self, path: str, json: Any = None, **more: Any) -> Any:
        return self.client.simulate_post(path, json=json, **more)


MakeApi = Callable[..., Api]


@pytest.fixture
def make_api(tmp_path: Path) -> MakeApi:
    def make(**changes: Any) -> Api:
        values = {"api_keys": f"alice:{KEY},bob:{OTHER_KEY}", "state_dir": tmp_path, "log_level": "info"} | changes
        settings = Settings(**values)
        manager = FakeManager()
        keys = KeyRing.from_settings(settings, None)
        app = create_api(settings, cast(Any, manager), cast(Any, FakeCalls()), keys)
        return Api(TestClient(app, headers={"X-API-Key": KEY}), manager, settings)

    return make


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()
