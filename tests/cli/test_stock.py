"""Images, builds, volumes, workspaces and what is tidied up."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_server import RuntimeServerClient
from runtime_server.cli import building
from tests.cli.conftest import Run, data, lines

BOSS = {"RUNTIME_SERVER_API_KEY": "key-of-boss"}


def test_pull(run: Run) -> None:
    result = run("pull", "busybox")
    assert result.stdout == "busybox\n"
    assert "0a1b2c3d4e5f: Downloading\n" in result.stderr
    assert "0a1b2c3d4e5f: Pull complete\n" in result.stderr
    assert run("pull", "-q", "busybox").output == "busybox\n"
    told = lines(run("pull", "-o", "json", "busybox"))
    assert (told[-1]["image"], told[-1]["status"]) == ("busybox", "complete")
    assert "0a1b2c3d4e5f" in {each["layer"] for each in told}
    run("pull", "--username", "me", "busybox", input="secret\n")
    run("pull", "--password-stdin", "busybox", code=2)
    run("pull", "nothing-like-it", code=3)


def test_images(run: Run, client: RuntimeServerClient) -> None:
    listed = data(run("images", "-o", "json"))
    assert listed == [each.model_dump(mode="json") for each in client.list_images()]
    header, *rows = run("images").stdout.splitlines()
    assert header.split() == ["IMAGE", "ID", "CREATED", "SIZE"]
    assert any(row.startswith("busybox:latest") for row in rows)
    ids = run("images", "-q").stdout.split()
    assert [each["image_id"].removeprefix("sha256:")[:12] for each in listed] == ids
    run("rmi", "busybox", code=4)


def test_build(run: Run, client: RuntimeServerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "LOOK", 0.01)
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo built\n")
    image = "registry.example.com/boxes/agent:1"
    result = run("build", "-t", "agent:1", "--tag", f"{image}-too", str(tmp_path))
    assert result.stdout == f"{image}\n"
    assert "#1 FROM busybox" in result.stderr
    assert client.image_exists(image)
    assert client.image_exists(f"{image}-too")
    found = data(run("build", "-o", "json", "-t", "agent:2", str(tmp_path)))
    assert found["status"] == "SUCCESS"
    build_id = run("build", "-d", "-t", "agent:3", str(tmp_path)).stdout.strip()
    assert client.wait_for_build(build_id).image.endswith("agent:3")
    (tmp_path / "Dockerfile").write_text("FROM nothing-like-it\n")
    failed = run("build", "-q", "-t", "agent:4", str(tmp_path), code=1)
    assert failed.stdout == ""
    assert "FAILURE" in failed.stderr
    (image_row,) = run("rmi", image, env=BOSS).stdout.splitlines()
    assert image_row


def test_volumes(run: Run, client: RuntimeServerClient) -> None:
    assert run("volume", "ls").stdout == "NAME  OWNER  SIZE  IN USE BY\n"
    client.start_runtime(image="busybox", name="web", volumes=[{"host_path": "cache", "container_path": "/c"}])
    (found,) = data(run("volumes", "-o", "json"))
    assert (found["name"], found["in_use_by"]) == ("cache", [client.get_runtime("web").runtime_id])
    assert run("volumes", "-q", "--size").stdout == "cache\n"
    run("volume", "rm", "cache", code=4)
    client.remove_runtime("web")
    assert run("volume", "rm", "nothing", "cache", code=3).stdout == "cache\n"
    assert data(run("volume", "ls", "-o", "json")) == []


def test_workspaces(run: Run, client: RuntimeServerClient) -> None:
    started = client.start_runtime(image="busybox", session_id="s1", workspace="/w")
    (found,) = data(run("workspaces", "-o", "json"))
    assert found["session_id"] == "s1"
    assert started.runtime_id in run("workspace", "ls").stdout
    assert run("workspaces", "-q").stdout.strip() == found["workspace_id"]
    run("workspace", "rm", "s1", code=4)
    client.remove_runtime(started.runtime_id)
    (gone,) = data(run("workspace", "rm", "-o", "json", "s1"))
    assert gone["workspace_id"] == found["workspace_id"]


def test_prune(run: Run, client: RuntimeServerClient) -> None:
    assert run("prune", "--dry-run").stdout == "There is nothing to remove.\n"
    ended = client.start_runtime(image="busybox", name="a").runtime_id
    client.stop_runtime("a", timeout=0)
    assert run("prune", "--dry-run").stdout == f"Would remove runtime {ended}\n"
    refused = run("prune", code=1, input="n\n")
    assert f"Would remove runtime {ended}\n" in refused.stdout
    assert client.get_runtime("a").status == "stopped"
    assert data(run("prune", "-f", "--older-than", "1h", "-o", "json"))["runtimes"] == []
    report = data(run("prune", "-f", "-o", "json"))
    assert (report["dry_run"], report["runtimes"], report["workspaces"]) == (False, [ended], [])
    run("prune", "-f", "--build-cache", code=4)


@pytest.mark.parametrize("word", ["y\n"])
def test_prune_asks(run: Run, client: RuntimeServerClient, word: str) -> None:
    ended = client.start_runtime(image="busybox", name="a").runtime_id
    client.stop_runtime("a", timeout=0)
    assert f"Removed runtime {ended}\n" in run("prune", input=word).stdout
