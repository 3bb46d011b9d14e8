from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests
from click.testing import CliRunner, Result

import runtime_server.client
from runtime_server import RuntimeServerClient
from runtime_server.cli.main import main
from runtime_server.testing import TEST_URL, InMemoryServer, WsgiAdapter, in_memory_server
from tests.contract.conftest import OWNERS, client, key

__all__ = ["client", "key"]


class Run(Protocol):
    """Invokes the command line."""

    def __call__(
        self, *arguments: str, code: int = 0, input: str | bytes | None = None, env: Mapping[str, str] | None = None
    ) -> Result: ...


@pytest.fixture(scope="session")
def shared_server() -> Iterator[InMemoryServer]:
    """One server for all tests; each works as an owner of its own, so that they don't meet."""
    keys = ",".join([*(f"owner-{n}:key-{n}" for n in range(OWNERS)), "boss+admin:key-of-boss"])
    with in_memory_server(api_keys=keys, registry_prefix="registry.example.com/boxes", shared_builds=True) as server:
        yield server


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without settings of his own."""
    for name in os.environ:
        if name.startswith(("RUNTIME_SERVER_", "FORCE_COLOR", "TTY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RUNTIME_SERVER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def run(shared_server: InMemoryServer, key: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Invoke the command line as that owner; ``code`` is the exit code that it must end with."""

    with requests.Session() as session:
        session.mount(TEST_URL, WsgiAdapter(shared_server.app))
        monkeypatch.setattr(
            runtime_server.client, "RuntimeServerClient", functools.partial(RuntimeServerClient, session=session)
        )
        yield functools.partial(_invoke, key)


def _invoke(
    key: str,
    *arguments: str,
    code: int = 0,
    input: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    environment = {"RUNTIME_SERVER_URL": TEST_URL, "RUNTIME_SERVER_API_KEY": key, **(env or {})}
    result = CliRunner().invoke(main, arguments, input=input, env=environment, prog_name="runtime-server")
    assert result.exit_code == code, f"{result.exit_code}: {result.output}{result.exception!r}"
    return result


def data(result: Result) -> Any:
    """The JSON of stdout."""
    return json.loads(result.stdout)


def lines(result: Result) -> list[Any]:
    """The JSON of each line of stdout."""
    return [json.loads(line) for line in result.stdout.splitlines()]
