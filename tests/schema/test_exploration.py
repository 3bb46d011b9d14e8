"""Every operation with thousands of generated requests, right and wrong ones, and chains of them along the links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from schemathesis import GenerationMode

from runtime_server.testing import InMemoryServer, in_memory_server
from tests.schema.exploring import (
    EXCLUDED,
    INCLUDED,
    NAMES,
    OPERATIONS,
    PREFIX,
    aim,
    aim_at_files,
    explored,
    opened,
    settle,
    try_operation,
)

EXAMPLES = 70
"""Requests to each operation, of each kind."""
CHAINS, STEPS = 160, 12
OWNERS = 5 * CHAINS
"""Each chain is another owner's: it begins with nothing, as it did when Hypothesis tried its beginning before. There
are at most two rounds of them, and in each some whose beginnings are thrown away."""
SHORT = {"max_wait": 0.02, "idempotency_wait": 0, "max_stream": 0.05, "heartbeat": 0.05, "max_exec": 0.1}
"""Seconds that requests may wait for something."""


@pytest.fixture(scope="module")
def server() -> Iterator[InMemoryServer]:
    with in_memory_server(**SHORT, registry_prefix=PREFIX) as server:
        yield server


@pytest.fixture(scope="module")
def patient() -> Iterator[InMemoryServer]:
    """One that knows all owners, and answers to a start once it has ended, however busy the machine is."""
    keys = ",".join(f"owner-{number}:key-{number}" for number in range(OWNERS))
    with in_memory_server(**SHORT | {"max_wait": 300}, api_keys=keys, registry_prefix=PREFIX) as server:
        yield server


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=NAMES)
def test_every_answer_is_as_told(server: InMemoryServer, path: str, method: str, mode: GenerationMode) -> None:
    seen: Counter[int] = Counter()
    operation = opened(server, lambda: server.api_key)[path][method]
    try_operation(server, operation, mode, EXAMPLES, lambda status: seen.update([status]))
    print(f"{method} {path}, {mode.value}: {seen.total()} requests, {dict(sorted(seen.items()))}")  # noqa: T201


def test_every_chain_along_the_links_is_as_told(patient: InMemoryServer) -> None:
    owner = 0
    seen: Counter[tuple[str, int]] = Counter()
    schema = opened(patient, lambda: f"key-{owner}")
    linked = set(schema.raw_schema["paths"]["/start"]["post"]["responses"]["201"]["links"])
    # A terminal takes over the server's connection, which there is none here; tests/contract opens real ones.
    linked -= {"openTerminal"}
    # What is wrong in itself was tried above; here are right requests, at whatever state they meet.
    schema.config.generation.update(modes=[GenerationMode.POSITIVE])

    def run(names: Collection[str]) -> None:
        class Chain(schema.include(operation_id=["startRuntime", *names]).as_state_machine()):  # type: ignore[misc]
            def setup(self) -> None:
                nonlocal owner
                super().setup()
                owner = (owner + 1) % OWNERS

            def before_call(self, case: Any) -> None:
                aim(case.body, sure=True)
                aim_at_files(case)
                settle(case)

            def after_call(self, response: Any, case: Any) -> None:
                super().after_call(response, case)
                seen[case.operation.definition.raw["operationId"], response.status_code] += 1

            def validate_response(
                self, response: Any, case: Any, additional_checks: Any = None, **kwargs: Any
            ) -> None:
                checked = {"checks": INCLUDED, "transport_kwargs": kwargs or None, "recorder": self.recorder}
                case.validate_response(response, **checked)

        Chain.run(settings=explored(CHAINS, stateful_step_count=STEPS))

    def in_vain() -> list[str]:
        return [name for name in ("startRuntime", *linked) if not any(s < 300 for n, s in seen if n == name)]

    run(linked)
    if missed := in_vain():  # among so many links, chance may lead one to nothing but removed runtimes
        run(missed)
    print(f"{seen.total()} requests in {CHAINS} chains: {dict(sorted(seen.items()))}")  # noqa: T201
    # Each link led to something: an exploration that meets nothing but 404 proves nothing.
    assert in_vain() == []


def test_a_start_links_to_everything_that_takes_its_id(server: InMemoryServer) -> None:
    schema = opened(server, lambda: server.api_key).raw_schema
    linked = schema["paths"]["/start"]["post"]["responses"]["201"]["links"]
    assert {"pauseRuntime", "resumeRuntime", "stopRuntime", "getRuntime", "removeRuntime", "renewRuntime"} <= {
        *linked
    }


def test_only_checks_that_there_are_have_a_reason_not_to_be_made() -> None:
    assert len(INCLUDED) >= 10
    assert all(reason for reason in EXCLUDED.values())
    assert not {each.__name__ for each in INCLUDED} & {*EXCLUDED}
