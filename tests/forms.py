"""Multipart forms, as HTTP clients send them."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from urllib3.filepost import encode_multipart_formdata

from runtime_server.web.operation import Operation

Fields = Sequence[tuple[str, Any]]


def archive(files: Mapping[str, str] | None = None, *, packed: bool = True) -> bytes:
    """A gzipped tar of these files, by default of a Dockerfile; the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in (files or {"Dockerfile": "FROM busybox\n"}).items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue(), mtime=0) if packed else out.getvalue()


def form(fields: Fields, *, boundary: str | None = None) -> dict[str, Any]:
    """A request's body and headers, for Falcon's test client."""
    body, content_type = encode_multipart_formdata(list(fields), boundary)
    return {"body": body, "headers": {"Content-Type": content_type}}


def build_form(
    image: str, *tags: str, files: Mapping[str, str] | None = None, boundary: str | None = None
) -> dict[str, Any]:
    """A build as OpenHands' RemoteRuntimeBuilder sends it."""
    text = base64.b64encode(archive(files)).decode()
    fields = [("context", ("context.tar.gz", text)), ("target_image", image), *(("tags", tag) for tag in tags)]
    return form(fields, boundary=boundary)


def sent(operation: Operation) -> dict[str, Any]:
    """The operation's own example, as a request."""
    if operation.form and operation.example is not None:
        return build_form(str(operation.example["target_image"]))
    if operation.body:
        return {"body": b"hello\n", "headers": {"Content-Type": operation.body[0]}}
    return {"json": operation.example}
