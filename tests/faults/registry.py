"""A registry on loopback (Debian's ``docker-registry``), behind a gate that lets through so many bytes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
from pathlib import Path

import requests
from docker import APIClient
from docker.errors import ImageNotFound

from tests.engine import images
from tests.faults.server import DEADLINE, ROOT, eventually, free_port

USER = "puller"
PASSWORD = "registry-password-7f3d9c1e"
_HTPASSWD = f"{USER}:$2b$05$N9qo8uLOickgx2ZMRZoMyeqnBU3CK.HgwU38hJd2oajYMQwzD9nSa\n"
"""That password, by bcrypt, the only kind that the registry takes."""
LAYER = 4_000_000
"""Bytes of random content in an image of ``push``, so that it shares no layer and can't be compressed."""


class Gate:
    """Forwards TCP connections to a port; what comes back counts against an allowance."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._left: float = float("inf")
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="gate", daemon=True)]
        self._threads[0].start()

    def allow(self, number: float) -> None:
        """Let ``number`` more bytes of answers through, then hold them back; infinity opens it."""
        with self._changed:
            self._left = number
            self._changed.notify_all()

    @property
    def held(self) -> bool:
        """Whether the allowance is used up."""
        return self._left <= 0

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for source, sink, counted in ((near, far, False), (far, near, True)):
                    thread = threading.Thread(target=self._pump, args=(source, sink, counted), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if counted:
                    self._take(len(data))
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _take(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._left > 0)
            self._left -= number

    def close(self) -> None:
        """End it with all its connections."""
        self.allow(float("inf"))
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        for each in (self._listener, *self._sockets):
            each.close()


class Registry:
    """A registry with its data in ``folder``.

    Args:
        folder: its own.
        docker: of the engine that pulls from it.
        login: whether it asks for ``USER`` and ``PASSWORD``.
    """

    def __init__(self, folder: Path, docker: APIClient, *, login: bool = False) -> None:
        self._folder = folder
        self._docker = docker
        self._auth = {"username": USER, "password": PASSWORD} if login else None
        self._port = free_port()
        self._images: list[str] = []
        folder.mkdir()
        (folder / "config.yml").write_text(json.dumps(self._configuration(login)))
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [_program(), "serve", folder / "config.yml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.gate = Gate(self._port)
        eventually(self._answers, "the registry answers")

    def _configuration(self, login: bool) -> dict[str, object]:
        (self._folder / "htpasswd").write_text(_HTPASSWD)
        auth = {"htpasswd": {"realm": "test", "path": os.fspath(self._folder / "htpasswd")}}
        return {  # JSON is YAML
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": os.fspath(self._folder / "data")}},
            "http": {"addr": f"127.0.0.1:{self._port}", "secret": "unused"},
            **({"auth": auth} if login else {}),
        }

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{self._port}/v2/", timeout=DEADLINE).status_code in (200, 401)
        return False

    @property
    def host(self) -> str:
        """What images' names begin with; engines take loopback addresses without TLS."""
        return f"127.0.0.1:{self.gate.port}"

    def push(self, name: str) -> str:
        """An image of the test's own that is in the registry and not on the engine: its reference."""
        repository, image = f"{self.host}/{name}", f"{self.host}/{name}:latest"
        file_system = io.BytesIO(images.root_file_system())
        with tarfile.open(fileobj=file_system, mode="a") as tar:
            entry = tarfile.TarInfo("srv/content")
            entry.size = LAYER
            tar.addfile(entry, io.BytesIO(os.urandom(LAYER)))
        self._images.append(image)
        self._docker.import_image_from_data(file_system.getvalue(), repository=repository, tag="latest")
        said = self._docker.push(repository, tag="latest", auth_config=self._auth or {"username": "", "password": ""})
        assert "error" not in said, said
        self._docker.remove_image(image)
        return image

    def pulls(self, image: str) -> tuple[int, int]:
        """Requests for the image's manifest, and for its blobs (configuration, layer), by the registry's log."""
        name = image.removeprefix(f"{self.host}/").partition(":")[0]
        log = (self._folder / "log").read_text()
        found = [
            len(re.findall(rf'"(?:GET|HEAD) /v2/{re.escape(name)}/{kind}/[^" ]+ HTTP/1.1" 200', log))
            for kind in ("manifests", "blobs")
        ]
        return found[0], found[1]

    def close(self) -> None:
        """End it, and take its images from the engine."""
        self.gate.close()
        self._process.kill()
        self._process.wait(DEADLINE)
        for image in self._images:
            with contextlib.suppress(ImageNotFound):
                self._docker.remove_image(image, force=True)


def _program() -> str:
    """The registry's program, installed where it is missing."""
    if shutil.which("docker-registry") is None:
        subprocess.run(["bash", "-c", ". scripts/lib.sh; apt_install docker-registry"], cwd=ROOT, check=True)
    found = shutil.which("docker-registry")
    assert found is not None
    return found
