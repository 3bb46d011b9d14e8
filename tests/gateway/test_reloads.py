"""nginx and gunicorn are reloaded as an administrator does it, by SIGHUP, and nobody notices."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path

from runtime_server.models import StartResponse
from tests.gateway.conftest import DOMAIN, Gateway, eventually

CALLERS = 4


def children(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_reloads_under_load_fail_no_request(gateway: Gateway, runtime: StartResponse) -> None:
    over = threading.Event()
    found: Counter[str] = Counter()
    websocket = gateway.websocket(runtime)

    def call(number: int) -> None:
        while not over.is_set():
            try:
                if number:
                    found[f"runtime {gateway.call(runtime, headers={'Connection': 'close'}).status}"] += 1
                else:
                    found[f"api {gateway.request('GET', '/healthz', {'Host': DOMAIN}).status}"] += 1
            except OSError as error:
                found[repr(error)] += 1

    callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for each in callers:
        each.start()
    try:
        for name in ("nginx", "gunicorn", "nginx", "gunicorn"):
            process = gateway.processes[name]
            # nginx's helpers come and go by themselves.
            before, calls = children(process.pid), found.total()
            process.send_signal(signal.SIGHUP)
            eventually(lambda: len(children(process.pid) - before) >= 2, f"{name} has new workers")  # noqa: B023
            eventually(lambda: found.total() > calls + 20, "requests go on")  # noqa: B023
            assert websocket.echo(name) == name
        # Old workers of gunicorn end; nginx's stay for the WebSocket.
        eventually(lambda: len(children(gateway.processes["gunicorn"].pid)) == 2, "old workers have ended")
    finally:
        over.set()
        for each in callers:
            each.join()
    websocket.close()
    assert set(found) == {"runtime 200", "api 200"}, found
