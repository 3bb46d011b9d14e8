from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
import requests

from runtime_server import RetryPolicy, RuntimeServerClient
from runtime_server.testing import InMemoryServer, WsgiAdapter, in_memory_server

OWNERS = 400
"""More than there are tests, here and of the command line, which takes its keys from the same row."""
_owner = count()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[InMemoryServer]:
    """One server for all tests that break nothing; each works as an owner of its own, so they don't meet."""
    keys = ",".join(f"owner-{n}:key-{n}" for n in range(OWNERS))
    with in_memory_server(
        api_keys=keys, max_body_bytes=4096, allowed_networks="bridge,gone", runtime_classes="*=nothing", heartbeat=1.0
    ) as server:
        yield server


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    """A server of the test's own."""
    with in_memory_server() as server:
        yield server


@pytest.fixture
def key() -> str:
    """The key of an owner that nobody used before."""
    number = next(_owner)
    assert number < OWNERS
    return f"key-{number}"


@pytest.fixture
def client(shared_server: InMemoryServer, key: str) -> Iterator[RuntimeServerClient]:
    with shared_server.client(api_key=key, retry=RetryPolicy(max_attempts=1)) as client:
        yield client


class FaultyAdapter(WsgiAdapter):
    """Loses requests on their way there or answers on their way back, by a plan of ``lost``, ``cut`` and ``ok``."""

    def __init__(self, server: InMemoryServer, plan: Iterator[str]) -> None:
        super().__init__(server.app)
        self.plan = plan
        self.faults = 0

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        fault = next(self.plan, "ok")
        self.faults += fault != "ok"
        if fault == "lost":
            raise requests.ConnectionError("lost on the way there")
        response = super().send(request)
        if fault == "cut":
            response.close()
            raise requests.ReadTimeout("lost on the way back")
        return response
