"""The Builder protocol on the ``docker`` command.

Not on docker-py, whose build speaks to the engine's classic builder: that has no ``RUN --mount``, BuildKit has. The
command has BuildKit in itself up to 22; from 23 on it needs its buildx plugin, which is a package of its own
(``docker-buildx``), and without it the command refuses. Podman's engine speaks the classic builder's API only, and
knows ``RUN --mount`` all the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_server.engine.building import BuildHalted, BuildRefused, BuildSpec
from runtime_server.engine.discovery import discover
from runtime_server.errors import BuilderUnavailable, Problem
from runtime_server.models import EngineVersion

PROBE = 20.0
"""Seconds that a command may take to say what it is."""
LOOK = 0.2
"""Seconds between two questions whether the build is to end."""
GRACE = 5.0
"""Seconds between TERM, by which the command tells the engine to stop, and KILL."""
BUILT_IN_BELOW = 23
"""The command's first version without a BuildKit client of its own."""

_HELP = "Install docker-buildx, or docker.io 20.10, or set RUNTIME_SERVER_DOCKER_CLI."


@dataclass(frozen=True, slots=True)
class _Command:
    """How to run the command: its beginning, and its environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


class DockerBuilder:
    """Builds by the ``docker`` command, which is looked for at the first build.

    Args:
        address: of the engine, as ``discover`` takes it.
        program: the command; empty: the first ``docker`` on PATH that can build.
        engine_version: tells what the engine is.
    """

    def __init__(self, address: str, engine_version: Callable[[], EngineVersion], program: str = "") -> None:
        self._address = address
        self._engine_version = engine_version
        self._given = program
        self._found: str | None = None

    def check(self) -> None:
        """See ``Builder``."""
        self._program(classic=self._classic())

    def build(self, spec: BuildSpec, log: Callable[[bytes], None], halted: Callable[[], bool]) -> None:
        """See ``Builder``."""
        with self._command() as command:
            words = ["build", "--network", spec.network]
            words += [word for name, value in spec.labels.items() for word in ("--label", f"{name}={value}")]
            words += [word for tag in spec.tags for word in ("--tag", tag)]
            with spec.context.open("rb") as context:
                code = _run(command, [*words, "-"], context.fileno(), log, halted)
            if code != 0:
                raise BuildRefused(f"The build failed (exit status {code}).")
            for tag in spec.tags if spec.push else ():
                code = _run(command, ["push", tag], subprocess.DEVNULL, log, halted)
                if code != 0:
                    raise BuildRefused(f"The image is built, but can't be pushed as {tag} (exit status {code}).")

    def _classic(self) -> bool:
        try:
            return self._engine_version().name.startswith("Podman")
        except Problem:
            return False

    @contextlib.contextmanager
    def _command(self) -> Iterator[_Command]:
        classic = self._classic()
        program = self._program(classic=classic)
        # buildx keeps notes of its own; in the user's home, which the server may not write, they would pile up.
        with tempfile.TemporaryDirectory(prefix="runtime-server-buildx-") as notes:
            environment = _environment() | {
                "DOCKER_BUILDKIT": "0" if classic else "1",
                "BUILDKIT_PROGRESS": "plain",
                # The engine's own builder, whichever the user has chosen: the image has to end up on the engine.
                "BUILDX_BUILDER": "default",
                "BUILDX_CONFIG": notes,
                "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
            }
            yield _Command((*_ending_with_us(), program, *self._engine()), environment)

    def _engine(self) -> list[str]:
        """The flags that lead to the engine."""
        endpoint = discover(self._address)
        words = ["--host", endpoint.address if "://" in endpoint.address else f"unix://{endpoint.address}"]
        tls = endpoint.tls
        if tls is None:
            return words
        cert, key = tls.cert or (None, None)
        files = {"--tlscacert": tls.ca_cert, "--tlscert": cert, "--tlskey": key}
        words.append("--tlsverify" if tls.verify else "--tls")
        return words + [word for flag, path in files.items() if path for word in (flag, str(path))]

    def _program(self, *, classic: bool) -> str:
        if self._found is None:
            candidates = [self._given] if self._given else _on_path("docker")
            able = (each for each in candidates if _can_build(each, classic=classic))
            self._found = next(able, None)
        if self._found is None:
            what = "RUNTIME_SERVER_DOCKER_CLI is no" if self._given else "There is no"
            raise BuilderUnavailable(f"{what} docker command that builds with BuildKit. {_HELP}")
        return self._found


def _on_path(name: str) -> list[str]:
    found = (Path(folder, name) for folder in os.get_exec_path())
    return list(dict.fromkeys(os.fspath(each) for each in found if os.access(each, os.X_OK) and each.is_file()))


def _can_build(program: str, *, classic: bool) -> bool:
    said = _ask(program, "--version")
    version = re.search(r"Docker version (\d+)", said or "")
    if version is None:
        return False
    return classic or int(version[1]) < BUILT_IN_BELOW or _ask(program, "buildx", "version") is not None


def _ask(program: str, *words: str) -> str | None:
    """What the command says; None where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            [program, *words],
            env=dict(_environment()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _environment() -> dict[str, str]:
    """This process's environment without the server's settings, keys among them, and without other engines."""
    ours = ("RUNTIME_SERVER_", "BUILDX_", "BUILDKIT_")
    theirs = {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"}
    return {name: value for name, value in os.environ.items() if not name.startswith(ours) and name not in theirs}


def _ending_with_us() -> list[str]:
    """What lets the kernel kill the command when this process is killed, since nobody would end the build then."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _run(
    command: _Command,
    words: Sequence[str],
    stdin: int,
    log: Callable[[bytes], None],
    halted: Callable[[], bool],
) -> int:
    """Run to the end, and return the exit status."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own command; words are checked references
            [*command.words, *words],
            env=dict(command.environment),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BuilderUnavailable(f"The docker command can't be run. {_HELP}") from error
    with process:
        try:
            _follow(process, log, halted)
        except BaseException:
            _end(process)
            raise
        return process.wait()


def _follow(process: subprocess.Popen[bytes], log: Callable[[bytes], None], halted: Callable[[], bool]) -> None:
    """Hand the output on until there is no more, or the command has ended and is silent.

    Raises:
        BuildHalted: it is to end.
    """
    assert process.stdout is not None
    output = process.stdout.fileno()
    poller = select.poll()  # select() itself knows no descriptor above 1023
    poller.register(output, select.POLLIN)
    while True:
        if poller.poll(LOOK * 1000):
            data = os.read(output, 65536)
            if not data:
                return
            log(data)
        elif _ended(process):
            return  # a child of its own may hold the pipe open
        if halted():
            raise BuildHalted


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and its children: asked first, so that it tells the engine."""
    _signal(process, signal.SIGTERM)
    end = time.monotonic() + GRACE
    while not _ended(process) and time.monotonic() < end:
        time.sleep(0.02)
    _signal(process, signal.SIGKILL)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the command has ended. It isn't reaped by this, so that its number stays its group's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
