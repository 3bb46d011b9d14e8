"""Which server a command works on, and with which key."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from runtime_server.cli.connection import Given, Server, choose, given_of
from runtime_server.cli.main import main


def context(*arguments: str, code: int = 0, input: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["context", *arguments], input=input)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def file(home: Path) -> Path:
    return home / "config" / "runtime-server" / "contexts.json"


def test_a_context_is_kept_for_its_user_alone(file: Path) -> None:
    assert context("ls").stdout == "NAME  URL  KEY\n"
    context("add", "ci", "--url", "https://ci.example.com/api/", "--api-key-stdin", input="secret\n")
    context("add", "here", "--url", "http://127.0.0.1:8090", "--use")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [each.name for each in file.parent.iterdir()] == ["contexts.json"]
    listed = context("ls")
    assert "secret" not in listed.output
    assert listed.stdout.splitlines()[1:] == [
        "ci      https://ci.example.com/api  yes",
        "here *  http://127.0.0.1:8090",
    ]
    assert json.loads(context("ls", "-o", "json").stdout) == [
        {"name": "ci", "url": "https://ci.example.com/api", "has_key": True, "in_use": False},
        {"name": "here", "url": "http://127.0.0.1:8090", "has_key": False, "in_use": True},
    ]
    context("use", "ci")
    context("rm", "ci")
    assert json.loads(file.read_text())["current"] is None


def test_what_no_context_can_be(file: Path) -> None:
    context("add", "a b", "--url", "http://x", code=1)
    context("add", "a", "--url", "ftp://x", code=2)
    context("add", "a", "--url", "http://user:word@x", code=2)
    context("add", "a", "--url", "http://x", "--api-key", "k", "--api-key-stdin", code=2)
    context("use", "nothing", code=1)
    context("use", code=2)
    context("use", "a", "--none", code=2)
    context("rm", "nothing", code=1)
    assert not file.exists()


def test_a_file_that_others_can_read_or_nobody_understands(file: Path) -> None:
    context("add", "a", "--url", "http://x", "--use")
    file.chmod(0o644)
    assert "chmod 600" in context("ls", code=1).stderr
    assert CliRunner().invoke(main, ["ls"]).exit_code == 2
    file.chmod(0o600)
    file.write_text('{"contexts": 3}')
    assert "isn't a file of contexts" in context("ls", code=1).stderr


def test_which_server_is_chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(Given()) == Server(None, None)
    context("add", "ci", "--url", "http://ci", "--api-key", "key-of-ci")
    context("add", "used", "--url", "http://used", "--use")
    assert choose(Given()) == Server("http://used", None)
    assert choose(Given(api_key="mine")) == Server("http://used", "mine")
    assert choose(Given(context="ci")) == Server("http://ci", "key-of-ci")
    assert choose(Given(context="ci", api_key="mine")) == Server("http://ci", "mine")
    # No context's key goes to a server that is named otherwise.
    assert choose(Given(url="http://other")) == Server("http://other", None)
    monkeypatch.setenv("RUNTIME_SERVER_URL", "http://environment")
    assert choose(Given()) == Server(None, None)
    assert choose(Given(context="ci")).url == "http://ci"
    monkeypatch.setenv("RUNTIME_SERVER_CONTEXT", "ci")
    assert choose(Given()).url == "http://ci"
    assert choose(Given(url="http://other")) == Server("http://other", None)
    for wrong in (Given(url="http://a", context="ci"), Given(context="nothing")):
        with pytest.raises(click.UsageError):
            choose(wrong)


def test_options_of_the_command_win_over_those_before_it() -> None:
    before = Given("http://before", "key", None, "json")
    assert Given().over(before) == before
    assert Given(url="http://mine").over(before) == Given("http://mine", "key", None, "json")
    assert Given(context="ci", output="table").over(before) == Given(None, "key", "ci", "table")
    assert "key" not in repr(Given(api_key="key")) + repr(Server(None, "key"))
    assert given_of({"url": "u", "api_key": "k", "context_name": "c", "output": "o"}) == Given("u", "k", "c", "o")
