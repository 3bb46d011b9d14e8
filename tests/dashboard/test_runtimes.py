"""The list, and what can be done in it."""

from __future__ import annotations

from pathlib import Path

from selenium.webdriver import Chrome, Keys

from tests.dashboard.page import Page
from tests.dashboard.serving import served
from tests.nginx.conftest import eventually


def test_a_runtime_is_started_paused_resumed_stopped_and_removed(page: Page) -> None:
    page.click("#start")
    page.write("#start-image", "busybox")
    page.write("#start-name", "web")
    page.write("#start-command", "httpd -f -p 8000")
    page.write("#start-ports", "8000")
    page.write("#start-ttl", "90")
    page.write("#start-environment", "GREETING=hello=you")
    page.write("#start-labels", "team=agents")
    page.press(Keys.TAB)
    page.click("dialog button[type=submit]")
    page.shows(web="running")
    row = page.find("tbody tr")
    assert "ops" in row.text
    assert "busybox" in row.text
    assert "1 h 29 min" in row.text

    page.act("web", "pause")
    page.shows(web="paused")
    assert page.run("return document.activeElement.dataset.action") == "resume", "a keyboard goes on there"
    page.rests()
    page.press(Keys.ENTER)
    page.shows(web="running")
    page.act("web", "stop")
    page.confirm("web")
    page.shows(web="stopped")
    page.act("web", "remove")
    page.confirm("web")
    page.shows(web=None)


def test_an_end_is_confirmed_by_typing_its_name(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name="kept")
        page.shows(kept="running")
        page.act("kept", "remove")
        go = page.find("dialog button.danger")
        assert not go.is_enabled()
        page.press(Keys.ENTER)  # neither does Enter, nor another's name
        page.write("#confirm-name", "kep")
        page.press(Keys.ENTER)
        assert not go.is_enabled()
        assert page.all("dialog")
        page.press(Keys.ESCAPE)
        eventually(lambda: not page.all("dialog"), "the dialog is closed")
        assert client.get_runtime("kept").status == "running"
        page.act("kept", "remove")
        page.confirm(runtime.runtime_id)
        page.shows(kept=None)


def test_a_start_that_is_refused_says_why(page: Page) -> None:
    page.click("#start")
    page.write("#start-image", "busybox")
    page.write("#start-memory", "much")
    page.press(Keys.ENTER)
    eventually(lambda: "memory" in page.text("dialog .failure"), "the failure names the field")
    page.click("dialog button[type=button]")


def test_what_others_do_appears_by_itself(page: Page) -> None:
    with page.server.client() as client:
        client.start_runtime(image="busybox", name="other")
        page.shows(other="running")
        client.pause_runtime("other")
        page.shows(other="paused")
        client.remove_runtime("other")
        page.shows(other=None)


def test_search_filter_and_order(page: Page) -> None:
    with page.server.client() as client:
        client.start_runtime(image="busybox", name="alpha", labels={"tier": "gold"})
        client.start_runtime(image="busybox", name="beta")
        client.pause_runtime("beta")
    page.shows(alpha="running", beta="paused")
    page.press("/", "gol")
    page.shows(alpha="running", beta=None)
    page.write("#search", "nothing like this")
    eventually(lambda: "No runtime is like that." in page.text(".empty"), "nothing is found")
    page.run("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", page.find("#search"))
    page.only("paused")
    page.shows(alpha=None, beta="paused")
    page.write("#search", "bet")
    page.shows(alpha=None, beta="paused")  # both hold at once
    page.write("#search", "alph")
    eventually(lambda: not page.rows(), "neither alone is enough")
    page.run("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", page.find("#search"))
    page.only("any")
    assert page.text("button[data-state=running]").split() == ["running", "1"]
    page.choose("#filter-owner", "team")
    page.shows(alpha="running", beta="paused")
    page.click("th[data-column=name] button")
    eventually(lambda: list(page.rows()) == ["alpha", "beta"], "by name")
    page.click("th[data-column=name] button")
    eventually(lambda: list(page.rows()) == ["beta", "alpha"], "by name, turned")
    assert page.find("th[data-column=name]").get_attribute("aria-sort") == "descending"


DRAWN = """
const [field, done] = [document.querySelector('#search'), arguments[1]];
const began = performance.now();
field.value = arguments[0];
field.dispatchEvent(new Event('input'));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
"""


def test_500_runtimes_stay_usable(browser: Chrome, folder: Path) -> None:
    with served(folder, runtimes=500) as server, server.client() as client:
        page = Page(browser, server)
        page.enter()
        eventually(lambda: page.text(".count") == "500 runtimes", "all are shown")
        took = [browser.execute_async_script(DRAWN, text) for text in ("many-4", "", "many-499", "")]
        assert page.run("return document.querySelectorAll('tbody tr').length") == 500
        print(f"500 runtimes: filtered and drawn in {', '.join(f'{each:.0f} ms' for each in took)}")  # noqa: T201 - figures
        assert max(took) < 2000
        client.pause_runtime("many-250")
        page.shows(**{"many-250": "paused"})
        for number in range(30):  # so many at once that the list is asked for
            client.pause_runtime(f"many-{number:03}")
        page.only("paused")
        eventually(lambda: page.text(".count") == "31 of 500 runtimes", "all are paused")
        page.only("any")
        assert not page.complaints()
        browser.get("about:blank")
