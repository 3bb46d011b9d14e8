"""Logs and commands."""

from __future__ import annotations

import json

import pytest

from runtime_server import RuntimeServerClient
from tests.cli.conftest import Run, data, lines


@pytest.fixture
def runtime(client: RuntimeServerClient) -> str:
    return client.start_runtime(image="busybox", name="web").runtime_id


def test_exec_gives_the_commands_output_and_exit_code(run: Run, runtime: str) -> None:
    result = run("exec", "web", "sh", "-c", "echo oh >&2; exit 7", code=7)
    assert (result.stdout, result.stderr) == ("", "oh\n")
    assert run("exec", "-w", "/srv", "-u", "root", "-e", "A=1", "web", "echo", "-n", "a b").stdout == "-n a b\n"
    assert run("exec", "-t", "web", "echo", "a").stdout == "a\n"


def test_exec_passes_bytes_in_and_out(run: Run, runtime: str) -> None:
    assert run("exec", "-i", "web", "cat", input=b"\xff\x00\n").stdout_bytes == b"\xff\x00\n"


def test_exec_as_json(run: Run, runtime: str) -> None:
    found = data(run("exec", "-o", "json", "-i", "web", "cat", input="in"))
    assert (found["exit_code"], found["stdout"], found["timed_out"]) == (0, "in", False)
    assert data(run("exec", "-o", "json", "web", "false", code=1))["exit_code"] == 1


@pytest.mark.parametrize("output", ["table", "json"])
def test_exec_of_what_isnt_there(run: Run, client: RuntimeServerClient, runtime: str, output: str) -> None:
    run("exec", "-o", output, "web", "nothing", code=127)
    run("exec", "-o", output, "web", "/etc/passwd", code=126)
    run("exec", "-o", output, "nothing", "true", code=3)
    client.pause_runtime("web")
    assert "paused" in run("exec", "-o", output, "web", "true", code=4).stderr


def test_exec_is_killed_at_its_timeout(run: Run, runtime: str) -> None:
    result = run("exec", "--timeout", "0.1", "web", "sleep", "100", code=137)
    assert "--timeout" in result.stderr


def test_exec_refuses_what_cant_be(run: Run, runtime: str) -> None:
    assert "must be a terminal" in run("exec", "-it", "web", code=2).stderr
    assert "A command is needed" in run("exec", "web", code=2).stderr
    run("exec", "-it", "--timeout", "3", "web", code=2)
    run("exec", "-it", "-o", "json", "web", code=2)


def test_logs(run: Run, client: RuntimeServerClient) -> None:
    client.start_runtime(image="busybox", name="said", command=["sh", "-c", "echo one two; exit 0"])
    client.start_runtime(image="busybox", name="cried", command=["sh", "-c", "echo ouch >&2; exit 0"])
    for name in ("said", "cried"):
        client.wait_until(name, "stopped")
    assert run("logs", "said").stdout == "one two\n"
    result = run("logs", "--follow", "cried")
    assert (result.stdout, result.stderr) == ("", "ouch\n")
    assert run("logs", "--stdout", "cried").stderr == ""
    (line,) = lines(run("logs", "-o", "json", "--tail", "1", "said"))
    assert (line["stream"], line["line"]) == ("stdout", "one two\n")
    assert run("logs", "-t", "said").stdout == f"{line['time']} one two\n"
    assert run("logs", "--since", "2999-01-01T00:00:00Z", "said").stdout == ""
    run("logs", "--tail", "few", "said", code=2)
    assert json.loads(run("logs", "-o", "json", "nothing", code=3).stderr)["code"] == "runtime-not-found"


def test_ctrl_c_is_told_by_the_exit_code(run: Run, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RuntimeServerClient, "logs", interrupted)
    assert run("logs", "-f", "web", code=130).output == ""
