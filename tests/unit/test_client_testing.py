"""The requests adapter onto a WSGI app."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
import requests

from runtime_server.testing import WsgiAdapter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def mounted(session: requests.Session, app: WSGIApplication) -> None:
    session.mount("http://testserver", WsgiAdapter(app))


class Chunks:
    """An app's iterable that notes how far it was read and that it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.left = list(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            yield self.left.pop(0)

    def close(self) -> None:
        self.closed += 1


def answer(chunks: Iterable[bytes], seen: dict[str, Any] | None = None) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if seen is not None:
            seen.update(environ, body=environ["wsgi.input"].read())
        start_response("207 Several", [("Content-Type", "text/plain"), ("X-A", "1"), ("X-A", "2")])
        return chunks

    return app


def test_status_headers_and_body(session: requests.Session) -> None:
    chunks, seen = Chunks(b"", b"one ", b"", b"two"), dict[str, Any]()
    mounted(session, answer(chunks, seen))
    response = session.post("http://testserver:81/a%20b/%C3%A4?q=1&r=a%20b", data=b"sent", headers={"X-Key": "k"})
    assert (response.status_code, response.reason, response.text) == (207, "Several", "one two")
    assert response.headers["x-a"] == "1, 2"
    assert chunks.closed == 1
    wanted = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/Ã¤",
        "QUERY_STRING": "q=1&r=a%20b",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "81",
        "HTTP_HOST": "testserver:81",
        "HTTP_X_KEY": "k",
        "CONTENT_LENGTH": "4",
        "wsgi.url_scheme": "http",
        "body": b"sent",
    }
    assert {name: seen[name] for name in wanted} == wanted
    assert "HTTP_CONTENT_LENGTH" not in seen


def test_a_stream_is_read_as_it_is_asked_for_and_closed_when_left(session: requests.Session) -> None:
    chunks = Chunks(b"a" * 10, b"b" * 10, b"c" * 10)
    mounted(session, answer(chunks))
    with session.get("http://testserver/", stream=True) as response:
        assert response.raw.read(10) == b"a" * 10
        assert chunks.left != []
        assert chunks.closed == 0
    assert chunks.closed == 1


@pytest.mark.parametrize("body", ["text", b"text", io.BytesIO(b"text"), io.StringIO("text"), iter([b"te", b"xt"])])
def test_bodies_of_every_kind(session: requests.Session, body: Any) -> None:
    seen: dict[str, Any] = {}
    mounted(session, answer([], seen))
    session.post("http://testserver/", data=body)
    assert (seen["body"], seen["CONTENT_LENGTH"]) == (b"text", "4")
    assert "HTTP_TRANSFER_ENCODING" not in seen


def test_head_has_no_body_and_closes(session: requests.Session) -> None:
    chunks = Chunks(b"body")
    mounted(session, answer(chunks))
    assert session.head("http://testserver/").content == b""
    assert chunks.closed == 1


def test_write_and_a_second_start_response(session: requests.Session) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            raise ValueError
        except ValueError:
            write = start_response("500 Oops", [("X-B", "b")], sys.exc_info())
        write(b"written, ")
        return [b"returned"]

    mounted(session, app)
    response = session.get("http://testserver/")
    assert (response.status_code, response.text, response.headers["X-B"]) == (500, "written, returned", "b")


def test_an_app_that_starts_late_or_never(session: requests.Session) -> None:
    def late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"late"

    mounted(session, late)
    assert session.get("http://testserver/").text == "late"
    mounted(session, lambda environ, start_response: [b"never"])
    with pytest.raises(AssertionError, match="start_response"):
        session.get("http://testserver/")


def test_what_the_app_raises_comes_out_and_its_iterable_is_closed(session: requests.Session) -> None:
    class Broken(Chunks):
        def __iter__(self) -> Iterator[bytes]:
            raise ZeroDivisionError

    chunks = Broken()
    mounted(session, answer(chunks))
    with pytest.raises(ZeroDivisionError):
        session.get("http://testserver/")
    assert chunks.closed == 1


def test_a_body_shorter_than_it_says_is_an_error(session: requests.Session) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        return [b"half"]

    mounted(session, app)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.get("http://testserver/")


def test_it_is_a_server_by_the_standards_own_check(session: requests.Session) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    mounted(session, validator(app))
    assert session.post("http://testserver/echo", data=b"hello").content == b"hello"
    assert session.get("http://testserver/").content == b""
