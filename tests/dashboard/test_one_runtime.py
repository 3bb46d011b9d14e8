"""What there is to see of one runtime, and pulls."""

from __future__ import annotations

from selenium.webdriver import Keys

from tests.dashboard.page import Page
from tests.nginx.conftest import eventually

STATES = "return [...document.querySelectorAll('.timeline .state')].map(e => e.textContent)"
SAMPLES = "return [...document.querySelectorAll('.chart')].map(e => Number(e.dataset.samples || 0))"
PAINTED = """
return [...document.querySelectorAll('.chart canvas')].map(canvas => {
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
});
"""
PROGRESS = "return [...document.querySelectorAll('.pull progress')].map(e => e.position)"
SCREEN = "return document.querySelector('.xterm-rows')?.textContent || ''"


def test_the_history_grows_while_one_looks_at_it(page: Page) -> None:
    with page.server.client() as client:
        client.start_runtime(image="busybox", name="story", labels={"team": "agents"}, ttl=600)
        page.shows(story="running")
        page.find("tbody th a").send_keys(Keys.ENTER)
        eventually(lambda: page.run(STATES) == ["starting", "running"], "its history is there")
        assert "team=agents" in page.text(".facts")
        assert page.run("return document.activeElement.tagName") == "H2"
        client.pause_runtime("story")
        eventually(lambda: page.run(STATES) == ["starting", "running", "paused"], "its history has grown")
        client.remove_runtime("story")
        eventually(lambda: page.text(".heading .state") == "removed", "it is removed")
        assert not page.find("button[data-action=remove]").is_enabled()


def test_output_of_what_has_ended(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name="said", command=["echo", "<b>hello</b> \x1b[31mred"])
        page.open(f"#/runtimes/{runtime.runtime_id}/logs")
        eventually(lambda: "<b>hello</b> red" in page.text(".logs"), "the output is shown as text")
        eventually(lambda: "ended" in page.text(".panel .count"), "its end is told")
        page.click("#times")
        assert runtime.created_at.strftime("%Y-%m-%d") in page.text(".logs")


def test_what_it_uses_is_plotted(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name="busy", command=["httpd"])
    page.open(f"#/runtimes/{runtime.runtime_id}/usage")
    eventually(lambda: page.run(SAMPLES) and min(page.run(SAMPLES)) >= 3, "there are samples")
    assert min(page.run(PAINTED)) > 2, "a line has more than the page's colours"
    assert "CPUs" in page.text(".chart[data-chart=cpu]")
    assert "MiB" in page.text(".chart[data-chart=memory] .value")
    eventually(
        lambda: "KiB/s received" in page.text(".chart[data-chart=network] .value"), "what comes and goes is told"
    )
    seen = max(page.run(SAMPLES))
    eventually(lambda: min(page.run(SAMPLES)) > seen, "it goes on")


def test_a_terminal_and_the_way_out_of_it(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name="shell", command=["httpd"])
        page.open(f"#/runtimes/{runtime.runtime_id}/terminal")
        eventually(lambda: page.text(".panel .count") == "Connected", "the terminal is open")
        page.press("echoed words")
        eventually(lambda: "echoed words" in page.run(SCREEN), "the shell answers")
        page.driver.switch_to.active_element.send_keys(Keys.CONTROL + Keys.SHIFT + Keys.ESCAPE + Keys.NULL)
        eventually(lambda: page.run("return document.activeElement.id") == "tab-terminal", "the focus is out")
        client.stop_runtime("shell")
        eventually(lambda: page.all("#reconnect:not([hidden])") != [], "its end is told")


def test_a_pull_layer_by_layer_and_one_that_fails(page: Page) -> None:
    page.click("nav a[data-page=images]")
    page.find("tbody th")
    page.write("#pull-image", "registry.example.com/team/slow:1")
    page.press(Keys.ENTER)
    eventually(lambda: len(page.all(".layers li")) == 2, "its layers are told")
    eventually(lambda: 0 < page.run(PROGRESS)[0] < 1, "it is on its way")
    assert all(0 <= each < 1 for each in page.run(PROGRESS))
    assert "of 48.0 MiB" in page.text(".pull [role=status]")
    for name in ("one", "two"):
        page.write("#pull-image", f"registry.example.com/team/{name}:1")
        page.press(Keys.ENTER)
    eventually(lambda: len(page.all(".pull.failed")) == 2, "others have their turn")
    page.click(".note.failed button")
    page.click(".note.failed button")
    page.click("nav a[data-page=runtimes]")  # it goes on meanwhile
    page.click("nav a[data-page=images]")
    eventually(lambda: "Complete" in page.text(".pull [role=status]"), "it is complete")
    eventually(lambda: "slow:1" in page.text("table.images"), "it is in the list")
    page.write("#pull-image", "registry.example.com/team/nosuch:1")
    page.press(Keys.ENTER)
    eventually(lambda: page.text(".pull.failed h3").endswith("nosuch:1"), "it has failed")
    page.click(".note.failed button")


def test_the_tabs_by_keyboard(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name="keys")
    page.open(f"#/runtimes/{runtime.runtime_id}")
    page.find("#tab-overview").send_keys(Keys.ARROW_RIGHT)
    eventually(lambda: page.run("return document.activeElement.id") == "tab-logs", "the next tab has the focus")
    assert page.find("#tab-logs").get_attribute("aria-selected") == "true"
    page.press(Keys.ARROW_LEFT)
    eventually(lambda: page.run("return document.activeElement.id") == "tab-overview", "and back")
