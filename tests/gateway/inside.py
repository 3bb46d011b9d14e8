"""What runs in the container behind the gateway: a small HTTP server with nothing but the standard library.

Its source is handed over as the container's command, together with that of ``frames``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

if __name__ != "__main__":
    from tests.gateway.frames import CLOSE, accept_key, frame, lengths, masked

PORTS = (8000, 60000, 60001, 12000, 12001)
CHUNK = 65536
events: asyncio.Queue[str] = asyncio.Queue()
uploads: dict[str, int] = {}
idle_since = [time.time()]
calls = [0]


class Request:
    """A request's head."""

    def __init__(self, head: bytes, port: int) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]
        self.port = port

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    def query(self, name: str, default: str = "") -> str:
        return parse_qs(urlsplit(self.target).query).get(name, [default])[0]

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")


async def chunks(request: Request, reader: asyncio.StreamReader) -> Any:
    """The body, as it comes."""
    if "chunked" in request.header("Transfer-Encoding"):
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return
    left = int(request.header("Content-Length") or 0)
    while left:
        found = await reader.read(min(left, CHUNK))
        if not found:
            return
        left -= len(found)
        yield found


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, with one request."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        calls[0] += 1
        await answer(Request(head, writer.get_extra_info("sockname")[1]), reader, writer)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def send(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", **headers: str) -> None:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *lines])
    writer.write(f"{head}\r\n\r\n".encode() + body)


async def answer(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    own = ROUTES.get(request.path)
    if own is not None:
        await own(request, reader, writer)
        return
    digest, size = hashlib.sha256(), 0
    name = request.query("name")
    async for chunk in chunks(request, reader):
        digest.update(chunk)
        size += len(chunk)
        if name:
            uploads[name] = size
    seen = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "port": request.port,
        "size": size,
        "sha256": digest.hexdigest(),
    }
    headers = {"Access_Control_Allow_Origin": "https://app.example"} if request.header("Origin") else {}
    send(writer, json.dumps(seen).encode(), request.query("status", "200 OK"), **headers)


async def health(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    send(writer, b"fine")


async def uploaded(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    send(writer, str(uploads.get(request.query("name"), 0)).encode())


async def download(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    size = int(request.query("size"))
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
    block = bytes(range(256)) * 1024
    while size:
        writer.write(block[:size])
        size -= min(size, len(block))
        await writer.drain()


async def stream(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Server-sent events, each when ``/emit`` says so; without a length, so that the end is the connection's."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    while (text := await events.get()) != "end":
        writer.write(f"data: {text}\n\n".encode())
        await writer.drain()


async def emit(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    events.put_nowait(request.query("text"))
    send(writer, b"")


async def slow(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(float(request.query("seconds")))
    send(writer, b"at last")


async def server_info(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    send(writer, json.dumps({"uptime": 1, "idle_time": time.time() - idle_since[0]}).encode())


async def work(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say in ``/server_info`` that it is at work from now on, for so many seconds."""
    idle_since[0] = time.time() + float(request.query("seconds"))
    send(writer, b"")


async def counted(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    send(writer, str(calls[0]).encode())


async def astray(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer that would lead nginx to another place, or a browser to a cookie of everybody's."""
    send(writer, b"own", X_Accel_Redirect=request.query("to"), Set_Cookie="a=b; Path=/")


async def moved(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    send(writer, b"", "302 Found", Location=request.query("to"))


async def socket(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A WebSocket that echoes."""
    key = accept_key(request.header("Sec-WebSocket-Key"))
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{upgrade}Sec-WebSocket-Accept: {key}\r\n\r\n".encode())
    while True:
        head = await reader.readexactly(2)
        opcode, more, is_masked = lengths(head)
        size = int.from_bytes(await reader.readexactly(more), "big") if more else head[1] & 0x7F
        mask = await reader.readexactly(4) if is_masked else b""
        payload = await reader.readexactly(size)
        writer.write(frame(masked(payload, mask) if mask else payload, opcode=opcode))
        await writer.drain()
        if opcode == CLOSE:
            return


ROUTES = {
    "/health": health,
    "/uploaded": uploaded,
    "/download": download,
    "/events": stream,
    "/emit": emit,
    "/slow": slow,
    "/server_info": server_info,
    "/work": work,
    "/calls": counted,
    "/astray": astray,
    "/moved": moved,
    "/ws": socket,
}


async def main() -> None:
    for port in PORTS:
        await asyncio.start_server(serve, "0.0.0.0", port, limit=2**20)
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    asyncio.run(main())
