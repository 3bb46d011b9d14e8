"""Real servers on a real engine, seeds, and a line of figures for each test."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime_server.client.client import RuntimeServerClient
from tests.engine.conftest import docker_client, site, test_images
from tests.faults.server import Server, Site
from tests.faults.tally import Tally

__all__ = ["docker_client", "site", "test_images"]

DEFAULT_SEED = 20
TALLIES = pytest.StashKey[list[Tally]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=DEFAULT_SEED, help="what faults are drawn from")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLIES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engine)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tallies = config.stash.get(TALLIES, [])
    if tallies:
        terminalreporter.section("faults")
        for tally in tallies:
            terminalreporter.write_line(str(tally))


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What faults are drawn from; the option is known only where this folder is named on the command line."""
    return int(request.config.getoption("seed", DEFAULT_SEED))


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """A generator of the test's own, the same for the same seed."""
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def tally(request: pytest.FixtureRequest, seed: int) -> Iterator[Tally]:
    """The test's figures, shown at the end of the run."""
    made = Tally(request.node.nodeid.removeprefix("tests/faults/"), seed)
    request.config.stash.setdefault(TALLIES, []).append(made)
    yield made
    assert (made.duplicates, made.leaks) == (0, 0)


@pytest.fixture
def server(site: Site) -> Server:
    """A server with two workers."""
    return site.start()


@pytest.fixture
def client(server: Server) -> Iterator[RuntimeServerClient]:
    """A client straight to ``server``."""
    with server.client() as made:
        yield made
