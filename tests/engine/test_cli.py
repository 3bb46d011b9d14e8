"""The command line on a real engine, through a real gunicorn, in a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from click.testing import CliRunner
from docker import APIClient

from runtime_server.cli.main import main
from tests.cli.test_tty import default_interrupt
from tests.engine.images import BUSYBOX
from tests.faults.registry import LAYER, Registry
from tests.faults.server import DEADLINE, Server, Site, eventually

TALKER = "i=0; while :; do echo line $i; echo error $i >&2; i=$((i+1)); busybox sleep 0.1; done"


class CommandLine:
    """Runs the command line as a user does."""

    def __init__(self, server: Server, folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME_SERVER_")}
        self.environment: dict[str, str] = {
            **kept,
            "TERM": "xterm-256color",
            "XDG_CONFIG_HOME": str(folder),
            "RUNTIME_SERVER_URL": server.base_url,
            "RUNTIME_SERVER_API_KEY": server.site.key,
        }

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """In this process, which is quicker; stdout."""
        result = CliRunner().invoke(main, arguments, input=stdin, env=self.environment)
        assert result.exit_code == code, f"{result.exit_code}: {result.output}{result.exception!r}"
        return result.stdout

    def spawn(self, *arguments: str) -> pexpect.spawn[str]:
        command = ["-m", "runtime_server", *arguments]
        return pexpect.spawn(
            sys.executable,
            command,
            env=self.environment,
            dimensions=(30, 100),
            timeout=DEADLINE,
            encoding="utf-8",
            preexec_fn=default_interrupt,
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient, test_images: None) -> Iterator[Server]:
    site = Site(tmp_path_factory.mktemp("cli"), docker_client)
    try:
        yield site.start(workers=1)
    finally:
        site.close()


@pytest.fixture(scope="module")
def cli(server: Server, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    return CommandLine(server, tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def runtime(cli: CommandLine) -> str:
    return cli("start", "--name", "web", "--network", "none", BUSYBOX, "sh", "-c", TALKER).strip()


def test_a_terminal_with_its_size_and_exit_code(cli: CommandLine, runtime: str) -> None:
    child = cli.spawn("exec", "-it", "-e", "GREETING=good day", "-w", "/srv", "web", "sh")
    child.waitnoecho(DEADLINE)
    child.sendline("echo $((6*7)) $GREETING $(pwd)")
    child.expect_exact("42 good day /srv")
    child.sendline("busybox stty size")
    child.expect_exact("30 100")
    child.setwinsize(40, 132)
    # The change of size has no answer of its own.
    eventually(lambda: _size(child) == "40 132", "the terminal's size")
    child.sendline("busybox sleep 4321")
    child.expect_exact("sleep 4321")
    child.send("\x03")
    child.sendline("echo after $?")
    child.expect_exact("after 130")
    child.sendline("exit 3")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


def _size(child: pexpect.spawn[str]) -> str:
    child.sendline("echo size is $(busybox stty size).")
    child.expect(r"size is (\d+ \d+)\.")
    assert isinstance(child.match, re.Match)
    return str(child.match[1])


def test_following_logs_until_ctrl_c(cli: CommandLine, runtime: str) -> None:
    child = cli.spawn("logs", "-f", "--tail", "1", "web")
    for word in ("line", "error", "line", "error"):
        child.expect(rf"{word} \d+\r\n")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_files_there_and_back(cli: CommandLine, runtime: str, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run").write_text("#!/bin/sh\necho ran\n")
    (source / "sub" / "run").chmod(0o755)
    (source / "link").symlink_to("/etc/passwd")
    cli("cp", str(source), "web:/srv")
    assert cli("exec", "web", "/srv/src/sub/run") == "ran\n"
    cli("cp", "web:/srv/src", str(tmp_path / "back"))
    assert (tmp_path / "back" / "sub" / "run").read_text() == "#!/bin/sh\necho ran\n"
    assert (tmp_path / "back" / "sub" / "run").stat().st_mode & 0o777 == 0o755
    assert os.readlink(tmp_path / "back" / "link") == "/etc/passwd"
    cli("cp", "web:/", str(tmp_path / "root"))
    assert (tmp_path / "root" / "etc" / "passwd").read_text().startswith("root:")


def test_a_life(cli: CommandLine, runtime: str) -> None:
    assert json.loads(cli("inspect", "web"))[0]["runtime_id"] == runtime
    assert cli("exec", "-i", "web", "cat", stdin="through\n") == "through\n"
    cli("exec", "web", "sh", "-c", "exit 7", code=7)
    cli("exec", "web", "nothing", code=127)
    assert json.loads(cli("stats", "--no-stream", "-o", "json", "web"))[0]["pids"] >= 1
    name = cli("start", "--network", "none", BUSYBOX, "sleep", "1000").strip()
    assert name in cli("ls", "-q").split()
    cli("rm", name, code=4)
    cli("stop", "-t", "0", name)
    assert name in cli("ls", "-aq", "-f", "status=stopped").split() + cli("ls", "-aq", "-f", "status=error").split()
    cli("rm", name)
    cli("exec", name, "true", code=4)
    cli("inspect", "nothing", code=3)


def test_a_bar_for_each_layer_of_a_pull(cli: CommandLine, docker_client: APIClient, tmp_path: Path) -> None:
    with contextlib.closing(Registry(tmp_path / "registry", docker_client)) as registry:
        image = registry.push("bars")
        child = cli.spawn("pull", image)
        # In pieces, since the engine tells no more than now and then how far it is.
        for _ in range(16):
            registry.gate.allow(LAYER / 16)
            if child.expect([r"[0-9a-f]{12} .*/.* MB.*Downloading", pexpect.TIMEOUT], timeout=2) == 0:
                break
        else:
            pytest.fail("no bar was seen")
        registry.gate.allow(float("inf"))
        child.expect(r"[0-9a-f]{12}.*━.*Pull complete")
        child.expect_exact(image)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        assert image in cli("images")


def test_doctor_on_this_machine(cli: CommandLine) -> None:
    found = {each["name"]: each for each in json.loads(cli("doctor", "-o", "json"))["checks"]}
    for name in ("engine", "engine: socket", "engine: clock", "server", "server: key", "server: engine"):
        assert found[name]["status"] == "ok", found[name]
