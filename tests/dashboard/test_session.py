"""Getting in, being shut out, a server that is away, and how the page looks elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from selenium.webdriver import Chrome

from tests.dashboard.page import Page
from tests.dashboard.serving import eventually, served

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
LONG = "a-name-that-is-rather-long-for-a-phone"
WIDTHS = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
STYLE = "document.body.append(Object.assign(document.createElement('style'), {textContent: 'body {color: red}'}))"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"


def test_a_wrong_key_a_right_one_and_out_again(page: Page) -> None:
    assert page.run("return sessionStorage.length") == 1
    assert page.run("return localStorage.length + document.cookie.length") == 0
    page.driver.refresh()
    page.is_live()
    page.click("#leave")
    assert page.run("return sessionStorage.length") == 0
    page.sign_in("wrong")
    eventually(lambda: "doesn't accept" in page.text(".login .failure"), "a wrong key is refused")
    page.sign_in()
    page.is_live()


def test_a_revoked_key_leads_to_the_form(page: Page) -> None:
    key = page.server.command("keys", "add", "guest").strip().splitlines()[-1].split()[-1]
    page.click("#leave")
    page.sign_in(key)
    page.is_live()
    page.server.command("keys", "revoke", "guest")
    page.click("nav a[data-page=images]")
    eventually(lambda: "isn't accepted any more" in page.text(".login .failure"), "it is asked for anew")
    assert page.run("return sessionStorage.length") == 0
    page.sign_in()
    page.is_live()
    page.find("#pull-image")


def test_a_server_that_goes_away_and_comes_back(browser: Chrome, folder: Path) -> None:
    with served(folder) as server:
        page = Page(browser, server)
        page.enter()
        with server.client() as client:
            client.start_runtime(image="busybox", name="before")
        page.shows(before="running")
        server.stop()
        page.find("#banner")
        assert page.text("#connection") == "Not live"
        assert page.rows() == {"before": "running"}  # what was known stays to be seen
        server.start()
        page.is_live()
        eventually(lambda: not page.find("body").find_elements("css selector", "#banner:not([hidden])"), "no banner")
        with server.client() as client:
            client.start_runtime(image="busybox", name="after")
        page.shows(after="running")
        browser.get("about:blank")


def test_nothing_but_its_own_files_is_allowed(page: Page) -> None:
    found = requests.get(f"{page.server.url}/", timeout=10)
    policy = dict(each.strip().split(" ", 1) for each in found.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    page.run(STYLE)
    eventually(lambda: any("Content Security Policy" in each for each in page.complaints()), "it is refused")


@pytest.fixture
def emulated(page: Page) -> Iterator[Page]:
    """Whose screen and preferences are set back."""
    yield page
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_on_a_phone_nothing_is_cut_off(emulated: Page) -> None:
    page = emulated
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name=LONG, command=["httpd"])
    page.shows(**{LONG: "running"})
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    one = f"#/runtimes/{runtime.runtime_id}"
    for path in ("", f"{one}/overview", f"{one}/logs", f"{one}/usage", f"{one}/terminal", "#/images"):
        page.open(path)
        page.is_live()
        needed, there = page.run(WIDTHS)
        assert needed <= there, path
    page.open("#/")
    height = page.find("td.actions button:not(:disabled)").size["height"]
    assert height >= 36, "fingers are no pointers"


def test_light_and_dark(emulated: Page) -> None:
    found = set()
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        emulated.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        found.add(emulated.run(BACKGROUND))
    assert found == {"rgb(246, 247, 249)", "rgb(17, 21, 28)"}


def test_the_readmes_picture(page: Page, tmp_path: Path) -> None:
    """Taken into the file that RUNTIME_SERVER_TEST_SCREENSHOT names, `docs/dashboard.png` for the README's."""
    with page.server.client() as client:
        for name, ttl in (("agent-7", 5400), ("agent-8", 7200), ("crawler", None)):
            client.start_runtime(image="busybox", name=name, ttl=ttl)
        client.start_runtime(image="registry.example.com/team/agent:1.4", name="builder", ttl=43_200)
        client.pause_runtime("agent-8")
        client.stop_runtime("builder")
    page.shows(**{"agent-7": "running", "agent-8": "paused", "builder": "stopped", "crawler": "running"})
    page.driver.set_window_size(1180, 600)
    path = Path(os.environ.get("RUNTIME_SERVER_TEST_SCREENSHOT") or tmp_path / "dashboard.png")
    assert page.driver.save_screenshot(str(path))
    assert 5_000 < path.stat().st_size < 150_000
