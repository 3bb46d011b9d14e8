"""Nothing leaks out: a run with planted secrets, and a search through everything that it left."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from falcon.testing import TestClient

from runtime_server import logs
from runtime_server.engine.base import RegistryLogin
from runtime_server.errors import EngineFailed, EngineTimeout
from runtime_server.keys import KeyFile
from runtime_server.models import Runtime, StartRequest
from runtime_server.store.database import Database
from runtime_server.store.store import Store
from runtime_server.testing import InMemoryServer, in_memory_server
from runtime_server.web.auth import KeyRing
from tests.forms import build_form

API_KEY = "planted-api-key-7f3a"
WRONG_KEY = "planted-wrong-key-51c2"
VALUE = "planted-value-c0ff"
PASSWORD = "planted-password-9b1d"
LOGIN = {"username": "planted-user-33aa", "password": PASSWORD}
ENVIRONMENT = {"MODEL_TOKEN": VALUE, "PLAIN": f"x={VALUE};y"}

_SESSION_KEY = re.compile(r'"session_api_key":"([^"]+)"')


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Everything logged, at the least level, as the server logs it."""
    root = logging.getLogger()
    before, level, configured = list(root.handlers), root.level, structlog.get_config()
    logs.configure("debug", "json")
    yield lambda: "".join(capsys.readouterr())
    root.handlers[:] = before
    root.setLevel(level)
    structlog.configure(**configured)
    logging.captureWarnings(False)


class Run:
    """Calls on a server, and what it answered."""

    def __init__(self, server: InMemoryServer) -> None:
        self.server = server
        self.client = TestClient(server.app)
        self.answers: list[str] = []
        self.session_keys: set[str] = set()

    def ask(self, method: str, path: str, body: Any = None, *, key: str = API_KEY, **headers: str) -> Any:
        result = self.client.simulate_request(method, path, json=body, headers={"X-API-Key": key, **headers})
        text = f"{result.headers}\n{result.text}"
        # Its owner's answers may have a session key, in this one member.
        self.session_keys |= set(_SESSION_KEY.findall(text))
        text = _SESSION_KEY.sub("", text)
        self.answers.append(text)
        return result.json

    def start(self, **fields: Any) -> Any:
        body = {"image": "busybox", "environment": ENVIRONMENT, "registry_auth": LOGIN, **fields}
        return self.ask("POST", "/start", body, **{"Idempotency-Key": f"k{len(self.answers)}"})

    def build(self) -> None:
        """One build that works and one that is refused, and what can be read of them."""
        for image in ("registry.test/alice/agent:1", "elsewhere/agent"):
            form = build_form(image)
            headers = {"X-API-Key": API_KEY, "Idempotency-Key": image, **form["headers"]}
            result = self.client.simulate_post("/build", body=form["body"], headers=headers)
            self.answers.append(result.text)
            build_id = result.json.get("build_id", "none")
            for path in (f"/builds/{build_id}", f"/builds/{build_id}/log", f"/build_status?build_id={build_id}"):
                self.answers.append(self.client.simulate_get(path, headers={"X-API-Key": API_KEY}).text)

    def everything(self) -> None:
        """Starts that work and that fail in every place that sees secrets, and all else that answers."""
        engine = self.server.engine
        started = self.start(name="one", session_id="s1", image_pull_policy="Always", labels={"team": "x"})
        self.start(session_id="s1", environment={"MODEL_TOKEN": VALUE + "2"})
        self.start(name="one")
        self.start(image="no/such:image")
        self.start(environment={"MODEL_TOKEN": [VALUE]})
        self.start(environment={"MODEL_TOKEN": VALUE + "\x00"})
        self.start(registry_auth={**LOGIN, "password": [PASSWORD]})
        self.start(registry_auth={**LOGIN, "unknown": PASSWORD})
        self.start(volumes=[{"host_path": "/etc", "container_path": "/etc"}])
        for method, failure in (("pull", EngineTimeout()), ("create", EngineFailed()), ("start", ValueError("odd"))):
            engine.fail_next(method, failure)
            self.start(image_pull_policy="Always", session_id=f"failing-{method}")
        self.ask("POST", "/start", key=WRONG_KEY)
        self.ask("POST", "/start", "not a start")
        runtime = started["runtime_id"]
        for path in ("/pause", "/resume", "/stop"):
            self.ask("POST", path, {"runtime_id": runtime})
        for path in (f"/runtimes/{runtime}", "/runtimes", f"/runtimes?label={VALUE}", "/readyz", "/version", "/nope"):
            self.ask("GET", path)
        self.build()
        self.ask("DELETE", f"/runtimes/{runtime}")
        assert self.start(name="stays", session_id="s2")["status"] == "running"


def planted(run: Run) -> list[str]:
    assert len(run.session_keys) >= 1
    return [API_KEY, WRONG_KEY, VALUE, PASSWORD, LOGIN["username"], *run.session_keys]


def found(text: str, secrets: list[str]) -> list[str]:
    return [each for each in secrets if each in text]


def test_no_secret_is_in_what_a_run_leaves(written: Callable[[], str], tmp_path: Path) -> None:
    keys, prefix = f"alice:{API_KEY}", "registry.test"
    folder = private(tmp_path)
    with in_memory_server(api_keys=keys, registry_prefix=prefix, log_level="debug", state_dir=folder) as server:
        run = Run(server)
        made, stored_key = KeyFile(server.settings.keys_path).add("alice")
        run.ask("GET", "/runtimes", key=stored_key)
        run.everything()
        kept = containers(server)
        assert kept
        store = Store(Database(tmp_path / "state" / "state.db"))
        history = [store.history(each.runtime_id) for each in everyone(store)]
        rows = [repr(each) for each in everyone(store)]
        store.database.close()
        secrets = [*planted(run), stored_key]
        for answer in run.answers:
            assert found(answer, secrets) == []
        assert found(repr(kept), secrets) == []
        assert found(repr(history), secrets) == []
        assert found("".join(rows), secrets) == []
        assert found(repr(server.settings) + repr(KeyRing.from_settings(server.settings)), secrets) == []
        assert found(repr((made, KeyFile(server.settings.keys_path).read())), secrets) == []
        on_disk = contents(tmp_path / "state")
    log = written()
    assert "start failed" in log
    assert '"status": 404' in log
    assert found(log, secrets) == []
    promised = {VALUE, *run.session_keys}
    for name, mode, content in on_disk:
        leaked = set(found(content, secrets))
        assert mode & 0o077 == 0
        assert leaked <= (promised if name.startswith("state.db") else set()), name
    assert any(VALUE in content for _, _, content in on_disk)


def private(folder: Path) -> Path:
    state = folder / "state"
    state.mkdir(mode=0o700)
    return state


def contents(folder: Path) -> list[tuple[str, int, str]]:
    files = [each for each in folder.rglob("*") if each.is_file()]
    return [(each.name, each.stat().st_mode, each.read_bytes().decode("latin-1")) for each in files]


def everyone(store: Store) -> Any:
    return store.page(None, statuses=(), labels={}, after=None, limit=1000)


def containers(server: InMemoryServer) -> list[Any]:
    """What the engine tells of each container; its environment is what the engine has by need."""
    return [(each.labels, server.engine.inspect(each.container_id)) for each in server.engine.list()]


def test_no_model_shows_a_secret() -> None:
    request = StartRequest.model_validate({"image": "x", "environment": ENVIRONMENT, "registry_auth": LOGIN})
    runtime = Runtime.model_validate(
        {
            "runtime_id": "r",
            "owner": "o",
            "image": "x",
            "status": "running",
            "created_at": "2026-01-01T00:00:00Z",
            "environment": ENVIRONMENT,
            "session_api_key": VALUE,
        }
    )
    login = RegistryLogin(**LOGIN)
    shown = repr((request, str(request), runtime, str(runtime), login, dataclasses.replace(login)))
    assert found(shown, [VALUE, PASSWORD]) == []


def test_an_error_of_validation_shows_no_value() -> None:
    with pytest.raises(ValueError, match="environment") as caught:
        StartRequest.model_validate({"image": "x", "environment": {"A": VALUE + "\x00"}})
    assert VALUE not in str(caught.value)


def test_an_error_of_the_database_shows_no_value(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    with pytest.raises(Exception) as caught, database.connection() as connection:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (?)", (VALUE,))
    database.close()
    assert VALUE not in f"{caught.value} {caught.value.__cause__}"
