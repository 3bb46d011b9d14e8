"""Records that are lost, of another age, or contradicted by the engine."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest

from runtime_server.client.client import RuntimeServerClient
from runtime_server.client.retry import RetryPolicy
from runtime_server.errors import RuntimeNotFound
from runtime_server.models import Runtime
from tests.faults.server import DEADLINE, Server, Site, eventually, job
from tests.faults.tally import GONE, Tally


def _lose_database(site: Site, server: Server) -> None:
    server.stop()
    lost = list(site.state_dir.glob("state.db*"))
    assert lost
    for file in lost:
        file.unlink()


def _lasting(runtime: Runtime) -> dict[str, Any]:
    """What a record must say again once it has been rebuilt."""
    # Its history was in the database alone.
    kept = runtime.model_dump(exclude={"status_detail", "events"})
    return {name: value for name, value in kept.items() if name not in ("created", "warnings")}


def test_a_lost_database_is_rebuilt_from_labels(site: Site, tally: Tally) -> None:
    server = site.start()
    # Patient enough for a server that starts on a busy machine.
    with server.client(retry=RetryPolicy(max_attempts=1000, deadline=DEADLINE)) as client:
        asked = {"name": "alias", "session_id": "session", "workspace": "/workspace", "ttl": 3600, "retention": 60}
        full = client.start_runtime(job("full", **asked))
        paused = client.start_runtime(job("paused", session_id="other", labels={"of": "mine"}))
        ended = client.start_runtime(job("ended"))
        # Containers' labels don't tell what was changed since: that is kept beside the database.
        client.update_runtime("alias", memory="64m", pids_limit=100, labels={"since": "changed"}, retention=90)
        client.pause_runtime(paused.runtime_id)
        client.stop_runtime(ended.runtime_id, timeout=0)
        before = {each: client.get_runtime(each) for each in (full.runtime_id, paused.runtime_id, ended.runtime_id)}

        _lose_database(site, server)
        tally.fault("database deleted")
        server.start(wait=False)
        # From the very first call on, a session that is alive must not be started a second time.
        joined = client.start_runtime(job("full", **asked))
        assert (joined.runtime_id, joined.created) == (full.runtime_id, False)
        assert client.get_runtime("alias").runtime_id == full.runtime_id
        tally.operation(7)
        for runtime_id, known in before.items():
            assert _lasting(client.get_runtime(runtime_id)) == _lasting(known)
        assert joined.session_api_key == full.session_api_key is not None
        assert joined.workspace == full.workspace is not None
        assert client.get_workspace("session").in_use_by == [full.runtime_id]
        tally.verify(site, client, {"full": "running", "paused": "paused", "ended": "exited"})
        client.resume_runtime(paused.runtime_id)
        client.remove_runtime("alias")
        tally.operation(2)
        tally.verify(site, client, {"full": GONE, "paused": "running", "ended": "exited"})


def test_an_older_server_refuses_a_newer_schema(site: Site, server: Server, client: RuntimeServerClient) -> None:
    kept = client.start_runtime(job("kept"))
    server.stop()
    with contextlib.closing(sqlite3.connect(site.state_dir / "state.db")) as database:
        revision = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = 'of-the-future'")
        database.commit()
    with pytest.raises(AssertionError, match="made by a newer version of Runtime Server"):
        server.start()
    assert "Traceback" not in server.log
    assert site.states() == [("kept", "running")]
    with contextlib.closing(sqlite3.connect(site.state_dir / "state.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", revision)
        database.commit()
    server.restart()
    assert client.get_runtime(kept.runtime_id).status == "running"


def test_what_happens_behind_our_back_is_recorded(site: Site, client: RuntimeServerClient, tally: Tally) -> None:
    removed = client.start_runtime(job("removed"))
    killed = client.start_runtime(job("killed", init=False))
    paused = client.start_runtime(job("paused"))
    site.docker.remove_container(removed.runtime_id, force=True)
    site.docker.kill(killed.runtime_id, "KILL")
    site.docker.pause(paused.runtime_id)
    tally.operation(3)
    for kind in ("container removed", "container killed", "container paused"):
        tally.fault(kind)

    gone = client.wait_until(removed.runtime_id, "removed")
    ended = client.wait_until(killed.runtime_id, "stopped")
    client.wait_until(paused.runtime_id, "paused")
    assert gone.exit is not None
    assert (gone.exit.exit_code, gone.exit.signal) == (137, "SIGKILL")
    assert ended.exit is not None
    assert (ended.exit.exit_code, ended.exit.oom_killed) == (137, False)
    tally.verify(site, client, {"removed": GONE, "killed": "exited", "paused": "paused"})


@pytest.mark.parametrize(
    ("script", "limits", "status", "exit_code", "oom_killed"),
    [
        ("exit 0", {}, "stopped", 0, False),
        ("exit 7", {}, "error", 7, False),
        ("a=x; while :; do a=$a$a; done", {"memory": "8m"}, "error", 137, True),
    ],
    ids=["success", "failure", "memory"],
)
def test_how_a_process_ends_is_recorded(
    client: RuntimeServerClient, script: str, limits: dict[str, Any], status: str, exit_code: int, oom_killed: bool
) -> None:
    begun = client.start_runtime(job("ends", command=["/bin/sh", "-c", f"sleep 0.5; {script}"], **limits))
    ended = eventually(
        lambda: (found := client.get_runtime(begun.runtime_id)).status not in ("starting", "running") and found,
        "it ends",
    )
    assert isinstance(ended, Runtime)
    assert ended.status == status
    assert ended.exit is not None
    assert (ended.exit.exit_code, ended.exit.oom_killed) == (exit_code, oom_killed)
    assert ended.stopped_at is not None


def test_auto_remove_keeps_the_exit_record(site: Site, client: RuntimeServerClient, tally: Tally) -> None:
    script = "echo last words; sleep 0.3; exit 3"
    begun = client.start_runtime(job("automatic", command=["/bin/sh", "-c", script], auto_remove=True))
    gone = client.wait_until(begun.runtime_id, "removed")
    tally.operation()
    assert gone.exit is not None
    assert gone.exit.exit_code == 3
    assert "last words" in (gone.logs or "")
    tally.verify(site, client, {"automatic": GONE})


def test_what_never_was_is_not_found_after_the_loss(site: Site, server: Server, client: RuntimeServerClient) -> None:
    _lose_database(site, server)
    server.start()
    with pytest.raises(RuntimeNotFound):
        client.get_runtime("runtime-000000000000")
