"""Downloads as bodies: what they hold they give back, and one that breaks off is seen to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import falcon
import falcon.testing
import pytest

from runtime_server.engine.files import FileEntry, FileKind
from runtime_server.errors import EngineUnreachable, TooManyStreams
from runtime_server.runtimes.files import Download
from runtime_server.runtimes.waits import SlowLane
from runtime_server.web import downloads
from runtime_server.web.context import ApiRequest
from runtime_server.web.downloads import DownloadBody
from runtime_server.web.streaming import Streams


class Archive:
    closed = 0

    def read(self, _size: int) -> bytes:
        return b""

    def close(self) -> None:
        self.closed += 1


class Case:
    """A place, a connection and a download."""

    def __init__(self, method: str = "GET", *pieces: bytes | Exception, mtime: float = 0.0) -> None:
        self.streams = Streams(SlowLane(1, TooManyStreams), heartbeat=5)
        self.ours, self.theirs = socket.socketpair()
        environ = falcon.testing.create_environ(method=method)
        self.req = ApiRequest(environ | {"gunicorn.socket": self.ours})
        self.req.context.request_id = "one"
        self.resp = falcon.Response()
        self.archive = Archive()
        what = FileEntry("a", FileKind.FILE, mode=0o640, mtime=mtime, ids=(1, 2))
        self.download = Download(self._pieces(pieces), self.archive, what, 7)

    @staticmethod
    def _pieces(pieces: tuple[bytes | Exception, ...]) -> Iterator[bytes]:
        for each in pieces:
            if isinstance(each, Exception):
                raise each
            yield each

    def send(self) -> None:
        downloads.send(self.req, self.resp, self.streams, lambda: self.download, "text/plain")

    @property
    def body(self) -> DownloadBody:
        assert isinstance(self.resp.stream, DownloadBody)
        return self.resp.stream

    @property
    def free(self) -> bool:
        try:
            with self.streams.lane.place():
                return True
        except TooManyStreams:
            return False


@contextmanager
def case(*pieces: bytes | Exception, method: str = "GET", mtime: float = 0.0) -> Iterator[Case]:
    made = Case(method, *pieces, mtime=mtime)
    with made.ours, made.theirs:
        yield made


def test_a_place_is_held_until_it_is_closed() -> None:
    with case(b"con", b"tent", mtime=1_700_000_000.0) as it:
        it.send()
        assert it.resp.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert (it.resp.headers["x-file-mode"], it.resp.headers["x-file-owner"]) == ("0640", "1:2")
        assert not it.free
        # Whoever takes nothing is not waited for without an end.
        assert it.ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)[0] > 0
        body = it.body
        assert b"".join(body) == b"content"
        for _ in range(2):
            body.close()
        assert (it.free, it.archive.closed) == (True, 1)


def test_a_time_that_no_date_stands_for() -> None:
    with case(b"content", mtime=1e300) as it:
        it.send()
        assert "last-modified" not in it.resp.headers


def test_a_head_holds_nothing() -> None:
    with case(b"content", method="HEAD") as it:
        it.send()
        assert (it.free, it.archive.closed, it.resp.headers["content-length"]) == (True, 1, "7")


def test_what_is_refused_holds_nothing() -> None:
    with case() as it:
        with pytest.raises(EngineUnreachable):
            downloads.send(it.req, it.resp, it.streams, _fail, "text/plain")
        assert it.free


def _fail() -> Download:
    raise EngineUnreachable()


def test_what_breaks_off_breaks_the_connection_off() -> None:
    with case(b"con", EngineUnreachable()) as it:
        it.send()
        assert b"".join(it.body) == b"con"
        assert it.theirs.recv(10) == b""
        it.body.close()
        assert it.free
