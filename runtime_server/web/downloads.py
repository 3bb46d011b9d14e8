"""Answers that are bytes, as they come, and whole or visibly not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.utils import format_datetime

import falcon
import structlog

from runtime_server.errors import Problem
from runtime_server.runtimes.files import Download, moment
from runtime_server.web.answers import NO_STORE
from runtime_server.web.context import ApiRequest
from runtime_server.web.peers import Peer
from runtime_server.web.streaming import Streams

log = structlog.get_logger("runtime_server.web")


class DownloadBody:
    """A download as a body. Where it breaks off, so does the connection: bytes can't say that some are missing.

    Args:
        req: the request.
        download: what is sent.
        place: in the streams' lane; entered by now, left at the end.
        heartbeat: seconds, as for ``Peer.watch``.
    """

    def __init__(
        self, req: ApiRequest, download: Download, place: AbstractContextManager[object], heartbeat: float
    ) -> None:
        self._request_id = req.context.request_id
        self._download = download
        self._place = place
        self._peer = Peer(req.env)
        self._peer.watch(heartbeat)
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._download.chunks)
        except StopIteration:
            raise
        except Exception as error:
            detail = error.detail if isinstance(error, Problem) else type(error).__name__
            log.warning("a download broke off", request_id=self._request_id, detail=detail)
            if not self._peer.cut():
                raise
            raise StopIteration from error

    def close(self) -> None:
        """Give everything back."""
        if not self._closed:
            self._closed = True
            try:
                self._download.archive.close()
            finally:
                self._place.__exit__(None, None, None)


def send(
    req: ApiRequest, resp: falcon.Response, streams: Streams, open_download: Callable[[], Download], media_type: str
) -> None:
    """Answer with a download, within a place of the streams' lane.

    Args:
        req: the request.
        resp: gets it.
        streams: what all streams share.
        open_download: opens it; its problems are ordinary answers.
        media_type: of the answer.

    Raises:
        TooManyStreams: all places are taken.
    """
    place = streams.lane.place()
    place.__enter__()
    try:
        download = open_download()
    except BaseException:
        place.__exit__(None, None, None)
        raise
    body = DownloadBody(req, download, place, streams.heartbeat)
    try:
        resp.content_type = media_type
        resp.set_headers(NO_STORE)
        resp.set_headers(_facts(download))
        resp.stream = body
        if req.method == "HEAD":
            body.close()  # Falcon drops it
    except BaseException:
        body.close()
        raise


def _facts(download: Download) -> dict[str, str]:
    if download.size is None:
        return {}
    entry = download.entry
    found = {"Content-Length": str(download.size), "X-File-Mode": f"{entry.mode:04o}"}
    if entry.ids is not None:
        found["X-File-Owner"] = f"{entry.ids[0]}:{entry.ids[1]}"
    # What is inside can give its files any time, also one that no date stands for.
    if (changed := moment(entry.mtime)) is not None:
        found["Last-Modified"] = format_datetime(changed, usegmt=True)
    return found
