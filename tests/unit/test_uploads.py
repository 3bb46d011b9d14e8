"""Bodies that are large, slow or shorter than they say."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import falcon
import falcon.testing
import pytest

from runtime_server.errors import BadRequest, FileTooLarge
from runtime_server.runtimes.caller import Caller
from runtime_server.web import middleware, uploads
from runtime_server.web.context import ApiRequest
from runtime_server.web.uploads import Upload


def request(body: Any, length: int | None, **env: object) -> ApiRequest:
    headers = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    made = falcon.testing.create_environ(method="PUT", headers=headers)
    made.pop("CONTENT_LENGTH", None)
    if length is not None:
        made["CONTENT_LENGTH"] = str(length)
    return ApiRequest(made | {"wsgi.input": body, "wsgi.input_terminated": True, **env})


def test_with_a_length_and_without() -> None:
    for length in (7, None):
        with closing(Upload(request(io.BytesIO(b"content"), length), 7)) as upload, closing(upload.whole()) as whole:
            assert whole.length == 7
            assert b"".join(whole.chunks()) == b"content"


@pytest.mark.parametrize("length", [8, None])
def test_too_large(length: int | None) -> None:
    with pytest.raises(FileTooLarge), closing(Upload(request(io.BytesIO(b"contents"), length), 7)) as upload:
        upload.whole()


def test_shorter_than_it_says() -> None:
    with closing(Upload(request(io.BytesIO(b"con"), 7), 7)) as upload, pytest.raises(BadRequest, match="early"):
        list(upload.chunks())


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_who_sends_byte_by_byte_is_not_waited_for(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(uploads, "PIECE_SECONDS", 0.1)
    monkeypatch.setattr(uploads, "LOOK", 0.01)
    with trickling(theirs), ours.makefile("rb") as body:
        upload = Upload(request(body, 1_000_000, **{"gunicorn.socket": ours}), 1_000_000)
        with closing(upload), pytest.raises(BadRequest, match="slowly"):
            list(upload.chunks())
        ours.sendall(b"the answer")
        assert theirs.recv(100) == b"the answer"


@pytest.mark.parametrize("length", [1_000_000, None])
def test_what_is_sent_after_the_answer_is_not_waited_for(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(middleware, "UNREAD_SECONDS", 0.1)
    with trickling(theirs), ours.makefile("rb") as body:
        req = request(body, length, **{"gunicorn.socket": ours})
        req.context.caller = Caller("somebody")
        assert req.context.authenticated
        middleware.Unread().process_response(req, falcon.Response(), None, True)
        assert body.read(1_000_000) == b""
        ours.sendall(b"the answer")
        assert theirs.recv(100) == b"the answer"


@contextlib.contextmanager
def trickling(connection: socket.socket) -> Iterator[None]:
    """Bytes come one by one, without an end."""
    over = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(BrokenPipeError):
            while not over.wait(0.01):
                connection.send(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join(60)


def test_an_engine_that_takes_its_time_is_waited_for(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(uploads, "PIECE_SECONDS", 0.02)
    monkeypatch.setattr(uploads, "LOOK", 0.01)
    theirs.sendall(b"x" * 100)
    with (
        ours.makefile("rb", buffering=0) as body,
        closing(Upload(request(body, 100, **{"gunicorn.socket": ours}), 100)) as upload,
    ):
        assert upload.read(50) == b"x" * 50
        time.sleep(0.1)  # what the reader does with it
        assert upload.read(50) == b"x" * 50
    ends = time.monotonic() + 60
    while "upload-pace" in [each.name for each in threading.enumerate()]:
        assert time.monotonic() < ends, "a watch has not ended"
        time.sleep(0.01)
