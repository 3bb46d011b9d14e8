"""The ``docker`` command as a builder: which one is taken, how it is run, and how it is ended."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from runtime_server.cli import serve
from runtime_server.engine import docker_build
from runtime_server.engine.building import BuildHalted, BuildRefused, BuildSpec
from runtime_server.engine.docker_build import DockerBuilder
from runtime_server.errors import BuilderUnavailable, EngineUnreachable
from runtime_server.models import EngineVersion
from runtime_server.settings import Settings
from tests.unit.conftest import eventually

DOCKER = EngineVersion(name="Docker Engine", version="20.10.24", api_version="1.41")
PODMAN = EngineVersion(name="Podman Engine", version="4.3.1", api_version="1.41")

ROOT = Path(__file__).parents[2]

OLD = 'case "$1" in --version) echo "Docker version 20.10.24+dfsg1, build x" ;; *) exec "$FAKE" "$@" ;; esac'
NEW = (
    'case "$1" in --version) echo "Docker version 28.2.2, build x" ;; buildx) exit 1 ;; *) exec "$FAKE" "$@" ;; esac'
)
WITH_BUILDX = NEW.replace("exit 1", "echo github.com/docker/buildx v0.13.1")
NOT_DOCKER = 'echo "podman version 4.3.1"'


class Commands:
    """Commands named ``docker`` in folders of a PATH, and what they do with a build."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = monkeypatch
        self._folders: list[str] = []
        self.program = ""
        self.does("exit 0")

    def add(self, script: str) -> str:
        path = self.folder / f"bin{len(self._folders)}" / "docker"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self._folders.append(str(path.parent))
        self.program = str(path)
        self._patch.setenv("PATH", os.pathsep.join([*self._folders, "/usr/bin", "/bin"]))
        self._patch.setattr(os, "get_exec_path", lambda *_: self._folders)
        return str(path)

    def does(self, script: str) -> None:
        """What ``docker --host … build …`` does."""
        fake = self.folder / "fake"
        fake.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}\n")
        fake.chmod(0o755)
        self._patch.setenv("FAKE", str(fake))


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(tmp_path, monkeypatch)


def builder(program: str = "", engine: Callable[[], EngineVersion] = lambda: DOCKER) -> DockerBuilder:
    return DockerBuilder("unix:///nowhere/docker.sock", engine, program)


@pytest.fixture
def spec(tmp_path: Path) -> BuildSpec:
    (tmp_path / "context").write_bytes(b"the context")
    return BuildSpec(tmp_path / "context", ("a/b:1", "a/b:2"), {"who": "alice"}, "none")


def run(
    made: DockerBuilder, spec: BuildSpec, halted: Callable[[], bool] = lambda: False
) -> tuple[str, type[Exception] | None]:
    said: list[bytes] = []
    error = None
    try:
        made.build(spec, said.append, halted)
    except (BuildRefused, BuildHalted) as caught:
        error = type(caught)
    return b"".join(said).decode(), error


class TestWhichIsTaken:
    def test_the_first_that_can_build(self, commands: Commands, spec: BuildSpec) -> None:
        for script in (NOT_DOCKER, NEW, "exit 3"):
            commands.add(script)
        with pytest.raises(BuilderUnavailable, match="docker-buildx"):
            builder().check()
        for script in (OLD, WITH_BUILDX):
            right = commands.add(script)
        builder().check()
        commands.does('echo "$0"')
        made = builder()
        assert run(made, spec)[1] is None
        assert made._found != right
        assert builder(right)._program(classic=False) == right

    def test_one_that_is_installed_later(self, commands: Commands) -> None:
        commands.add(NEW)
        made = builder()
        with pytest.raises(BuilderUnavailable):
            made.check()
        commands.add(WITH_BUILDX)
        made.check()

    def test_one_that_was_named_and_can_not(self, commands: Commands) -> None:
        commands.add(OLD)
        for program in (commands.add(NEW), "/no/such/docker"):
            with pytest.raises(BuilderUnavailable, match="RUNTIME_SERVER_DOCKER_CLI"):
                builder(program).check()

    def test_podman_needs_no_buildkit(self, commands: Commands, spec: BuildSpec) -> None:
        commands.add(NEW)
        commands.does("echo $DOCKER_BUILDKIT")
        assert run(builder(engine=lambda: PODMAN), spec) == ("0\n", None)

    def test_an_engine_that_is_away_is_taken_for_docker(self, commands: Commands) -> None:
        def away() -> EngineVersion:
            raise EngineUnreachable

        commands.add(NEW)
        with pytest.raises(BuilderUnavailable):
            builder(engine=away).check()


@pytest.mark.parametrize(
    ("changes", "fine", "said"),
    [
        ({"registry_prefix": "a/b"}, True, "Builds: possible, below a/b."),
        ({"registry_prefix": "a/b", "docker_cli": "/no/such/docker"}, False, "RUNTIME_SERVER_DOCKER_CLI"),
        ({"docker_cli": "/no/such/docker"}, True, ""),
        ({"registry_prefix": "a/b", "builds": "off", "docker_cli": "/no/such/docker"}, True, ""),
    ],
)
def test_the_check_of_the_configuration_tells(
    commands: Commands, capsys: pytest.CaptureFixture[str], changes: dict[str, str], fine: bool, said: str
) -> None:
    commands.add(OLD)
    assert serve._check_builder(Settings.model_validate(changes), DOCKER) is fine
    told = "".join(capsys.readouterr())
    assert said in told
    assert bool(told) == bool(said)


class TestHowItIsRun:
    def test_words_and_context(self, commands: Commands, spec: BuildSpec) -> None:
        commands.add(OLD)
        commands.does('echo "$@"; cat')
        words = "build --network none --label who=alice --tag a/b:1 --tag a/b:2 -"
        assert run(builder(), spec) == (f"--host unix:///nowhere/docker.sock {words}\nthe context", None)

    def test_the_environment_has_no_keys_and_no_other_engine(
        self, commands: Commands, spec: BuildSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUNTIME_SERVER_API_KEYS", "ci:hush")
        monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
        monkeypatch.setenv("BUILDX_BUILDER", "other")
        monkeypatch.setenv("DOCKER_CONFIG", "/kept")
        commands.add(OLD)
        commands.does("env; ls -ld $BUILDX_CONFIG")
        said, error = run(builder(), spec)
        assert error is None
        assert "hush" not in said
        assert "DOCKER_CONTEXT" not in said
        lines = said.splitlines()
        assert {"DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default", "DOCKER_CONFIG=/kept"} <= set(lines)
        assert lines[-1].startswith("drwx------")
        (notes,) = (each.partition("=")[2] for each in lines if each.startswith("BUILDX_CONFIG="))
        assert not Path(notes).exists()

    @pytest.mark.parametrize("code", [1, 125])
    def test_a_failing_build(self, commands: Commands, spec: BuildSpec, code: int) -> None:
        commands.add(OLD)
        commands.does(f"echo out; echo err >&2; exit {code}")
        assert run(builder(), spec) == ("out\nerr\n", BuildRefused)

    def test_pushes_follow_the_build(self, commands: Commands, tmp_path: Path) -> None:
        (tmp_path / "context").touch()
        pushed = BuildSpec(tmp_path / "context", ("a/b:1", "a/b:2"), push=True)
        commands.add(OLD)
        commands.does('shift 2; echo "$1 $2"')
        assert run(builder(), pushed) == ("build --network\npush a/b:1\npush a/b:2\n", None)
        commands.does('shift 2; [ "$1" = build ] || { echo denied; exit 1; }')
        assert run(builder(), pushed) == ("denied\n", BuildRefused)

    def test_one_that_is_gone_meanwhile(self, commands: Commands, spec: BuildSpec) -> None:
        made = builder(commands.add(OLD))
        made.check()
        Path(str(made._found)).unlink()
        with pytest.raises((BuilderUnavailable, BuildRefused)):
            made.build(spec, lambda _: None, lambda: False)


class TestHowItIsEnded:
    @pytest.mark.parametrize("heeds", [True, False])
    def test_with_its_children(
        self,
        commands: Commands,
        spec: BuildSpec,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        heeds: bool,
    ) -> None:
        monkeypatch.setattr(docker_build, "GRACE", 0.3)
        commands.add(OLD)
        trap = "" if heeds else "trap '' TERM;"
        commands.does(f"{trap} sleep 1000 & echo $! >{tmp_path}/child; echo $$ >{tmp_path}/self; echo on; wait; wait")
        halt = threading.Event()
        results: list[tuple[str, type[Exception] | None]] = []
        thread = threading.Thread(target=lambda: results.append(run(builder(), spec, halt.is_set)))
        thread.start()
        eventually(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text().strip())
        halt.set()
        thread.join(60)
        assert results == [("on\n", BuildHalted)]
        for name in ("self", "child"):
            eventually(partial(_gone, int((tmp_path / name).read_text())))

    def test_a_child_that_holds_the_pipe_holds_up_nothing(self, commands: Commands, spec: BuildSpec) -> None:
        commands.add(OLD)
        commands.does("sleep 20 & echo done")
        began = time.monotonic()
        assert run(builder(), spec) == ("done\n", None)
        assert time.monotonic() - began < 15

    def test_when_the_server_is_killed(self, commands: Commands, spec: BuildSpec, tmp_path: Path) -> None:
        commands.add(OLD)
        commands.does(f"echo $$ >{tmp_path}/self; exec sleep 1000")
        code = (
            "from pathlib import Path; from tests.unit.test_docker_build import builder, BuildSpec;"
            f"builder({commands.program!r}).build("
            f"BuildSpec(Path({str(spec.context)!r}), ('a/b:1',)), lambda _: None, lambda: False)"
        )
        server = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        eventually(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text().strip())
        pid = int((tmp_path / "self").read_text())
        assert not _gone(pid)
        server.kill()
        server.wait()
        eventually(lambda: _gone(pid))


def _gone(pid: int) -> bool:
    """Whether it has ended; what nobody has reaped yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
