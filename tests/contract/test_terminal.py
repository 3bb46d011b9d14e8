"""Terminals through the client, on the whole service in memory and a server that hands connections over."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, Request, TextMessage

from runtime_server import (
    CommandNotFound,
    InvalidState,
    PolicyRefused,
    Problem,
    RuntimeNotFound,
    RuntimeServerClient,
    ServerUnreachable,
    TerminalUnavailable,
    TooManyStreams,
    Unauthorized,
    UpgradeRequired,
)
from runtime_server.client.terminal import Terminal
from runtime_server.client.transport import Call
from runtime_server.engine.memory_commands import MemoryExec
from runtime_server.engine.memory_images import NOT_FOUND
from runtime_server.testing import InMemoryServer, in_memory_server
from tests.contract.handover import Handover, handing_over

DEADLINE = 60.0


class Site:
    """A server whose hearts beat fast, with places for two terminals."""

    def __init__(self, server: InMemoryServer, front: Handover) -> None:
        self.server = server
        self.front = front
        self.client = RuntimeServerClient(front.url, api_key=server.api_key)
        self.quiet = server.client()
        self.runtime = self.quiet.start_runtime(image="busybox").runtime_id

    def commands(self) -> list[MemoryExec]:
        return [
            each
            for each in self.server.engine._world.execs.values()
            if each.container.spec.runtime_id == self.runtime
        ]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[InMemoryServer, Handover]]:
    with (
        in_memory_server(streams=2, heartbeat=0.2, origins="https://good.example") as server,
        handing_over(server.app) as front,
    ):
        yield server, front


@pytest.fixture(autouse=True)
def _short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime_server.web.websocket.LINGER", 0.2)


@pytest.fixture
def site(shared: tuple[InMemoryServer, Handover]) -> Iterator[Site]:
    made = Site(*shared)
    yield made
    made.client.close()
    made.quiet.remove_runtime(made.runtime)


def until(so: Callable[[], Any]) -> Any:
    ends = time.monotonic() + DEADLINE
    while not (found := so()):
        assert time.monotonic() < ends
        time.sleep(0.01)
    return found


def shown(terminal: Terminal, until_: bytes) -> bytes:
    found = b""
    while until_ not in found:
        piece = terminal.receive(DEADLINE)
        assert piece
        found += piece
    return found


def test_what_is_typed_is_shown_until_the_command_ends(site: Site) -> None:
    with site.client.terminal(site.runtime, "cat", user="app", working_dir="/tmp", rows=24, columns=80) as terminal:
        # In memory a shell writes back what it gets.
        terminal.send(b"hello")
        assert shown(terminal, b"hello") == b"hello"
        terminal.send(b"\xff\x00" * 50_000)
        received = b""
        while len(received) < 100_000:
            received += terminal.receive(DEADLINE) or b""
        assert received == b"\xff\x00" * 50_000
        (command,) = site.commands()
        assert (command.spec.tty, command.spec.user, command.spec.working_dir) == (True, "app", "/tmp")
        assert command.spec.command == ("/bin/sh", "-c", "cat")
        assert command.spec.environment["TERM"]
        assert command.size == (24, 80)
        terminal.resize(50, 132)
        until(lambda: command.size == (50, 132))
        assert terminal.receive(0.01) is None
        site.server.engine.stop(site.runtime, 0)
        assert terminal.receive(DEADLINE) == b""
        assert terminal.exit_code == 137
        assert terminal.receive(0) == b""
        with pytest.raises(ServerUnreachable):
            terminal.send(b"late")


def test_a_command_that_ends_by_itself(site: Site) -> None:
    with site.client.terminal(site.runtime, "echo bye; exit 7") as terminal:
        assert shown(terminal, b"bye\n") == b"bye\n"
        assert terminal.receive(DEADLINE) == b""
        assert terminal.exit_code == 7


def test_a_shell_where_nothing_is_named(site: Site) -> None:
    with site.client.terminal(site.runtime):
        (command,) = site.commands()
        assert command.spec.command[0] == "/bin/sh"
        assert "bash" in command.spec.command[2]
        assert command.size is None


def test_a_command_that_cannot_be_started(site: Site) -> None:
    programs = {"/bin/sh": NOT_FOUND}
    site.server.engine.add_image("without-shell", programs=programs)
    runtime = site.quiet.start_runtime(image="without-shell", command="run").runtime_id
    with site.client.terminal(runtime, "x") as terminal, pytest.raises(CommandNotFound):
        terminal.receive(DEADLINE)


def test_leaving_ends_the_command_and_frees_the_place(site: Site) -> None:
    before = site.front.ended
    terminals = [site.client.terminal(site.runtime) for _ in range(2)]
    with pytest.raises(TooManyStreams):
        site.client.terminal(site.runtime)
    for terminal in terminals:
        terminal.close()
        terminal.close()
    until(lambda: site.front.ended == before + 3)
    assert [each.code for each in site.commands()] == [137, 137]
    site.client.terminal(site.runtime).close()


@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_that_is_lost_ends_the_command(site: Site, reset: bool) -> None:
    terminal = site.client.terminal(site.runtime)
    if reset:
        terminal._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    terminal._socket.close()
    until(lambda: [each.code for each in site.commands()] == [137])


def test_who_answers_no_ping_is_gone(site: Site) -> None:
    terminal = site.client.terminal(site.runtime)  # and never read again
    until(lambda: [each.code for each in site.commands()] == [137])
    with contextlib.suppress(ServerUnreachable):
        while terminal.receive(DEADLINE):
            pass
    terminal.close()


def test_who_answers_pings_stays(site: Site) -> None:
    with site.client.terminal(site.runtime) as terminal:
        ends = time.monotonic() + 1.0  # longer than silence is borne
        while time.monotonic() < ends:
            assert terminal.receive(0.1) is None
        terminal.send(b"x")
        assert terminal.receive(DEADLINE) == b"x"
        assert select.select([terminal], [], [], 0)[0] in ([], [terminal])


def test_a_paused_or_missing_runtime_has_no_terminal(site: Site) -> None:
    site.quiet.pause_runtime(site.runtime)
    with pytest.raises(InvalidState, match="paused"):
        site.client.terminal(site.runtime)
    site.quiet.resume_runtime(site.runtime)
    with pytest.raises(RuntimeNotFound):
        site.client.terminal("nobody")


def test_a_pause_meanwhile_freezes_it(site: Site) -> None:
    with site.client.terminal(site.runtime) as terminal:
        site.quiet.pause_runtime(site.runtime)
        terminal.send(b"x")
        assert terminal.receive(0.1) is None
        site.quiet.resume_runtime(site.runtime)
        assert terminal.receive(DEADLINE) == b"x"


class Raw:
    """A handshake and messages by hand."""

    def __init__(self, site: Site, path: str, **headers: str) -> None:
        host, _, port = site.front.url.rpartition("/")[2].partition(":")
        self.socket = socket.create_connection((host, int(port)), DEADLINE)
        self.protocol = WSConnection(ConnectionType.CLIENT)
        extra = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.events: list[Event] = []
        self.send(Request(host=f"{host}:{port}", target=path, extra_headers=extra))

    def send(self, event: Event) -> None:
        self.socket.sendall(self.protocol.send(event))

    def wait(self, kind: type[Event]) -> Any:
        ends = time.monotonic() + DEADLINE
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            assert time.monotonic() < ends
            data = self.socket.recv(65536)
            self.protocol.receive_data(data or None)
            self.events += self.protocol.events()

    def close(self) -> None:
        self.socket.close()


def test_a_ticket_opens_one_terminal_in_one_runtime(site: Site) -> None:
    ticket = site.client.make_terminal_ticket(site.runtime)
    path = f"/runtimes/{site.runtime}/terminal"
    assert 20 < (ticket.expires_at.timestamp() - time.time()) <= 30
    with contextlib.closing(Raw(site, f"{path}?ticket={ticket.ticket}", Origin=site.front.url)) as raw:
        raw.wait(AcceptConnection)
        raw.send(Ping(payload=b"are you there"))
        assert raw.wait(Pong).payload == b"are you there"
        for message in ("nonsense", "[]", '{"resize": {"rows": 0, "columns": 1}}', '{"resize": 7}', "{" * 9999):
            raw.send(TextMessage(data=message))
        raw.send(TextMessage(data='{"resize": {"rows": 5,', message_finished=False))
        raw.send(TextMessage(data=' "columns": 6}}'))
        until(lambda: site.commands()[-1].size == (5, 6))
        raw.send(CloseConnection(code=1000))
        assert raw.wait(CloseConnection).code == 1000
    for wrong in (ticket.ticket, "made-up", "x" * 1000):
        answer = requests.get(site.front.url + path, params={"ticket": wrong}, headers=HANDSHAKE, timeout=DEADLINE)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    other = site.quiet.start_runtime(image="busybox").runtime_id
    for_other = site.client.make_terminal_ticket(other).ticket
    answer = requests.get(site.front.url + path, params={"ticket": for_other}, headers=HANDSHAKE, timeout=DEADLINE)
    assert answer.status_code == 401
    with pytest.raises(RuntimeNotFound):
        site.client.make_terminal_ticket("nobody")


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_a_ticket_that_is_too_old(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime_server.runtimes.terminals.VALID", -1)
    ticket = site.client.make_terminal_ticket(site.runtime).ticket
    with pytest.raises(Unauthorized):
        _handshake(site, f"?ticket={ticket}")


def _handshake(site: Site, query: str = "", **headers: str) -> Any:
    """A terminal's handshake, with a key unless the query has a ticket; its problem is raised."""
    given = {**HANDSHAKE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    given |= {} if "ticket" in query else {"X-API-Key": site.server.api_key}
    url = f"{site.front.url}/runtimes/{site.runtime}/terminal{query}"
    answer = requests.get(url, headers=given, timeout=DEADLINE)
    raise Problem.from_body(answer.json(), status=answer.status_code)


@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Version": ""},
        {"Sec_WebSocket_Key": ""},
        {"Upgrade": ""},
    ],
)
def test_what_is_no_handshake(site: Site, headers: dict[str, str]) -> None:
    with pytest.raises(UpgradeRequired):
        _handshake(site, **headers)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "", "http://[::1"])
def test_pages_of_others_open_none(site: Site, origin: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        _handshake(site, Origin=origin or "http://")
    assert caught.value.extensions == {"setting": "RUNTIME_SERVER_ORIGINS"}
    assert site.commands() == []


@pytest.mark.parametrize("origin", ["https://good.example", "HTTPS://GOOD.example", None])
def test_pages_of_allowed_origins_do(site: Site, origin: str | None) -> None:
    headers = {"X_API_Key": site.server.api_key} | ({} if origin is None else {"Origin": origin})
    raw = Raw(site, f"/runtimes/{site.runtime}/terminal", **headers)
    raw.wait(AcceptConnection)
    raw.close()


def test_a_server_that_hands_nothing_over(site: Site) -> None:
    with pytest.raises(UpgradeRequired):
        site.quiet._transport.send(Call("GET", f"/runtimes/{site.runtime}/terminal"))
    answer = site.quiet._transport.session.get(
        f"{site.quiet.base_url}/runtimes/{site.runtime}/terminal",
        headers={**HANDSHAKE, "X-API-Key": site.server.api_key},
    )
    assert (answer.status_code, answer.json()["code"]) == (501, "terminal-unavailable")
    assert json.loads(answer.content)["retryable"] is False
    assert TerminalUnavailable.status == 501


def test_broken_frames_end_it(site: Site) -> None:
    raw = Raw(site, f"/runtimes/{site.runtime}/terminal", X_API_Key=site.server.api_key)
    raw.wait(AcceptConnection)
    raw.socket.sendall(b"\xff" * 100)
    assert raw.wait(CloseConnection).code == 1002
    until(lambda: [each.code for each in site.commands()] == [137])
    raw.close()
