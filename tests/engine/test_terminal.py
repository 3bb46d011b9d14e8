"""Terminals on a real engine, through a real gunicorn."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests
from docker import APIClient

from runtime_server import InvalidState, RuntimeServerClient, UserUnknown
from runtime_server.client.terminal import Terminal
from tests.engine.images import BUSYBOX
from tests.faults.server import DEADLINE, Server, Site, eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Server]:
    site = Site(tmp_path_factory.mktemp("terminals"), docker_client)
    try:
        yield site.start(workers=1, env={"RUNTIME_SERVER_STREAMS": "4", "RUNTIME_SERVER_HEARTBEAT": "1"})
    finally:
        site.close()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[RuntimeServerClient]:
    with server.client() as found:
        yield found


@pytest.fixture(scope="module")
def runtime(client: RuntimeServerClient) -> str:
    return client.start_runtime(image=BUSYBOX, command=["/bin/sleep", "1000"], network="none").runtime_id


def shown(terminal: Terminal, until: str) -> str:
    found, ends = "", time.monotonic() + DEADLINE
    while until not in found:
        assert time.monotonic() < ends, f"only {found!r} was shown"
        found += (terminal.receive(1) or b"").decode()
    return found


def running(server: Server, runtime: str, word: str) -> list[list[str]]:
    listed = server.site.docker.top(runtime, ps_args="-eo pid,args")["Processes"]
    return [each for each in listed if word in " ".join(each)]


def test_an_interactive_shell(server: Server, client: RuntimeServerClient, runtime: str) -> None:
    with client.terminal(runtime, rows=30, columns=100) as terminal:
        terminal.send(b"echo $((6*7)) $TERM\n")
        assert "42 xterm-256color" in shown(terminal, "42 xterm")
        terminal.send(b"busybox stty size\n")
        assert "30 100" in shown(terminal, "30 100")
        terminal.resize(40, 132)
        terminal.send(b"busybox stty size\n")  # messages are acted upon in their order
        assert "40 132" in shown(terminal, "40 132")
        terminal.send(b"sleep 4321\n")
        eventually(lambda: running(server, runtime, "sleep 4321"), "it runs in the foreground")
        terminal.send(b"\x03echo after\n")
        shown(terminal, "after\r\n")
        terminal.send(b"exit 3\n")
        while terminal.receive(DEADLINE):
            pass
        assert terminal.exit_code == 3


def test_a_user_that_does_not_exist(client: RuntimeServerClient, runtime: str) -> None:
    """And a size that nothing can be given, for which Docker would wait 10 s."""
    terminal = client.terminal(runtime, user="nosuch", rows=30, columns=100)
    with terminal, pytest.raises(UserUnknown):
        terminal.receive(DEADLINE)


def test_much_in_both_directions(client: RuntimeServerClient, runtime: str) -> None:
    with client.terminal(
        runtime, "busybox stty raw -echo; echo go; busybox head -c 500000 | busybox wc -c"
    ) as terminal:
        shown(terminal, "go")
        for _ in range(50):
            terminal.send(b"x" * 10_000)
        assert "500000" in shown(terminal, "500000")
    with client.terminal(
        runtime, "busybox head -c 3000000 /dev/zero | busybox tr '\\0' y; echo; echo done"
    ) as terminal:
        assert shown(terminal, "done").count("y") == 3_000_000


def test_it_outlives_silence(client: RuntimeServerClient, runtime: str) -> None:
    with client.terminal(runtime) as terminal:
        ends = time.monotonic() + 4  # heartbeats, which only this side's answers keep from being the last
        while time.monotonic() < ends:
            terminal.receive(0.5)
        terminal.send(b"echo still\n")
        shown(terminal, "still\r\n")


@pytest.mark.parametrize("politely", [True, False])
def test_leaving_ends_all_that_was_started(
    server: Server, client: RuntimeServerClient, runtime: str, politely: bool
) -> None:
    for _ in range(5):  # more than there are places, one after the other
        terminal = client.terminal(runtime, "busybox setsid sleep 4321 & trap '' HUP; sleep 4321")
        eventually(lambda: len(running(server, runtime, "4321")) >= 2, "it runs")
        if politely:
            terminal.close()
        else:
            terminal._socket.close()
        eventually(lambda: not running(server, runtime, "4321"), "it is ended")


def test_paused(client: RuntimeServerClient, runtime: str) -> None:
    client.pause_runtime(runtime)
    with pytest.raises(InvalidState, match="paused"):
        client.terminal(runtime)
    client.resume_runtime(runtime)


def test_a_runtime_that_is_removed_meanwhile(server: Server, client: RuntimeServerClient) -> None:
    other = client.start_runtime(image=BUSYBOX, command=["/bin/sleep", "1000"], network="none").runtime_id
    with client.terminal(other) as terminal:
        terminal.send(b"echo here\n")
        shown(terminal, "here\r\n")
        client.stop_runtime(other, timeout=0, remove=True)
        while terminal.receive(DEADLINE):
            pass
        assert terminal.exit_code in (None, 137)
    assert "Traceback" not in server.log


def test_the_connection_is_not_used_again(server: Server, client: RuntimeServerClient, runtime: str) -> None:
    """And other requests on the same worker are as ever."""
    terminal = client.terminal(runtime, "exit 0")
    while terminal.receive(DEADLINE):
        pass
    assert terminal._socket.recv(10) == b""
    terminal.close()
    for _ in range(20):
        assert requests.get(f"{server.base_url}/healthz", timeout=DEADLINE).json() == {"status": "ok"}
    lines = [line for line in server.log.splitlines() if '"path": "/runtimes/' in line and "/terminal" in line]
    assert any('"status": 101' in line for line in lines)
    assert "Traceback" not in server.log


def test_sigterm_closes_terminals(server: Server, client: RuntimeServerClient, runtime: str) -> None:
    """The last one here."""
    terminal = client.terminal(runtime, "sleep 4321")
    eventually(lambda: running(server, runtime, "4321"), "it runs")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 55
    assert terminal.receive(DEADLINE) == b""
    assert terminal.exit_code is None
    terminal.close()
    assert running(server, runtime, "4321") == []
