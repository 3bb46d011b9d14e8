"""Measures start, pause, resume, parallel starts, reads and memory, interleaved, and prints one table."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import docker

from benchmarks import load, servers
from benchmarks.gateway import gateway
from benchmarks.report import Report
from benchmarks.sides import (
    LABEL,
    PARALLEL,
    CommandLine,
    Engine,
    Naive,
    Service,
    Side,
    create_body,
    engine_client,
    run_options,
)
from benchmarks.streams import streams

STARTS = 3
"""Starts on each side in each round, one at a time: a start varies by a tenth from one to the next."""

SWITCHES = 10
"""Pauses and resumes of one container in a row, on each side in each round: they are short, and vary."""

SETTLE = 0.05
"""Seconds before each: asked sooner, Docker 20.10 may take a resumed container for a paused one, or the other way."""

Times = dict[tuple[str, str], list[float]]
"""Milliseconds, or rates, by what was measured and on which side."""


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What it returned, and milliseconds."""
    began = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - began) * 1000


def remove_all(api: docker.APIClient, labels: dict[str, str]) -> None:
    """Remove this run's containers, whoever started them."""
    for attrs in api.containers(all=True, filters={"label": [f"{key}={value}" for key, value in labels.items()]}):
        api.remove_container(attrs["Id"], force=True, v=True)


def measure_actions(sides: Sequence[Side], rounds: int, clean: Callable[[], None]) -> Times:
    """Start, pause and resume one at a time; each turn begins with another side, so that none is always first."""
    times: Times = defaultdict(list)
    for number in range(rounds):
        for turn in range(STARTS):
            for side in rotated(sides, number + turn):
                container, spent = timed(side.start)
                times["start", side.name].append(spent)
                if turn == 0 and not isinstance(side, CommandLine):
                    for action, took in pauses_and_resumes(side, container):
                        times[action, side.name].append(took)
                clean()
    return times


def pauses_and_resumes(side: Side, container: str) -> Iterator[tuple[str, float]]:
    """Pause and resume it ``SWITCHES`` times; milliseconds of each."""
    for _ in range(SWITCHES):
        for action, call in (("pause", side.pause), ("resume", side.resume)):
            time.sleep(SETTLE)
            yield action, timed(partial(call, container))[1]


def measure_parallel(sides: Sequence[Side], rounds: int, clean: Callable[[], None]) -> Times:
    """Starts per second of ``PARALLEL`` threads with one start each, those that didn't run not counted."""
    rates: Times = defaultdict(list)
    for number in range(rounds):
        for side in rotated(sides, number):
            with ThreadPoolExecutor(PARALLEL) as pool:
                began = time.perf_counter()
                starts = [pool.submit(side.start) for _ in range(PARALLEL)]
                running = sum(each.exception() is None for each in starts)
                rates["parallel", side.name].append(running / (time.perf_counter() - began))
            clean()
    return rates


def measure_reads(targets: dict[str, tuple[servers.Server, str]], rounds: int, seconds: float) -> Times:
    """GET requests per second of one runtime on each server."""
    rates: Times = defaultdict(list)
    for number in range(rounds):
        for name in rotated(list(targets), number):
            server, container = targets[name]
            url = f"{server.url}/runtimes/{container}"
            rates["reads", name].append(load.requests_per_second(url, server.headers, seconds))
    return rates


def rotated(items: Sequence[Any], by: int) -> list[Any]:
    """The items, beginning with another one each time."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


@contextmanager
def run_of(api: docker.APIClient) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder for the servers and the label of this run's containers, all removed at the end."""
    labels = {LABEL: secrets.token_hex(6)}
    with TemporaryDirectory(prefix="runtime-server-benchmark-") as folder:
        try:
            yield Path(folder), labels
        finally:
            remove_all(api, labels)
            api.close()


@click.group(invoke_without_command=True)
@click.option("--rounds", default=20, show_default=True, help="Each three starts, ten pauses and ten resumes a side.")
@click.option("--parallel-rounds", default=0, help="Times 16 parallel starts; 0: a quarter of the rounds.")
@click.option("--read-rounds", default=3, show_default=True, help="Times that reads are measured.")
@click.option("--seconds", default=4.0, show_default=True, help="Seconds of reads, each time.")
@click.option("--image", default="busybox", show_default=True, help="An image with `sleep` that the engine has.")
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Measure this service beside docker-py, `docker run -d` and a plain FastAPI server."""
    if context.invoked_subcommand is None:
        actions(**options)


main.add_command(streams)


def actions(rounds: int, parallel_rounds: int, read_rounds: int, seconds: float, image: str) -> None:
    """What a caller waits for."""
    api = engine_client()
    with run_of(api) as (folder, labels), servers.service(folder) as ours:
        mine = Service(ours, image, labels)

        # What the service gives its containers, the others give theirs.
        first = mine.start()
        config = create_body(api.inspect_container(first), labels)
        mine.client.remove_runtime(first)
        rest = servers.worker_memory(ours)

        with servers.naive(folder, run_options(config)) as theirs:
            plain = Naive(theirs, image)
            raw = Engine(api, config)
            sides: list[Side] = [raw, CommandLine(config), plain, mine]

            def clean() -> None:
                remove_all(api, labels)

            for side in sides:
                side.start()
            clean()
            results = measure_actions(sides, rounds, clean)
            results |= measure_parallel([raw, plain, mine], parallel_rounds or max(1, rounds // 4), clean)
            targets = {plain.name: (theirs, plain.start()), mine.name: (ours, mine.start())}
            results |= measure_reads(targets, read_rounds, seconds)
            clean()
            results["memory", mine.name] = [max(rest, servers.worker_memory(ours))]
            results["memory", plain.name] = [servers.worker_memory(theirs)]
            mine.client.close()

    Report({key: median(values) for key, values in results.items()}, load.tool()).show(rounds)


main.add_command(gateway)

if __name__ == "__main__":
    main()
