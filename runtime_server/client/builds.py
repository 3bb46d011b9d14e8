"""The client's calls for image builds and look-ups."""

from __future__ import annotations

import base64
import gzip
import os
import tarfile
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from urllib3.filepost import encode_multipart_formdata

from runtime_server.client.replies import parse
from runtime_server.client.transport import Call, Transport
from runtime_server.errors import BuildFailed, BuildNotFound, DeadlineExceeded
from runtime_server.models import BuildAccepted, BuildState, BuildStatus, ImageExists, RegistryPrefix

UPLOAD = 300.0
"""Seconds that sending and checking a context may take, beyond what any call may."""

_GZIP = b"\x1f\x8b"
_SPOOLED = 16 * 1_048_576


class BuildCalls:
    """The part of ``RuntimeServerClient`` that is about images."""

    _transport: Transport

    def build_image(
        self,
        context: str | os.PathLike[str] | bytes,
        target_image: str,
        tags: Iterable[str] = (),
        *,
        idempotency_key: str | None = None,
    ) -> BuildAccepted:
        """Have an image built (``POST /build``); ``wait_for_build`` waits for it.

        Args:
            context: a folder with a ``Dockerfile``, a tar or gzipped tar of one, or such a tar's bytes. It is in
                memory meanwhile, since it may have to be sent again. A ``.dockerignore`` isn't heeded.
            target_image: the image's name, below ``registry_prefix()``.
            tags: further names.
            idempotency_key: as for ``start_runtime``.

        Raises:
            OSError: the context can't be read.
            BuildContextInvalid: it has no Dockerfile, leads out of itself, or is too large unpacked.
            PolicyRefused: no builds here, or not under these names; ``setting`` rules it.
            TooManyBuilds: too many are waiting, for longer than the client repeats the call.
        """
        fields: list[tuple[str, str | tuple[str, str]]] = [
            ("context", ("context.tar.gz", base64.b64encode(_archive(context)).decode("ascii"))),
            ("target_image", target_image),
            *(("tags", tag) for tag in tags),
        ]
        body, content_type = encode_multipart_formdata(fields)
        key = idempotency_key or uuid.uuid4().hex
        call = Call("POST", "/build", body=body, content_type=content_type, key=key, patience=UPLOAD)
        return parse(BuildAccepted, self._transport.send(call))

    def build_status(self, build_id: str) -> BuildStatus:
        """How far a build is (``GET /build_status``)."""
        call = Call("GET", "/build_status", query=(("build_id", build_id),))
        return parse(BuildStatus, self._transport.send(call))

    def wait_for_build(self, build_id: str, timeout: float = 1800.0) -> BuildStatus:
        """Wait until there is an image.

        Args:
            build_id: of ``build_image``.
            timeout: seconds.

        Raises:
            BuildFailed: the build ended without an image.
            DeadlineExceeded: it hasn't ended.
        """
        policy = self._transport.policy
        ends, pause = policy.clock() + timeout, 0.1
        while True:
            found = self.build_status(build_id)
            if found.status is BuildState.SUCCESS:
                return found
            if found.status.final:
                failure = BuildFailed(found.error or f"{build_id} is {found.status}")
                failure.build_id, failure.status = build_id, str(found.status)
                raise failure
            left = ends - policy.clock()
            if left <= 0:
                raise DeadlineExceeded(f"{build_id} is {found.status} after {timeout:g} s")
            policy.sleep(min(pause, left))
            pause = min(2.0, pause * 1.5)

    def build_log(self, build_id: str) -> str:
        """What a build has written so far (``GET /builds/{id}/log``)."""
        reply = self._transport.send(Call("GET", _path(build_id) + "/log"))
        return reply.body.decode("utf-8", "replace")

    def cancel_build(self, build_id: str, *, idempotency_key: str | None = None) -> BuildStatus:
        """End a build; one that has ended stays as it is (``DELETE /builds/{id}``)."""
        call = Call("DELETE", _path(build_id), key=idempotency_key or uuid.uuid4().hex)
        return parse(BuildStatus, self._transport.send(call))

    def registry_prefix(self) -> str:
        """What the names of built images begin with (``GET /registry_prefix``); a slash follows.

        Raises:
            PolicyRefused: no images are built there.
        """
        return parse(RegistryPrefix, self._transport.send(Call("GET", "/registry_prefix"))).registry_prefix

    def image_exists(self, image: str) -> ImageExists:
        """Whether the server's engine has an image (``GET /image_exists``); the answer is true where it does."""
        return parse(ImageExists, self._transport.send(Call("GET", "/image_exists", query=(("image", image),))))


def _path(build_id: str) -> str:
    # As a path segment these would name another route (RFC 3986, section 5.2.4).
    if build_id in ("", ".", ".."):
        raise BuildNotFound(f"no build has the id {build_id!r}")
    return "/builds/" + quote(build_id, safe="")


def _archive(context: str | os.PathLike[str] | bytes) -> bytes:
    """The context as a gzipped tar."""
    if not isinstance(context, bytes):
        path = Path(context)
        context = _packed(path) if path.is_dir() else path.read_bytes()
    if context.startswith(_GZIP):
        return context
    return gzip.compress(context, compresslevel=6)


def _packed(folder: Path) -> bytes:
    """The folder's files under relative names, without who owns them here."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED) as file:
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            tar.add(folder, arcname=".", filter=_nobodys)
        file.seek(0)
        return file.read()


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
