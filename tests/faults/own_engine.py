"""A Docker engine of the test's own, to be stopped, killed and started again.

It lives in network, mount and process namespaces of its own: an engine without a bridge would delete ``docker0`` of
the machine's, and the kernel takes its mounts, shims and containers away with the namespaces. Its containers have no
network (``none``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from docker import APIClient

from tests.engine import images

ANSWER = 90.0
"""Seconds that a loaded machine may take until the engine answers, or has ended."""

_CGROUPS = Path("/sys/fs/cgroup")

# Process 1 of the namespace reaps the shims that an engine leaves; its data root is in memory, since the layers
# can't be on an overlay file system. A machine's containerd is hidden, or dockerd would use that instead of its own.
_KEEP = """
ip link set lo up
mkdir -p /run/containerd
mount -t tmpfs tmpfs /run/containerd
mount -t tmpfs -o size=1g tmpfs "$1"
echo ready
sleep infinity & wait
"""


class OwnEngine:
    """An engine that a test owns.

    Args:
        live_restore: whether containers outlive the engine (``--live-restore``).
    """

    def __init__(self, *, live_restore: bool = False) -> None:
        self.live_restore = live_restore
        # Short, since the path of a Unix socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="rs-engine-"))
        self._data = self._folder / "data"
        self._data.mkdir()
        (self._folder / "daemon.json").write_text("{}")
        self.address = f"unix://{self._folder / 'docker.sock'}"
        self.log = self._folder / "dockerd.log"
        self._keeper = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
                *("sh", "-ec", _KEEP, "keep", os.fspath(self._data)),
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        self._dockerd: subprocess.Popen[bytes] | None = None
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("namespaces of the test's own need root, with unshare and ip")

    def start(self, *, images_too: bool = True) -> float:
        """Start it, wait until it answers, and return that moment (``time.monotonic``)."""
        self.launch()
        return self.await_answer(images_too=images_too)

    def ensure(self) -> None:
        """Start it where a test has left it dead or frozen, so that its containers can be seen to."""
        if self._dockerd is None:
            self.start(images_too=False)
        else:
            self.send(signal.SIGCONT)

    def launch(self) -> None:
        """Start it without waiting."""
        flags = ["--live-restore"] if self.live_restore else []
        with self.log.open("ab") as log:
            self._dockerd = subprocess.Popen(
                [
                    *(*self._enter(), "dockerd", "--host", self.address),
                    *("--config-file", self._folder / "daemon.json", "--pidfile", self._folder / "docker.pid"),
                    *("--data-root", self._data, "--exec-root", self._folder / "exec"),
                    *("--cgroup-parent", f"/{self._folder.name}"),
                    *("--bridge=none", "--iptables=false", "--ip-forward=false", *flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def await_answer(self, *, images_too: bool = False) -> float:
        """The moment of its first answer to a ping."""
        end = time.monotonic() + ANSWER
        while time.monotonic() < end:
            assert self._dockerd is not None
            if self._dockerd.poll() is not None:
                break
            if self._pings():
                answered = time.monotonic()
                if images_too:
                    with contextlib.closing(self.client()) as client:
                        images.make(client)
                return answered
            time.sleep(0.02)
        raise RuntimeError(f"the test's engine doesn't answer:\n{self.log.read_text()[-2000:]}")

    def _pings(self) -> bool:
        """Ask by a socket of our own: docker-py leaves one open each time that it is refused."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER)
            try:
                connection.connect(self.address.removeprefix("unix://"))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(64)
            except OSError:
                return False

    def client(self) -> APIClient:
        """docker-py's own client, for the caller to close."""
        return APIClient(base_url=self.address, version="1.41")

    def send(self, number: signal.Signals) -> None:
        """Send the engine a signal; ``SIGSTOP`` freezes it and ``SIGCONT`` lets it go on."""
        pid = (self._folder / "docker.pid").read_text().strip()
        subprocess.run([*self._enter(), "sh", "-c", f"kill -{int(number)} {pid}"], check=True)
        if number is signal.SIGCONT and self._dockerd is not None:
            self._dockerd.send_signal(number)  # nsenter has stopped with its child

    def kill(self, number: signal.Signals) -> None:
        """Send the engine a signal and wait until it is gone."""
        assert self._dockerd is not None
        self.send(number)
        self._dockerd.wait(ANSWER)
        self._dockerd = None
        # A killed engine leaves its pid file, and in the namespace soon another process may have that number.
        (self._folder / "docker.pid").unlink(missing_ok=True)

    def _enter(self) -> list[str]:
        own = f"/proc/{self._keeper.pid}/ns"
        return ["nsenter", f"--net={own}/net", f"--mount={own}/mnt", f"--pid={own}/pid_for_children", "--"]

    def close(self) -> None:
        """End everything in its namespaces, containers included, and leave nothing behind."""
        self._keeper.kill()  # the kernel kills process 1 of the namespace with it, and that all others
        self._keeper.wait(ANSWER)
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()
        if self._dockerd is not None:
            self._dockerd.kill()  # nsenter, which may be stopped
            self._dockerd.wait(ANSWER)
        self._remove_cgroups()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _remove_cgroups(self) -> None:
        """Remove its control groups; a process that is killed while frozen ends only once it is thawed."""
        end = time.monotonic() + ANSWER
        roots = [*_CGROUPS.glob(f"*/{self._folder.name}"), _CGROUPS / self._folder.name]
        while left := [root for root in roots if root.is_dir()]:
            for root in left:
                _thaw(root)
                for folder, _, _ in os.walk(root, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
            if time.monotonic() > end:
                raise RuntimeError(f"processes of the test's engine don't end: {left}")
            time.sleep(0.02)

    def __enter__(self) -> OwnEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _thaw(root: Path) -> None:
    for pattern, value in (("**/freezer.state", "THAWED"), ("**/cgroup.freeze", "0")):
        for file in root.glob(pattern):
            with contextlib.suppress(OSError):
                file.write_text(value)
