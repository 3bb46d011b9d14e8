"""Requests to the engine on connections of their own, against a socket that answers by script."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker.errors
import pytest
from docker import APIClient

from runtime_server.engine.docker_streams import EngineConnection

DEADLINE = 30.0
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Engine:
    """Takes one connection, notes the request's head, and sends what it is told to."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self.path = path
        self.request = b""
        self.connection = socket.socket()
        self.accepted = threading.Event()

    def answer(self, *pieces: bytes, close: bool = True, pause: float = 0.0) -> threading.Thread:
        thread = threading.Thread(target=self._answer, args=(pieces, close, pause), daemon=True)
        thread.start()
        return thread

    def _answer(self, pieces: tuple[bytes, ...], close: bool, pause: float) -> None:
        self.connection.close()
        self.connection, _ = self._listener.accept()
        while b"\r\n\r\n" not in self.request:
            self.request += self.connection.recv(65536)
        for piece in pieces:
            self.connection.sendall(piece)
            time.sleep(pause)
        self.accepted.set()
        if close:
            self.connection.close()

    def close(self) -> None:
        self.connection.close()
        self._listener.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with contextlib.closing(Engine(tmp_path / "engine.sock")) as found:
        yield found


@pytest.fixture
def client(engine: Engine) -> Iterator[APIClient]:
    with contextlib.closing(APIClient(base_url=f"unix://{engine.path}", version="1.41")) as found:
        yield found


def opened(client: APIClient, **changes: object) -> EngineConnection:
    values: dict[str, object] = {"params": {"a": "b c"}, "timeout": DEADLINE, **changes}
    return EngineConnection(client, "POST", "/some/where", **values)  # type: ignore[arg-type]


def rest(connection: EngineConnection) -> bytes:
    found = b""
    while data := connection.receive(DEADLINE):
        found += data
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_in_pieces(engine: Engine, client: APIClient, size: int) -> None:
    answer = HEAD + b"3\r\none\r\n4\r\n two\r\n0\r\n\r\n"
    thread = engine.answer(*[answer[at : at + size] for at in range(0, len(answer), size)])
    with contextlib.closing(opened(client, body=b"{}")) as connection:
        assert rest(connection) == b"one two"
        assert connection.receive(0) == b""
    thread.join(DEADLINE)
    head = engine.request.split(b"\r\n")
    assert head[0] == b"POST /v1.41/some/where?a=b+c HTTP/1.1"
    assert b"Content-Length: 2" in head


def test_silence_and_an_answer_that_breaks_off(engine: Engine, client: APIClient) -> None:
    thread = engine.answer(HEAD + b"3\r\none\r\n", close=False)
    with contextlib.closing(opened(client)) as connection:
        assert connection.receive(DEADLINE) == b"one"
        assert connection.receive(0.05) is None
        thread.join(DEADLINE)
        engine.connection.close()
        with pytest.raises(ConnectionError):
            connection.receive(DEADLINE)


def test_an_error_is_docker_pys_own(engine: Engine, client: APIClient) -> None:
    body = b'{"message": "No such container: x"}'
    engine.answer(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n" + body)
    with pytest.raises(docker.errors.NotFound, match="No such container: x"):
        opened(client)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"\x01\x00\x00\x00 not HTTP at all \r\n\r\n"])
def test_no_answer_that_can_be_read(engine: Engine, client: APIClient, answer: bytes) -> None:
    engine.answer(answer)
    with pytest.raises(OSError):
        opened(client)


def test_an_engine_that_says_nothing(engine: Engine, client: APIClient) -> None:
    engine.answer(close=False)
    with pytest.raises(TimeoutError):
        opened(client, timeout=0.1)


def test_a_connection_that_is_taken_over_loses_no_byte(engine: Engine, client: APIClient) -> None:
    upgrade = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    engine.answer(upgrade + b"first ", b"second", close=False, pause=0.05)
    with contextlib.closing(opened(client, upgrade=True)) as connection:
        assert engine.accepted.wait(DEADLINE)
        found = b""
        while len(found) < 12:
            found += connection.receive(DEADLINE) or b""
        assert found == b"first second"
        sent = bytes(range(256)) * 8192
        connection.send(sent)
        connection.end_output()

        arrived: list[bytes] = []

        def read() -> None:
            while data := engine.connection.recv(65536):
                arrived.append(data)
            engine.connection.sendall(b"all")
            engine.connection.close()

        reader = threading.Thread(target=read)
        reader.start()
        # What is to be sent goes out while waiting, and its end is told to the other side.
        assert rest(connection) == b"all"
        reader.join(DEADLINE)
        assert b"".join(arrived) == sent
    assert b"Upgrade: tcp" in engine.request
