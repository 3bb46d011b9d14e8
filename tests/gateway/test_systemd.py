"""The shipped units: as systemd reads them, and the service as it is run by them, but for systemd itself."""

from __future__ import annotations

import configparser
import grp
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from docker import APIClient

from runtime_server.models import StartResponse
from tests.gateway.conftest import DEADLINE, DOMAIN, ROOT, Gateway, eventually
from tests.gateway.image import PYTHON
from tests.gateway.test_reloads import children

UNITS = ROOT / "deploy/systemd"
EXPOSURE = 40
"""Of 100, which is everything (systemd-analyze security)."""
USER = 65534
HAND_OVER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[1].split(",")]
for number, each in enumerate(high):
    os.dup2(each, 3 + number)
    os.close(each)
os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "runtime_server"])
"""


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the units, whose programs are ones that are there; systemd's tools are installed."""
    installed = subprocess.run([ROOT / "scripts/systemd"], check=False, capture_output=True, text=True, timeout=600)
    assert installed.returncode == 0, installed.stderr
    folder = tmp_path_factory.mktemp("units")
    for path in UNITS.iterdir():
        if path.suffix in (".service", ".socket"):
            (folder / path.name).write_text(
                path.read_text().replace("/opt/runtime-server/bin/runtime-server", "/bin/true")
            )
    return folder


def analyzed(units: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
    command = ["systemd-analyze", *words]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def test_systemd_takes_the_units(units: Path) -> None:
    found = sorted(str(each) for each in units.iterdir())
    done = analyzed(units, "verify", "--man=no", *found)
    assert (done.returncode, done.stderr) == (0, "")
    (units / "wrong.service").write_text("[Service]\nExecStart=/bin/true\nProtectEverything=yes\n")
    wrong = analyzed(units, "verify", "--man=no", str(units / "wrong.service"))
    assert "ProtectEverything" in wrong.stderr
    (units / "wrong.service").unlink()


def test_the_service_is_hardened(units: Path) -> None:
    words = ["security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager"]
    done = analyzed(units, *words, str(units / "runtime-server.service"))
    assert done.returncode == 0, done.stdout


def unit(name: str) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=False, comment_prefixes="#", delimiters="=")
    found.optionxform = str  # type: ignore[assignment]
    found.read(UNITS / name)
    return found


class Unit(Gateway):
    """The service as its unit has it: another user with a few capabilities, handed its sockets, and notifying."""

    sockets: Sequence[socket.socket] = ()

    def __init__(self, nginx: str, folder: Path, docker: APIClient) -> None:
        super().__init__(nginx, folder, docker, "subdomain", WORKERS="1")
        own = unit("runtime-server.service")["Service"]
        named = [each.removeprefix("CAP_").lower() for each in own["AmbientCapabilities"].split()]
        capabilities = ",".join(f"+{each}" for each in named)
        # The engine's socket may be another group's here than an installation's.
        groups = [os.stat("/var/run/docker.sock").st_gid, grp.getgrnam("www-data").gr_gid]
        assert own["SupplementaryGroups"] == "docker www-data"
        self.prefix = (
            "setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={','.join(map(str, groups))}",
            f"--inh-caps=-all,{capabilities}", f"--ambient-caps=-all,{capabilities}",
            f"--bounding-set=-all,{capabilities}", "--no-new-privs",
        )  # fmt: skip
        self.environment["HOME"] = str(folder)
        # As an installation's, where all may enter. A clone may lie where only root may, and access(2), by which
        # Alembic looks for the migrations, counts no capability.
        self.installed = Path(tempfile.mkdtemp(prefix="runtime-server-test-"))
        self.installed.chmod(0o755)
        shutil.copytree(ROOT / "runtime_server", self.installed / "runtime_server")
        self.environment["PYTHONPATH"] = str(self.installed)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.settimeout(DEADLINE)
        self.notices.bind(str(folder / "notify"))
        self.environment["NOTIFY_SOCKET"] = str(folder / "notify")

    def paths(self) -> list[Path]:
        """Of the sockets that the units make."""
        listening = [
            unit(name)["Socket"]["ListenStream"]
            for name in ("runtime-server.socket", "runtime-server-gateway.socket")
        ]
        return [self.folder / "run" / Path(each).name for each in listening]

    def serve(self) -> None:
        if not self.sockets:
            self.sockets = [socket.socket(socket.AF_UNIX) for _ in self.paths()]
            for made, path in zip(self.sockets, self.paths(), strict=True):
                made.bind(str(path))
                made.listen(1024)
        numbers = [each.fileno() for each in self.sockets]
        words = [sys.executable, "-c", HAND_OVER, ",".join(map(str, numbers))]
        self.run("gunicorn", [*self.prefix, *words], numbers)
        assert b"READY=1" in self.notices.recv(4096)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.installed)
        for each in (*self.sockets, self.notices):
            each.close()


@pytest.fixture(scope="module")
def served(
    nginx: str, python_image: str, docker_client: APIClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Unit]:
    made = Unit(nginx, tmp_path_factory.mktemp("unit"), docker_client)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def runtime(served: Unit) -> StartResponse:
    return served.runtime()


def test_the_service_as_its_unit_runs_it(served: Unit, runtime: StartResponse) -> None:
    assert served.call(runtime).status == 200
    # What the capabilities are for: a freeze with a WebSocket open, the firewall, and processes that are ended.
    websocket = served.websocket(runtime)
    served.client.pause_runtime(runtime.runtime_id)
    assert websocket.echo("awake") == "awake"
    websocket.close()
    eventually(lambda: served.status(runtime) == "running", "it is known to run")
    command = [PYTHON, "-c", "import time; time.sleep(1000)"]
    ended = served.client.exec_in_runtime(runtime.runtime_id, command, timeout=1)
    assert ended.timed_out
    log = (served.folder / "gunicorn.out").read_text()
    assert not [line for line in log.splitlines() if '"level": "warning"' in line or '"level": "error"' in line], log

    master = served.processes["gunicorn"]
    before = children(master.pid)
    master.send_signal(signal.SIGHUP)
    eventually(lambda: children(master.pid) - before and not children(master.pid) & before, "it has new workers")
    assert served.call(runtime).status == 200


def test_a_restart_loses_no_request_and_no_socket(served: Unit, runtime: StartResponse) -> None:
    assert served.call(runtime).status == 200
    process = served.processes.pop("gunicorn")
    process.terminate()
    assert process.wait(DEADLINE) == 0
    assert all(stat.S_ISSOCK(path.stat().st_mode) for path in served.paths())
    # It waits in the socket that systemd holds.
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as waiting:
        waiting.sendall(f"GET /healthz HTTP/1.0\r\nHost: {DOMAIN}\r\n\r\n".encode())
        served.serve()
        assert waiting.makefile("rb").readline().split()[1] == b"200"
    assert served.call(runtime).status == 200


def test_a_socket_that_is_not_handed_over_is_missed(served: Unit) -> None:
    first = served.sockets[0].fileno()
    done = subprocess.run(
        [*served.prefix, sys.executable, "-c", HAND_OVER, str(first)],
        env=served.environment,
        cwd=ROOT,
        pass_fds=[first],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, "gateway.sock" in done.stderr) == (1, True), done.stderr
