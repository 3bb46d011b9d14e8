"""What the OpenAPI document promises, tried with generated requests on the whole service."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks

from runtime_server import RuntimeServerClient
from runtime_server.api import ROUTES
from runtime_server.testing import InMemoryServer, in_memory_server
from tests.forms import archive

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
OPERATIONS = [
    pytest.param(route.path, method, id=operation.id)
    for route in ROUTES
    for method, operation in route.operations.items()
]


@pytest.fixture(scope="module")
def server() -> Iterator[InMemoryServer]:
    with in_memory_server(max_wait=0.05, idempotency_wait=0, registry_prefix="registry.test/sandboxes") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: InMemoryServer) -> RuntimeServerClient:
    return server.client()


@pytest.fixture(scope="module")
def schema(server: InMemoryServer) -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", server.app)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_told(
    schema: Any,
    server: InMemoryServer,
    client: RuntimeServerClient,
    path: str,
    method: str,
    mode: schemathesis.GenerationMode,
) -> None:
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def holds(case: Any) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE:
            aim(case, client)
        case.call_and_validate(checks=CHECKS, headers={"X-API-Key": server.api_key})

    holds()


def aim(case: Any, client: RuntimeServerClient) -> None:
    """Make the request one about what there is: a generated image or name never is."""
    if isinstance(case.body, dict) and "image" in case.body:
        case.body["image"] = "busybox"
        return
    if isinstance(case.body, dict) and "target_image" in case.body:
        context = base64.b64encode(archive()).decode()
        case.body = {"context": context, "target_image": f"{client.registry_prefix()}/agent:1"}
        return
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict) and "runtime_id" in part:
            part["runtime_id"] = client.start_runtime(image="busybox").runtime_id
        if isinstance(part, dict) and "build_id" in part:
            part["build_id"] = client.build_image(archive(), f"{client.registry_prefix()}/agent:2").build_id
