"""What the OpenAPI document promises, tried with a few generated requests; tests/schema tries thousands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from schemathesis import GenerationMode

from runtime_server.testing import InMemoryServer, in_memory_server
from tests.schema.exploring import NAMES, OPERATIONS, PREFIX, opened, try_operation


@pytest.fixture(scope="module")
def server() -> Iterator[InMemoryServer]:
    short = {"max_wait": 0.02, "idempotency_wait": 0, "max_stream": 0.05, "heartbeat": 0.05}
    with in_memory_server(**short, registry_prefix=PREFIX) as server:
        yield server


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=NAMES)
def test_answers_are_as_told(server: InMemoryServer, path: str, method: str, mode: GenerationMode) -> None:
    seen: list[int] = []
    try_operation(server, opened(server, lambda: server.api_key)[path][method], mode, 5, seen.append)
    assert seen or mode is GenerationMode.NEGATIVE
