"""A shell, live output and usage of a container on a real engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker import APIClient
from selenium.webdriver import Chrome, Keys

from tests.dashboard.page import Page
from tests.dashboard.serving import REAL, Server, eventually, served
from tests.engine import images
from tests.engine.conftest import docker_client  # noqa: F401 - a fixture

SCREEN = "return document.querySelector('.xterm-rows')?.textContent || ''"
RED = """
const cells = [...document.querySelectorAll('.xterm-rows span')];
return cells.filter(cell => cell.style.color === 'rgb(200, 10, 20)').length;
"""
SAMPLES = "return Number(document.querySelector('.chart[data-chart=cpu]')?.dataset.samples || 0)"


@pytest.fixture
def real(tmp_path_factory: pytest.TempPathFactory, docker_client: APIClient) -> Iterator[Server]:  # noqa: F811
    images.make(docker_client)
    with served(tmp_path_factory.mktemp("engine"), REAL) as server:
        try:
            yield server
        finally:
            server.command("purge", "--yes")


def test_a_shell_live_output_and_usage(browser: Chrome, real: Server) -> None:
    page = Page(browser, real)
    page.enter()
    with real.client() as client:
        command = ["/bin/sh", "-c", "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.5; done"]
        runtime = client.start_runtime(image=images.BUSYBOX, name="real", command=command, network="none")
    page.open(f"#/runtimes/{runtime.runtime_id}/terminal")
    eventually(lambda: page.text(".panel .count") == "Connected", "the terminal is open")
    page.press("echo $((6*7))answer", Keys.ENTER)
    eventually(lambda: "42answer" in page.run(SCREEN), "the shell answers")
    page.press("echo -e '\\033[38;2;200;10;20mred'", Keys.ENTER)
    eventually(lambda: page.run(RED) > 0, "colours that have no class are shown")
    page.press("exit 3", Keys.ENTER)
    eventually(lambda: "ended with 3" in page.text(".panel .count"), "the end is told")

    page.click("#tab-logs")
    eventually(lambda: "line 2" in page.text(".logs"), "what has been written is there")
    count = page.text(".logs").count("line")
    eventually(lambda: page.text(".logs").count("line") > count, "and what is written now")
    page.click("#tab-usage")
    eventually(lambda: page.run(SAMPLES) >= 2, "it is measured")
    assert "CPUs" in page.text(".chart[data-chart=cpu]")
    assert not page.complaints()
    browser.get("about:blank")
