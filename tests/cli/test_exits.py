"""Exit codes, and how errors are told."""

from __future__ import annotations

import json
import socket

import pytest
from click.testing import CliRunner

from runtime_server import errors
from runtime_server.cli.exits import exit_code, tell
from runtime_server.cli.main import main
from tests.cli.conftest import Run

OTHERS = {
    "bad-request": 2,
    "engine-timeout": 5,
    "engine-unreachable": 5,
    "internal-error": 1,
    "runtime-not-found": 3,
    "server-draining": 4,
    "server-unavailable": 5,
    "storage-unavailable": 1,
    "too-many-streams": 4,
    "unauthorized": 4,
    "validation-failed": 2,
}


@pytest.mark.parametrize("code", OTHERS)
def test_problems(code: str) -> None:
    assert exit_code(errors.CATALOGUE[code]()) == OTHERS[code]


def test_each_problem_of_a_kind_has_its_code() -> None:
    for problem in errors.CATALOGUE.values():
        found, status = exit_code(problem()), problem.status
        assert (found == 3) == (status == 404)
        assert found == 4 or status not in (401, 403, 409, 429)
        assert found == 2 or status not in (400, 413, 415, 422)


def test_errors_of_the_way() -> None:
    late = errors.DeadlineExceeded("late")
    assert exit_code(late) == 1
    late.__cause__ = errors.ServerUnreachable("gone")
    assert exit_code(late) == exit_code(errors.ServerTimeout("slow")) == 5
    assert exit_code(errors.IncompatibleServer("what")) == 1


def test_refused_and_not_reached(run: Run) -> None:
    assert "API key" in run("ls", code=4, env={"RUNTIME_SERVER_API_KEY": "wrong"}).stderr
    run("start", "--memory", "-3", "busybox", code=2)
    run("start", "--privileged", "busybox", code=4)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    result = CliRunner().invoke(main, ["--url", url, "ls", "-o", "json"])
    assert result.exit_code == 5
    told = json.loads(result.stderr)
    assert told["code"] == "unreachable"
    assert told["detail"].startswith(f"{url} can't be reached")
    assert CliRunner().invoke(main, ["ls", "--url", "ftp://x"]).exit_code == 2


def test_what_an_error_tells(capsys: pytest.CaptureFixture[str]) -> None:
    problem = errors.ValidationFailed("Wrong.", errors=[{"loc": ["body", "image"], "msg": "bad", "type": "x"}])
    tell(problem, as_json=False, about="web")
    assert capsys.readouterr().err == "Error: web: Wrong.\n  body.image: bad\n"
    tell(errors.PolicyRefused("No\x1b[2J.", setting="RUNTIME_SERVER_X"), as_json=False)
    assert capsys.readouterr().err == "Error: No�[2J.\nThe server's RUNTIME_SERVER_X rules that.\n"
    failed = errors.InternalError("Oh.")
    failed.request_id = "r1"
    tell(failed, as_json=False)
    assert "r1" in capsys.readouterr().err
    tell(problem, as_json=True)
    assert json.loads(capsys.readouterr().err)["errors"][0]["msg"] == "bad"
