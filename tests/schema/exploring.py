"""What generated requests are checked for, and how they are led to what there is."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from typing import Any, Final

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from runtime_server import RuntimeServerClient
from runtime_server.api import ROUTES
from runtime_server.testing import InMemoryServer
from tests.forms import archive

load_all_checks()

EXCLUDED: Final = {
    "positive_data_acceptance": "policy refuses what is valid: other images than the engine has, host paths, ports; "
    "and names, states and quotas conflict",
    "use_after_free": "a removed runtime can be read until its retention ends, and actions answer that it is removed",
    "object_level_authorization": "needs another user's key; tests/api/test_owners.py tries every route with the ids "
    "and aliases of another",
}
"""The checks that the API contradicts on purpose, and why. All others are made, new ones of Schemathesis' too."""

INCLUDED: Final = [each for each in CHECKS.get_all() if each.__name__ not in EXCLUDED]

SELDOM_ALLOWED: Final = (
    *("ports", "volumes", "network", "use_host_network", "devices", "gpus", "enable_gpu", "privileged", "cap_add"),
    *("no_new_privileges", "runtime_class", "workspace_mount_path", "workspace_mount_path_in_sandbox", "platform"),
)
"""Fields of a start that policy, or the engine, refuses with nearly every value that is generated."""

PREFIX: Final = "registry.test/sandboxes"
"""``registry_prefix`` of servers that are explored."""
OPERATIONS: Final = [(route.template, method) for route in ROUTES for method in route.operations]
NAMES: Final = [each.id for route in ROUTES for each in route.operations.values()]


def _volume(client: RuntimeServerClient) -> str:
    """A volume that no runtime has any more."""
    mount = {"host_path": "cache", "container_path": "/cache"}
    client.remove_runtime(client.start_runtime(image="busybox", volumes=[mount]).runtime_id)
    return "cache"


TARGETS: Final[dict[str, Callable[[RuntimeServerClient], str]]] = {
    "runtime_id": lambda client: client.start_runtime(image="busybox").runtime_id,
    "build_id": lambda client: client.build_image(archive(), f"{client.registry_prefix()}/agent:2").build_id,
    "reference": lambda client: f"{client.registry_prefix()}/agent:2",
    "volume": _volume,
}
"""Makes what requests are about, by the name of what names it: a generated id is never one that there is."""


def opened(server: InMemoryServer, key: Callable[[], str]) -> Any:
    """The server's schema; requests carry ``key()`` where they need one."""
    found = schemathesis.openapi.from_wsgi("/openapi.json", server.app)

    @found.auth(refresh_interval=None)
    class Key:
        def get(self, case: Any, context: Any) -> str:
            return key()

        def set(self, case: Any, data: str, context: Any) -> None:
            case.headers = {**(case.headers or {}), "X-API-Key": data}

    # What is sent as another key beside it is looked at by nobody.
    found.config.generation.update(with_security_parameters=False)
    return found


def explored(examples: int, **more: int) -> settings:
    """Hypothesis' settings: the same cases each time, nothing kept, no time that a busy machine could break."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        **more,  # type: ignore[arg-type]
    )


def aim(body: Any, *, sure: bool = False) -> None:
    """Make a start one that can work: a generated image is never one that there is.

    Args:
        body: of any request.
        sure: leave out what is refused most times, too.
    """
    if isinstance(body, dict) and "target_image" in body:
        body["context"] = base64.b64encode(archive()).decode()
        body["target_image"] = f"{PREFIX}/default/agent:1"
    if isinstance(body, dict) and "image" in body:
        body["image"] = "busybox"
        for name in SELDOM_ALLOWED if sure else ():
            body.pop(name, None)


def aim_at_files(case: Any) -> None:
    """Make a request about files one about the folder that there is, or a file that is in it or can be."""
    found = {"GET": {"path": "/", "list": True}, "PUT": {"path": "/page.html"}, "DELETE": {"path": "/etc/group"}}
    if case.path.endswith("/files"):
        case.query |= found[case.method]
        case.query.pop("owner", None)


def settle(case: Any) -> None:
    """Make a request one that leads to the same however fast or slow it goes: as Hypothesis begins a chain as it
    began another, it wants to meet the same."""
    body = case.body if isinstance(case.body, dict) else {}
    if "image" in body:
        body["wait"] = 300
        body.pop("readiness", None)  # no service in it would ever be
    body.update({name: 3600 for name in ("ttl", "idle_timeout") if body.get(name) is not None})
    for name in ("wait_for", "timeout") if case.query else ():
        case.query.pop(name, None)


def try_operation(
    server: InMemoryServer, operation: Any, mode: GenerationMode, examples: int, tally: Callable[[int], None]
) -> None:
    """Send so many requests to an operation, right ones or wrong ones, and check each answer."""
    client, cases = server.client(), itertools.count()
    target = ""

    @given(case=operation.as_strategy(generation_mode=mode))
    @explored(examples)
    def holds(case: Any) -> None:
        nonlocal target
        if mode is GenerationMode.POSITIVE:
            aim(case.body)
            for part in (case.path_parameters, case.query, case.body):
                for name in TARGETS.keys() & (part if isinstance(part, dict) else {}):
                    # Several about the same one: what has been done to it before is part of the case.
                    if next(cases) % 6 == 0:
                        target = TARGETS[name](client)
                    part[name] = target
        tally(case.call_and_validate(checks=INCLUDED).status_code)

    try:
        holds()
    except Unsatisfiable:
        # Nothing in it can be wrong: no body, no query, and any text is a name.
        assert mode is GenerationMode.NEGATIVE
        assert not operation.body
        assert not operation.query
