"""A session's life, by ``APIRemoteWorkspace``.

The tests go on from one another, since an agent server takes long to boot.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.faults.server import Server, Site, eventually
from tests.openhands.conftest import Connect

if TYPE_CHECKING:
    from openhands.workspace import APIRemoteWorkspace

# The packages under test warn of their own dependencies.
pytestmark = pytest.mark.filterwarnings("ignore")

SESSION = "agent-server-of-the-tests"
TERMINAL = """
from openhands.tools.terminal.definition import TerminalAction
from openhands.tools.terminal.terminal import create_terminal_session
session = create_terminal_session(work_dir="/workspace/project", terminal_type="tmux")
session.initialize()
session.execute(TerminalAction(command="answer=$((6 * 7))"))
print(session.execute(TerminalAction(command="echo answer: $answer")).text)
session.close()
"""


@pytest.fixture(scope="module")
def workspace(server: Server, connect_to: Connect) -> APIRemoteWorkspace:
    return connect_to(server, SESSION)


def run(workspace: APIRemoteWorkspace, command: str, **options: Any) -> str:
    """What a command writes that must succeed."""
    result = workspace.execute_command(command, **{"timeout": 60.0, **options})
    assert result.exit_code == 0, f"{result.stdout}\n{result.stderr}"
    return str(result.stdout).strip()


def session(site: Site, server: Server) -> dict[str, Any]:
    answer = requests.get(f"{server.base_url}/sessions/{SESSION}", headers={"X-API-Key": site.key}, timeout=60)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def test_it_starts(workspace: APIRemoteWorkspace, site: Site, server: Server) -> None:
    assert workspace.alive
    found = session(site, server)
    assert (found["status"], found["pod_status"], found["restart_count"]) == ("running", "Ready", 0)
    assert workspace.host == found["url"]
    assert workspace.api_key == found["session_api_key"]
    assert "sysbox-runc" in found["status_detail"], "it says that the host lacks what the client asks for"
    assert requests.get(f"{workspace.host}/api/bash/bash_events/search", timeout=60).status_code == 401


def test_it_runs_commands(workspace: APIRemoteWorkspace) -> None:
    assert run(workspace, "id -un; id -u; pwd", cwd="/workspace/project").split() == [
        "openhands",
        "10001",
        "/workspace/project",
    ]
    failed = workspace.execute_command("echo on stderr >&2; exit 3")
    assert (failed.exit_code, failed.stderr.strip()) == (3, "on stderr")
    # Client and agent server both end it, and only one of them calls it a timeout.
    assert workspace.execute_command("sleep 60", timeout=1).exit_code == -1
    assert run(workspace, "git init -q repo && git -C repo status -s", cwd="/workspace/project") == ""


def test_sudo_works(workspace: APIRemoteWorkspace) -> None:
    assert run(workspace, "sudo -n id -u && sudo -n install -d -o nobody /srv/theirs && stat -c %U /srv/theirs") == (
        "0\nnobody"
    )


def test_the_terminal_tool_works(workspace: APIRemoteWorkspace, tmp_path: Path) -> None:
    """What agents run commands with: tmux."""
    script = tmp_path / "terminal.py"
    script.write_text(TERMINAL)
    assert workspace.file_upload(script, "/tmp/terminal.py").success
    assert "answer: 42" in run(workspace, "cd /tmp && python3 terminal.py", timeout=120.0)


def test_files_go_there_and_back(workspace: APIRemoteWorkspace, tmp_path: Path) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(secrets.token_bytes(3_000_000))
    uploaded = workspace.file_upload(sent, "/workspace/project/folder of its own/file")
    assert (uploaded.success, uploaded.file_size) == (True, 3_000_000)
    assert workspace.file_download("/workspace/project/folder of its own/file", got).success
    assert got.read_bytes() == sent.read_bytes()
    assert not workspace.file_download("/workspace/project/none", got).success


def test_a_pause_freezes_and_a_resume_goes_on(workspace: APIRemoteWorkspace) -> None:
    run(workspace, "(while :; do echo x >>/tmp/ticks; sleep 0.1; done) >/dev/null 2>&1 & echo $! >/tmp/pid")
    before = (workspace.host, workspace.api_key)
    workspace.pause()
    assert not workspace.alive
    workspace.resume()

    assert workspace.alive
    assert (workspace.host, workspace.api_key) == before
    ticks = int(run(workspace, "kill -0 $(cat /tmp/pid) && wc -l </tmp/ticks"))
    eventually(lambda: int(run(workspace, "wc -l </tmp/ticks")) > ticks, "the process goes on")
    run(workspace, "kill $(cat /tmp/pid)")


def test_another_client_attaches(workspace: APIRemoteWorkspace, server: Server, connect_to: Connect) -> None:
    other = connect_to(server, SESSION)
    assert (other.host, other.api_key) == (workspace.host, workspace.api_key)
    run(other, "echo theirs >/tmp/from-the-other")
    other.cleanup()
    assert run(workspace, "cat /tmp/from-the-other") == "theirs"


def test_another_client_resumes_a_paused_one(
    workspace: APIRemoteWorkspace, server: Server, connect_to: Connect
) -> None:
    connect_to(server, SESSION, keep_alive=False, pause_on_close=True).cleanup()
    assert not workspace.alive
    other = connect_to(server, SESSION)
    assert (other.host, other.api_key) == (workspace.host, workspace.api_key)
    assert run(other, "cat /tmp/from-the-other") == "theirs"


def test_it_outlives_the_server(
    workspace: APIRemoteWorkspace, site: Site, server: Server, connect_to: Connect
) -> None:
    before = session(site, server)
    server.stop()
    assert run(workspace, "cat /tmp/from-the-other") == "theirs"
    server.start()
    after = session(site, server)
    for name in ("runtime_id", "url", "session_api_key", "status", "pod_status"):
        assert after[name] == before[name]
    assert run(connect_to(server, SESSION), "cat /tmp/from-the-other") == "theirs"


def test_it_stops(workspace: APIRemoteWorkspace, site: Site, server: Server, connect_to: Connect) -> None:
    with connect_to(server, SESSION, keep_alive=False):
        pass
    assert not workspace.alive
    found = session(site, server)
    assert (found["status"], found["pod_status"]) == ("stopped", "Not Found")
    assert found["exit"]["signal"] == "SIGTERM", "the agent server ends by itself, within its grace"


def test_it_starts_afresh_in_its_workspace_and_by_default_without_sudo(site: Site, connect_to: Connect) -> None:
    server = site.start(env={"RUNTIME_SERVER_WORKSPACE": "/workspace"})
    before = session(site, server)["runtime_id"]
    fresh = connect_to(server, SESSION)
    assert session(site, server)["runtime_id"] != before
    assert run(fresh, "test -e /tmp/from-the-other || echo nothing left") == "nothing left"
    assert run(fresh, "stat -c '%s %U' '/workspace/project/folder of its own/file'") == "3000000 openhands"
    run(fresh, "touch /workspace/project/mine")
    refused = fresh.execute_command("sudo -n true")
    assert refused.exit_code != 0
    assert "no new privileges" in refused.stderr


def test_what_can_not_start_says_why(server: Server, connect_to: Connect) -> None:
    with pytest.raises(ValueError, match=r"failed|ImagePull"):
        connect_to(server, "session-without-image", server_image="runtime-server-test/missing:latest")
