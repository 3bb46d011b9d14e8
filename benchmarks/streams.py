"""Short calls while every place for streams is taken, beside the same server when it is idle."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import requests
from rich.console import Console
from rich.table import Table

from benchmarks.servers import Server, service
from runtime_server import RuntimeServerClient
from runtime_server.settings import Settings

GOAL = 1.5
"""The median with all streams open, over that of the idle server."""
PLACES = int(Settings.model_fields["workers"].default) * int(Settings.model_fields["streams"].default)
"""Streams of all workers, by default."""
HEALTHS, PAUSES = 50, 10
"""Of each in a row, in each state of each round."""
SETTLE = 0.05
"""Seconds before each pause and resume: asked sooner, Docker 20.10 itself loses track of a container's state."""
LEFT = 3.0
"""Seconds after which the server has seen that the readers of its streams have left."""
TRIES = 100
CHATTY = "while true; do echo something to be seen; sleep 1; done"
IDLE, TAKEN = "idle", "all streams taken"


@click.command()
@click.option("--rounds", default=10, show_default=True, help="Times that both states are measured.")
@click.option("--image", default="busybox", show_default=True, help="An image with `sh` that the engine has.")
def streams(rounds: int, image: str) -> None:
    """Measure `/healthz` and pause with every stream open: logs, events and stats of a runtime that writes."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with TemporaryDirectory(prefix="runtime-server-benchmark-") as folder, ExitStack() as stack:
        server = stack.enter_context(service(Path(folder)))
        client = stack.enter_context(RuntimeServerClient(server.url, api_key=server.key))
        names = [
            stack.enter_context(client.runtime(image=image, command=["sh", "-c", CHATTY], wait=60, stop_timeout=0))
            for _ in range(2)
        ]
        watched, paused = (each.runtime_id for each in names)
        measure(server, paused, {})
        for number in range(rounds):
            for state in (IDLE, TAKEN) if number % 2 else (TAKEN, IDLE):
                with opened(server, watched) if state is TAKEN else ExitStack():
                    for key, found in measure(server, paused, {}).items():
                        times[key, state] += found
    show({key: median(values) for key, values in times.items()}, rounds)


def measure(server: Server, runtime_id: str, times: dict[str, list[float]]) -> dict[str, list[float]]:
    """Milliseconds of each call; over a connection of its own, so that both workers are met."""
    with RuntimeServerClient(server.url, api_key=server.key) as client:
        client.health()
        times["/healthz, ms"] = [timed(client.health) for _ in range(HEALTHS)]
        times["pause, ms"] = []
        for _ in range(PAUSES):
            time.sleep(SETTLE)
            times["pause, ms"].append(timed(lambda: client.pause_runtime(runtime_id)))
            time.sleep(SETTLE)
            client.resume_runtime(runtime_id)
    return times


def timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


@contextmanager
def opened(server: Server, runtime_id: str) -> Iterator[None]:
    """All streams that the server has places for, each kind as often; raises where it has more or fewer."""
    paths = cycle(
        (f"/runtimes/{runtime_id}/logs?follow=true", "/events", f"/runtimes/{runtime_id}/stats?stream=true")
    )
    headers = {**server.headers, "Accept": "application/x-ndjson"}

    def ask(path: str) -> requests.Response | None:
        answer = requests.get(server.url + path, headers=headers, stream=True, timeout=30)
        if answer.status_code == requests.codes.ok:
            return answer
        assert answer.json()["code"] == "too-many-streams", answer.text
        answer.close()
        return None

    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        found = 0
        for _ in range(TRIES):
            # One worker may be full before the other is.
            for answer in pool.map(ask, islice(paths, PLACES - found)):
                if answer is not None:
                    stack.callback(answer.close)
                    found += 1
            if found == PLACES:
                break
        if found != PLACES or any(pool.map(ask, islice(paths, 8))):
            raise SystemExit(f"{found} streams could be opened, or more than {PLACES}")
        time.sleep(1.0)
        yield
    time.sleep(LEFT)


def show(medians: dict[tuple[str, str], float], rounds: int) -> None:
    """Print the table."""
    table = Table(caption=f"Medians of {rounds} rounds, interleaved; {PLACES} streams of logs, events and stats.")
    for heading in ("", IDLE, TAKEN, "ratio", "goal", ""):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    for key in dict.fromkeys(key for key, _ in medians):
        ratio = medians[key, TAKEN] / medians[key, IDLE]
        figures = [f"{medians[key, state]:.2f}" for state in (IDLE, TAKEN)]
        table.add_row(key, *figures, f"{ratio:.2f}", f"≤ {GOAL:g}", "met" if ratio <= GOAL else "missed")
    Console(width=120).print(table)
