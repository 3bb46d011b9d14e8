"""Getting in, being shut out, a server that is away, and what the page may do."""

from __future__ import annotations

from pathlib import Path

import requests
from selenium.webdriver import Chrome, Keys

from tests.dashboard.page import Page
from tests.dashboard.serving import Server, served
from tests.nginx.conftest import eventually

STYLE = "document.body.append(Object.assign(document.createElement('style'), {textContent: 'body {color: red}'}))"


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
        page.run("window.same = true")
        server.stop()
        page.find("#banner")
        assert page.text("#connection") == "Not live"
        assert page.rows() == {"before": "running"}  # what was known stays to be seen
        server.runtimes = 2  # that it has before the page can know of them
        server.start()
        page.is_live()
        page.shows(**{"many-000": "running", "many-001": "running"})
        eventually(lambda: page.rows().get("before") != "running", "its container went with the server")
        eventually(lambda: not page.find("body").find_elements("css selector", "#banner:not([hidden])"), "no banner")
        with server.client() as client:
            client.start_runtime(image="busybox", name="after")
        page.shows(after="running")
        assert page.run("return window.same"), "it hasn't been loaded again"
        assert not page.complaints()
        browser.get("about:blank")


def test_a_page_that_is_loaded_while_the_server_is_away_waits_for_it(page: Page) -> None:
    # As from a cache: the page is there, the server isn't.
    blocked = {"urls": ["*/runtimes?*", "*/events?*"]}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", blocked)
    page.open()
    page.find("#banner")
    assert not page.all(".login")
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.is_live()


def test_an_owner_sees_its_own_runtimes_alone(page: Page) -> None:
    with page.server.client() as client:
        client.start_runtime(image="busybox", name="ours")
    page.click("#start")
    page.write("#start-image", "busybox")
    page.write("#start-name", "theirs")
    page.press(Keys.ENTER)
    page.shows(ours="running", theirs="running")  # an admin sees both, and whose they are
    owners = {row.text.split()[0]: row.find_elements("css selector", "td")[1].text for row in page.all("tbody tr")}
    assert owners == {"ours": "team", "theirs": "ops"}
    page.click("#leave")
    page.sign_in(f"{page.server.key}team")
    page.is_live()
    assert page.rows() == {"ours": "running"}
    page.click("#leave")
    page.sign_in()
    page.act("theirs", "remove")
    page.confirm("theirs")
    page.shows(theirs=None)


def test_without_keys_nothing_is_asked_for(browser: Chrome, folder: Path) -> None:
    server = Server(folder, auth="off")
    try:
        server.start()
        page = Page(browser, server)
        page.open()
        page.is_live()
        assert not page.all(".login, #leave:not([hidden])")
        browser.get("about:blank")
    finally:
        server.stop()


def test_nothing_but_its_own_files_is_allowed(page: Page) -> None:
    found = requests.get(f"{page.server.url}/", timeout=10)
    policy = dict(each.strip().split(" ", 1) for each in found.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    page.run(STYLE)
    eventually(lambda: any("Content Security Policy" in each for each in page.complaints()), "it is refused")
