"""Metrics of real servers: two on one state directory, several workers each, one of which is killed."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import requests
from docker import APIClient

from runtime_server.metrics.shared import Shared
from tests.engine.images import BUSYBOX
from tests.faults.registry import Registry
from tests.faults.server import Server, Site, eventually, job

ADMIN = "key-of-an-admin"
REQUESTS = 40


def started(site: Site) -> Server:
    keys = f"tester:{site.key},ops+admin:{ADMIN}"
    server = site.server(workers=2, env={"RUNTIME_SERVER_API_KEYS": keys})
    server.command = (sys.executable, "-m", "runtime_server")
    server.start()
    return server


def scraped(server: Server) -> dict[str, float]:
    answer = requests.get(f"{server.base_url}/metrics", headers={"X-API-Key": ADMIN}, timeout=60)
    answer.raise_for_status()
    lines = (line for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def sample(name: str, **labels: str) -> str:
    told = ",".join(f'{key}="{each}"' for key, each in sorted(labels.items()))
    return f"runtime_server_{name}" + (f"{{{told}}}" if told else "")


MISSING = sample("http_requests_total", method="GET", route="/runtimes/{runtime_id}", status="404")


def test_servers_and_workers_are_counted_as_one(site: Site) -> None:
    first, second = started(site), started(site)

    def ask(times: int) -> None:
        for number in range(times):
            server = (first, second)[number % 2]
            headers = {"X-API-Key": site.key, "Connection": "close"}
            answer = requests.get(f"{server.base_url}/runtimes/runtime-000000000000", headers=headers, timeout=60)
            assert answer.status_code == 404

    ask(REQUESTS)
    assert [scraped(each)[MISSING] for each in (first, second)] == [REQUESTS, REQUESTS]

    before = eventually(lambda: found if len(found := first.worker_pids()) == 2 else None, "two workers")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(first.worker_pids()) - set(before)) == 2, "new workers")
    first.wait_ready()
    assert [scraped(each)[MISSING] for each in (first, second)] == [REQUESTS, REQUESTS]
    ask(REQUESTS)
    assert [scraped(each)[MISSING] for each in (first, second)] == [2 * REQUESTS, 2 * REQUESTS]
    places = scraped(second)[sample("slow_lane_places")]
    assert places == 4 * 12  # of four living workers

    assert first.stop() == 0
    assert scraped(second)[MISSING] == 2 * REQUESTS
    assert scraped(second)[sample("slow_lane_places")] == places / 2
    assert second.stop() == 0
    assert not Shared(site.state_dir).folder.exists()


def test_a_life_is_told_by_its_phases(site: Site) -> None:
    server = started(site)
    url, headers = server.base_url, {"X-API-Key": site.key}

    def ask(path: str, body: dict[str, object]) -> tuple[dict[str, float], dict[str, object]]:
        answer = requests.post(url + path, json=body, headers=headers, timeout=120)
        assert answer.ok, answer.text
        parts = (part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
        return {name: float(ms) for name, ms in parts}, answer.json()

    start, runtime = ask("/start", {**job("one"), "wait": 60})
    assert set(start) == {"policy", "store", "create", "start", "engine", "total"}
    assert start["create"] + start["start"] <= start["engine"] <= start["total"]
    body: dict[str, object] = {"runtime_id": runtime["runtime_id"]}
    pause, _ = ask("/pause", body)
    assert set(pause) == {"store", "engine", "total"}
    assert pause["engine"] + pause["store"] <= pause["total"] + 0.02  # each is rounded
    listed = scraped(server)
    assert listed[sample("runtimes", owner="tester", state="paused")] == 1
    ready = {"type": "command", "command": ["/bin/true"]}
    readied, _ = ask("/start", {**job("two"), "wait": 60, "readiness": ready})
    assert readied["ready"] > 0
    ask("/stop", {**body, "timeout": 0, "remove": True})

    found = scraped(server)
    for action, phase in (("start", "create"), ("start", "ready"), ("pause", "engine"), ("stop", "engine")):
        assert found[sample("lifecycle_duration_seconds_count", action=action, phase=phase)] > 0
    for operation in ("create", "start", "inspect", "pause", "stop", "remove"):
        assert found[sample("engine_calls_total", operation=operation, outcome="ok")] > 0
        assert found[sample("engine_call_duration_seconds_count", operation=operation)] > 0
    assert found[sample("starts_total", outcome="ok")] == 2
    assert found[sample("reconciler_up")] == 1
    assert found[sample("reconciler_sweeps_total")] >= 1
    assert server.stop() == 0


NAMED = {"policy", "store", "pull", "create", "start", "ready"}
"""The phases that a start can have, but for the queue."""


def test_a_start_with_all_phases_tells_them_and_counts_its_pull(
    site: Site, tmp_path: Path, docker_client: APIClient
) -> None:
    registry = Registry(tmp_path / "registry", docker_client)
    try:
        server = started(site)
        ready = {"type": "command", "command": ["/bin/true"]}
        fields = {"image": registry.push("phases"), "readiness": ready, "wait": 60, "network": "none"}
        fields["command"] = ["/bin/sleep", "1000"]
        headers = {"X-API-Key": site.key}
        answer = requests.post(f"{server.base_url}/start", json=fields, headers=headers, timeout=120)
        assert answer.json()["status"] == "running", answer.text
        told = dict(part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
        assert set(told) >= NAMED
        assert all(float(told[each]) > 0 for each in NAMED)
        missing = registry.host + "/phases:none"
        refused = requests.post(
            f"{server.base_url}/start", json={**fields, "image": missing}, headers=headers, timeout=120
        )
        assert refused.json()["code"] == "image-not-found"
        found = scraped(server)
        assert found[sample("pulls_total", outcome="ok")] == 1
        assert found[sample("pulls_total", outcome="image-not-found")] == 1
        assert found[sample("pull_duration_seconds_count")] == 2
        assert found[sample("pulls_in_progress")] == 0
        for phase in NAMED:
            assert found[sample("lifecycle_duration_seconds_count", action="start", phase=phase)] >= 1
    finally:
        site.close()  # containers first: an image that one uses stays
        registry.close()


def test_no_label_holds_what_a_caller_chose(site: Site) -> None:
    server = started(site)
    headers = {"X-API-Key": site.key}
    fields = {"image": BUSYBOX, "name": "hidden-name", "environment": {"TOKEN": "hidden-value"}, "network": "none"}
    requests.post(f"{server.base_url}/start", json=fields, headers=headers, timeout=120)
    requests.get(f"{server.base_url}/hidden/path?hidden=query", headers=headers, timeout=60)
    text = requests.get(f"{server.base_url}/metrics", headers={"X-API-Key": ADMIN}, timeout=60).text
    assert "hidden" not in text
    assert site.key not in text
    assert ADMIN not in text
    assert not re.search(r"runtime-[0-9a-f]{12}", text)
