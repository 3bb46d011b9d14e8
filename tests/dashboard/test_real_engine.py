"""A shell, live output and usage of a container on a real engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker import APIClient
from selenium.webdriver import Chrome, Keys

from tests.dashboard.page import Page
from tests.dashboard.serving import REAL, Server, served
from tests.engine import images
from tests.engine.conftest import docker_client  # noqa: F401 - a fixture
from tests.nginx.conftest import eventually

SCREEN = "return document.querySelector('.xterm-rows')?.textContent || ''"
RED = """
const cells = [...document.querySelectorAll('.xterm-rows span')];
return cells.filter(cell => cell.style.color === 'rgb(200, 10, 20)').length;
"""
SCROLL = "const e = document.querySelector('.logs'); e.scrollTop = 0; return e.scrollHeight > e.clientHeight + 40"
AT_END = "const e = document.querySelector('.logs'); return e.scrollHeight - e.scrollTop - e.clientHeight < 2"
LAST = "return document.querySelector('.logs > span:last-child')?.lastChild.data.trim()"
LINES = "return document.querySelectorAll('.logs > span').length"
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
        command = [
            "/bin/sh",
            "-c",
            "printf '10%%\\r20%%\\n'; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.1; done",
        ]
        runtime = client.start_runtime(image=images.BUSYBOX, name="real", command=command, network="none")
    page.open(f"#/runtimes/{runtime.runtime_id}/terminal")
    eventually(lambda: page.text(".panel .count") == "Connected", "the terminal is open")
    page.press("echo $((6*7))answer", Keys.ENTER)
    eventually(lambda: "42answer" in page.run(SCREEN), "the shell answers")
    page.press("echo -e '\\033[38;2;200;10;20mred'", Keys.ENTER)
    eventually(lambda: page.run(RED) > 0, "colours that have no class are shown")
    page.press("echo -e '\\033]0;<b>title</b>\\007done'", Keys.ENTER)
    title = page.driver.title
    eventually(lambda: "done" in page.run(SCREEN), "it is written")
    assert page.driver.title == title, "a shell can't name the page"
    page.press("exit 3", Keys.ENTER)
    eventually(lambda: "ended with 3" in page.text(".panel .count"), "the end is told")

    page.click("#tab-logs")
    eventually(lambda: "line 2" in page.text(".logs"), "what has been written is there")
    assert page.text(".logs").startswith("20%"), "of what is written over, the last is left"
    count = page.text(".logs").count("line")
    eventually(lambda: page.text(".logs").count("line") > count, "and what is written now")
    eventually(lambda: page.run(SCROLL), "there is enough to scroll")
    eventually(lambda: not page.find("#follow").is_selected(), "who scrolls up isn't taken down")
    count = page.run(LINES)
    eventually(lambda: page.run(LINES) > count, "and new lines come")
    assert page.run("return document.querySelector('.logs').scrollTop") == 0
    page.click("#follow")
    eventually(lambda: page.run(AT_END), "until they are followed again")
    page.click("#tab-usage")
    eventually(lambda: page.run(SAMPLES) >= 2, "it is measured")
    assert "CPUs" in page.text(".chart[data-chart=cpu]")
    assert not page.complaints()

    command = ["/bin/sh", "-c", "sleep 1; n=0; while [ $n -lt 12000 ]; do n=$((n+1)); echo much $n; done; sleep 600"]
    with real.client() as client:
        much = client.start_runtime(image=images.BUSYBOX, name="much", command=command, network="none")
    page.open(f"#/runtimes/{much.runtime_id}/logs")
    eventually(lambda: page.run(LAST) == "much 12000", "all of it has come")
    assert page.run(LINES) == 5000, "and the page keeps the last of it"
    assert not page.complaints()
    browser.get("about:blank")
