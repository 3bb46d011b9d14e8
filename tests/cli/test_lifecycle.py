"""Runtimes from their start to their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_server import RuntimeServerClient
from runtime_server.cli import watching
from runtime_server.cli.connection import Given, Session
from tests.cli.conftest import Run, data, lines


def test_a_whole_life(run: Run, client: RuntimeServerClient) -> None:
    started = run("start", "--name", "web", "-p", "8000", "-e", "A=1", "-l", "team=blue", "busybox", "sleep", "-x")
    runtime_id = started.stdout.strip()
    found = client.get_runtime("web", environment="values")
    assert (found.runtime_id, found.image, found.status) == (runtime_id, "busybox", "running")
    assert (found.environment, found.labels) == ({"A": "1"}, {"team": "blue"})
    assert list(found.ports) == ["8000/tcp"]
    assert run("pause", "web").stdout == "web\n"
    assert client.get_runtime("web").status == "paused"
    assert run("unpause", "web").stdout == "web\n"
    assert run("stop", "-t", "0", "web").stdout == "web\n"
    assert client.get_runtime("web").status == "stopped"
    assert run("restart", "web").stdout == "web\n"
    assert client.get_runtime("web").status == "running"
    assert [each["status"] for each in data(run("history", "-o", "json", "web"))][-1] == "running"
    assert "stop it before" in run("rm", "web", code=4).stderr
    assert run("rm", "-f", "web").stdout == "web\n"
    assert client.get_runtime(runtime_id).status == "removed"


def test_json(run: Run, client: RuntimeServerClient) -> None:
    started = data(run("start", "-o", "json", "--name", "a", "busybox"))
    assert (started["name"], started["status"], started["created"]) == ("a", "running", True)
    assert data(run("inspect", "a")) == [client.get_runtime("a").model_dump(mode="json")]
    assert data(run("ls", "-o", "json")) == [each.model_dump(mode="json") for each in client.list_runtimes()]
    (paused,) = data(run("-o", "json", "pause", "a"))
    assert (paused["name"], paused["status"], paused["changed"]) == ("a", "paused", True)
    (updated,) = data(run("update", "--memory", "64m", "-l", "x=y", "--ttl", "1h", "a", "-o", "json"))
    assert (updated["memory_bytes"], updated["labels"]) == (67_108_864, {"x": "y"})
    assert updated["expires_at"] is not None
    (never,) = data(run("update", "--label-rm", "x", "--ttl", "never", "a", "-o", "json"))
    assert (never["labels"], never["expires_at"]) == ({}, None)


def test_starts_say_only_what_was_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime_server.cli.starting import fields_of, start

    def fields(*arguments: str) -> dict[str, object]:
        given = start.make_context("start", [*arguments, "image"]).params
        for name in ("image", "command", "wait", "idempotency_key", "url", "api_key", "context_name", "output"):
            given.pop(name)
        return fields_of(given)

    assert fields() == {}
    assert fields("--no-init", "--workspace", "none", "--retention", "0", "--rm", "--gpus", "2", "-d") == {
        "init": False,
        "workspace": False,
        "retention": 0.0,
        "auto_remove": True,
        "gpus": 2,
    }
    many = (
        "-v /a:/b:ro --tmpfs /t --add-host h:1.2.3.4 --restart on-failure:2 --pull always --cap-drop ALL --gpus all"
    )
    assert fields(*many.split()) == {
        "volumes": [{"host_path": "/a", "container_path": "/b", "mode": "ro"}],
        "tmpfs": {"/t": ""},
        "extra_hosts": {"h": "1.2.3.4"},
        "restart_policy": {"Name": "on-failure", "MaximumRetryCount": 2},
        "image_pull_policy": "Always",
        "cap_drop": ["ALL"],
        "gpus": "all",
    }


def test_tables(run: Run, client: RuntimeServerClient) -> None:
    assert run("ls").stdout == "RUNTIME  NAME  IMAGE  STATUS  CREATED  PORTS  SESSION\n"
    web = client.start_runtime(image="busybox", name="web", ports=[{"container_port": 80, "host_port": 34567}])
    done = client.start_runtime(image="busybox", command=["sh", "-c", "exit 3"])
    client.wait_until(done.runtime_id, "error")
    header, first = run("ls").stdout.splitlines()
    assert header.split() == ["RUNTIME", "NAME", "IMAGE", "STATUS", "CREATED", "PORTS", "SESSION"]
    assert first.startswith(f"{web.runtime_id}  web   busybox  running")
    assert "127.0.0.1:34567->80/tcp" in first
    assert "\x1b" not in first
    assert "error (3)" in run("ps", "-a").stdout
    assert run("ls", "-q", "-f", "status=error").stdout == f"{done.runtime_id}\n"
    assert run("ls", "-q", "-f", "label=team").stdout == ""
    assert run("ls", "-q", "-f", "shape=round", code=2).stdout == ""


def test_several_go_on_after_a_failure(run: Run, client: RuntimeServerClient) -> None:
    client.start_runtime(image="busybox", name="a")
    result = run("stop", "-t", "0", "nothing", "a", code=3)
    assert result.stdout == "a\n"
    assert result.stderr == "Error: nothing: No runtime has that id or alias.\n"
    assert data(run("inspect", "nothing", "a", code=3))[0]["name"] == "a"


def test_a_waiting_start_tells_why_it_failed(run: Run) -> None:
    assert "No such image" in run("start", "nothing-like-it", code=3).stderr
    (problem,) = lines_of_error(run("start", "-o", "json", "nothing-like-it", code=3).stderr)
    assert (problem["code"], problem["status"]) == ("image-not-found", 404)


def lines_of_error(text: str) -> list[dict[str, object]]:
    import json

    return [json.loads(line) for line in text.splitlines()]


def test_an_admin_sees_whose_they_are(run: Run, client: RuntimeServerClient) -> None:
    mine = client.start_runtime(image="busybox")
    boss = {"RUNTIME_SERVER_API_KEY": "key-of-boss"}
    theirs = run("start", "busybox", env=boss).stdout.strip()
    listed = run("ls", env=boss).stdout
    assert "OWNER" in listed
    assert run("ls", "-q", "-f", "owner=boss", env=boss).stdout == f"{theirs}\n"
    assert mine.runtime_id in listed


def test_nothing_obeys_what_others_write(run: Run, client: RuntimeServerClient, home: Path) -> None:
    result = run("inspect", "no\x1b[31mthing", code=3)
    assert "\x1b" not in result.output


def test_events(run: Run, client: RuntimeServerClient) -> None:
    started = client.start_runtime(image="busybox", name="web")
    client.pause_runtime("web")
    found = lines(run("events", "--all", "--no-follow", "-o", "json", "-f", "runtime=web"))
    assert [each["status"] for each in found] == ["starting", "running", "paused"]
    later = run("events", "--since-id", str(found[1]["id"]), "--no-follow", "-f", "status=paused")
    assert f" paused {started.runtime_id} web (busybox, owner-" in later.stdout
    run("events", "-f", "shape=round", code=2)


def test_stats(run: Run, client: RuntimeServerClient) -> None:
    started = client.start_runtime(image="busybox", name="web")
    (sample,) = data(run("stats", "--no-stream", "-o", "json", "web"))
    assert sample["runtime_id"] == started.runtime_id
    header, row = run("stats", "--no-stream").stdout.splitlines()
    assert header.startswith("RUNTIME")
    assert row.startswith(started.runtime_id)
    assert run("stats", "--no-stream", "nothing", code=3).stderr.startswith("Error: nothing: ")


def test_stats_of_several_go_on_as_long_as_one_runs(client: RuntimeServerClient, home: Path) -> None:
    for name in ("a", "b"):
        client.start_runtime(image="busybox", name=name)
    session = Session(Given(output="json"))
    session._client = client
    rounds = watching._rounds(session, ("a", "b"), 0)
    assert len(next(rounds)) == 2
    client.stop_runtime("a", timeout=0)
    assert len(next(rounds)) == 1
    client.stop_runtime("b", timeout=0)
    assert list(rounds) == []


def test_stats_of_one_are_a_stream(client: RuntimeServerClient, home: Path) -> None:
    started = client.start_runtime(image="busybox", name="a")
    session = Session(Given())
    session._client = client
    (sample,) = next(watching._stream(session, "a", 1))
    assert sample.runtime_id == started.runtime_id
