"""The gateway beside nginx alone: requests to a runtime that runs, and to one that sleeps.

Both ways go through the same nginx to the same container, whose service is another nginx: what is measured is what
the gateway adds, and no service hides it.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import docker
from rich.console import Console
from rich.table import Table

from benchmarks import load, servers
from benchmarks.sides import LABEL, engine_client
from runtime_server import RuntimeServerClient

DOMAIN = "gateway.example"
PORT = 8000
IMAGE = "runtime-server-benchmark/nginx:latest"
BURST = 50
"""Requests in a row on one connection, on each side in each round."""

INSIDE = f"""
daemon off;
master_process off;
pid /tmp/nginx.pid;
error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u;
    scgi_temp_path /tmp/s;
    server {{ listen {PORT} backlog=1024; location / {{ return 200 "{{}}"; }} }}
}}
"""
OUTSIDE = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b;
    proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    include {folder}/runtime-server.conf;
    # The same service by its address, as somebody would write it who knows it.
    server {{
        listen 127.0.0.1:{static};
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection close;
            proxy_buffering off;
            proxy_buffer_size 32k;
            proxy_buffers 4 32k;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Goal:
    """A line of the table: ours divided by the other."""

    title: str
    other: str
    most: float | None = None
    least: float | None = None

    def met(self, ratio: float) -> bool:
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)


GOALS = {
    "latency": Goal("a request to a running runtime, ms", "nginx, statically", most=1.25),
    "rate": Goal(f"requests per second, {load.CONNECTIONS} at once", "nginx, statically", least=0.85),
    "wake": Goal("a request to a paused runtime, ms", "unpause, and the request", most=1.5),
}


@click.command()
@click.option("--rounds", default=20, show_default=True, help="Times that each is measured, one after the other.")
@click.option("--rate-rounds", default=5, show_default=True, help="Times that rates are measured.")
@click.option("--seconds", default=3.0, show_default=True, help="Seconds of a rate's measurement.")
def gateway(rounds: int, rate_rounds: int, seconds: float) -> None:
    """Measure the gateway beside an nginx that proxies to the same container statically."""
    api = engine_client()
    labels = {LABEL: secrets.token_hex(6)}
    make_image(api)
    with service() as server, nginx(server) as add_static:
        client = RuntimeServerClient(server.url, api_key=server.key)
        started = client.start_runtime(
            {
                "image": IMAGE,
                "command": ["/nginx", "-c", "/nginx.conf"],
                "ports": [{"container_port": PORT}],
                "readiness": {"type": "http", "path": "/"},
                "labels": labels,
                "wait": 60,
            }
        )
        runtime = started.runtime_id
        networks = api.inspect_container(runtime)["NetworkSettings"]["Networks"]
        static = add_static(f"{next(iter(networks.values()))['IPAddress']}:{PORT}")
        host = f"{runtime}.{DOMAIN}"
        sides = {"static": (static, DOMAIN), "ours": (server.port, host)}
        results = latencies(sides, rounds) | rates(sides, rate_rounds, seconds)

        def pause() -> None:
            until(lambda: client.get_runtime(runtime).status == "running", "it runs")
            client.pause_runtime(runtime)
            until(lambda: bool(api.inspect_container(runtime)["State"]["Paused"]), "it is paused")

        def bare() -> None:
            api.unpause(runtime)
            request(static, DOMAIN)

        results |= wakes(pause, bare, lambda: request(server.port, host), rounds)
        client.remove_runtime(runtime)
        client.close()
    api.close()
    show(results, rounds)


def request(port: int, host: str) -> None:
    """One request on a connection of its own; anything but 200 raises."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    ask(connection, host)
    connection.close()


def ask(connection: http.client.HTTPConnection, host: str) -> None:
    connection.request("GET", "/", headers={"Host": host})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"{host} answers {answer.status}")


def latencies(sides: dict[str, tuple[int, str]], rounds: int) -> dict[tuple[str, str], float]:
    """Median milliseconds of a request."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            port, host = sides[name]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            ask(connection, host)
            for _ in range(BURST):
                times[name].append(timed(lambda: ask(connection, host)))  # noqa: B023
            connection.close()
    return {("latency", name): median(found) for name, found in times.items()}


def rates(sides: dict[str, tuple[int, str]], rounds: int, seconds: float) -> dict[tuple[str, str], float]:
    """Median requests per second."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            port, host = sides[name]
            found[name].append(load.requests_per_second(f"http://127.0.0.1:{port}/", {"Host": host}, seconds))
    return {("rate", name): median(each) for name, each in found.items()}


def wakes(
    pause: Callable[[], None], bare: Callable[[], None], woken: Callable[[], None], rounds: int
) -> dict[tuple[str, str], float]:
    """Median milliseconds from a paused container to an answer."""
    times: dict[str, list[float]] = {"static": [], "ours": []}
    for number in range(rounds):
        for name, call in sorted((("static", bare), ("ours", woken)), reverse=bool(number % 2)):
            pause()
            # Docker 20.10 takes late notices of a freeze for new ones; the service writes down what was done by hand.
            time.sleep(0.3)
            times[name].append(timed(call))
            time.sleep(0.3)
    return {("wake", name): median(found) for name, found in times.items()}


def timed(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def show(results: dict[tuple[str, str], float], rounds: int) -> None:
    """Print the table."""
    table = Table(caption=f"Medians of {rounds} rounds, interleaved; rates by {load.tool()}.")
    for heading in ("", "without", "gateway", "ratio", "goal", ""):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    for key, goal in GOALS.items():
        without, ours = results[key, "static"], results[key, "ours"]
        ratio = ours / without
        wanted = f"≤ {goal.most:g}" if goal.most is not None else f"≥ {goal.least:g}"
        digits = 0 if key == "rate" else 2
        shown = (f"{without:.{digits}f}", f"{ours:.{digits}f}", f"{ratio:.2f} × {goal.other}", wanted)
        table.add_row(goal.title, *shown, "met" if goal.met(ratio) else "missed")
    Console(width=130).print(table)


@dataclass(frozen=True, slots=True)
class Gatewayed:
    """The service behind nginx, which isn't started yet."""

    folder: Path
    settings: dict[str, str]
    port: int
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str) -> str:
        """What a command of the service's says."""
        environment = {**os.environ, **self.settings}
        command = [sys.executable, "-m", "runtime_server", *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def service() -> Iterator[Gatewayed]:
    """The service as it is by default, but for the gateway."""
    with TemporaryDirectory(prefix="runtime-server-benchmark-") as name:
        folder, port, key = Path(name), servers._free_port(), secrets.token_hex(16)
        settings = {
            "BIND": f"unix:{folder}/api.sock",
            "STATE_DIR": f"{folder}/state",
            "API_KEYS": f"benchmarks:{key}",
            "ROUTING": "subdomain",
            "DOMAIN": DOMAIN,
            "GATEWAY_PORT": str(port),
            "GATEWAY_DIR": str(folder),
        }
        found = Gatewayed(folder, {f"RUNTIME_SERVER_{key}": value for key, value in settings.items()}, port, key)
        try:
            command = [sys.executable, "-m", "runtime_server"]
            with servers._process(command, found.settings, folder / "service.log"):
                until((folder / "api.sock").exists, "the service listens")
                yield found
        finally:
            found.run("purge", "--yes")


@contextmanager
def nginx(server: Gatewayed) -> Iterator[Callable[[str], int]]:
    """nginx with the gateway; what is yielded adds the static server for an upstream, and returns its port."""
    static = servers._free_port()
    user = "user root;" if os.geteuid() == 0 else ""

    def write(upstream: str) -> None:
        text = OUTSIDE.format(folder=server.folder, user=user, static=static, upstream=upstream)
        (server.folder / "nginx.conf").write_text(text)

    (server.folder / "runtime-server.conf").write_text(
        server.run("nginx-config", "--listen", f"127.0.0.1:{server.port}")
    )
    write("127.0.0.1:1")
    command = [program(), "-c", f"{server.folder}/nginx.conf"]
    with servers._process(command, {}, server.folder / "nginx.out") as process:

        def add(upstream: str) -> int:
            write(upstream)
            process.send_signal(signal.SIGHUP)
            until(lambda: answers(static), "nginx has its new configuration")
            return static

        until(lambda: answers(server.port, "/readyz"), "nginx and the service answer")
        yield add


def answers(port: int, path: str = "/") -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={"Host": DOMAIN})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def until(so: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + servers.READY_WITHIN
    while not so():
        if time.monotonic() > ends:
            raise SystemExit(f"not within {servers.READY_WITHIN:g} s: {what}")
        time.sleep(0.05)


def program() -> str:
    found = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if found is None:
        raise SystemExit("nginx isn't installed; scripts/nginx does that")
    return found


def make_image(api: docker.APIClient) -> None:
    """An image of this machine's nginx, with the libraries that it needs."""
    listing = subprocess.run(["ldd", program()], capture_output=True, text=True, check=True).stdout
    libraries = [Path(each) for each in re.findall(r"(?:=>\s|^\s+)(/\S+) \(0x", listing, re.MULTILINE)]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for name, source in (("nginx", Path(program())), *((str(each).lstrip("/"), each) for each in libraries)):
            tar.add(source, name)
        for name, content in files():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
        for name in ("tmp", "dev", "var/lib/nginx", "var/log/nginx"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(entry)
    repository, _, tag = IMAGE.partition(":")
    api.import_image_from_data(out.getvalue(), repository=repository, tag=tag)


def files() -> Iterable[tuple[str, bytes]]:
    yield "nginx.conf", INSIDE.encode()
    yield "etc/passwd", b"root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n"
    yield "etc/group", b"root:x:0:\nnogroup:x:65534:\n"


if __name__ == "__main__":
    sys.exit(gateway())
