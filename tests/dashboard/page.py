"""The dashboard as a person finds their way in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from tests.dashboard.serving import Server
from tests.nginx.conftest import eventually

STATES = """
const rows = [...document.querySelectorAll('tbody tr:not([hidden])')];
return rows.map(row => [row.querySelector('a').textContent, row.dataset.status]);
"""


@dataclass
class Page:
    """The dashboard in a browser."""

    driver: Chrome
    server: Server

    def open(self, path: str = "") -> None:
        self.driver.get(f"{self.server.url}/{path}")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def find(self, selector: str) -> WebElement:
        """The first that is shown, once there is one."""
        found: list[WebElement] = []

        def shown() -> bool:
            try:
                found[:] = [each for each in self.all(selector) if each.is_displayed()]
            except StaleElementReferenceException:
                return False
            return bool(found)

        eventually(shown, f"{selector} is shown")
        return found[0]

    def text(self, selector: str) -> str:
        """Of the first; nothing where there is none."""
        try:
            return self.driver.find_element(By.CSS_SELECTOR, selector).text
        except (NoSuchElementException, StaleElementReferenceException):
            return ""

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def write(self, selector: str, text: str) -> None:
        element = self.find(selector)
        element.clear()
        element.send_keys(text)

    def choose(self, selector: str, text: str) -> None:
        Select(self.find(selector)).select_by_visible_text(text)

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def tab_to(self, selector: str, backwards: bool = False) -> None:
        """Go to the first of these with the Tab key alone."""
        key = Keys.SHIFT + Keys.TAB if backwards else Keys.TAB
        for _ in range(80):
            if self.run("return document.activeElement.matches(arguments[0])", selector):
                return
            self.press(key)
        raise AssertionError(f"Tab doesn't lead to {selector}")

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, script: str, *arguments: object) -> Any:
        """What an asynchronous script gives to its last argument."""
        return self.driver.execute_async_script(script, *arguments)

    def prefers(self, scheme: str) -> None:
        """Let the browser's user like it `light` or `dark`."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def sign_in(self, key: str | None = None) -> None:
        self.write("#key", self.server.key if key is None else key)
        self.press(Keys.ENTER)

    def enter(self) -> None:
        """Open it anew, as a tab that has signed in."""
        self.open("healthz")  # no page of the dashboard's, which would be signing in meanwhile
        self.run("sessionStorage.setItem('runtime-server.key', arguments[0])", self.server.key)
        self.open()
        self.is_live()

    def is_live(self) -> None:
        eventually(lambda: self.text("#connection") == "Live", "the page is live")

    def rows(self) -> dict[str, str]:
        """States by name, of the rows."""
        return dict(self.run(STATES))

    def only(self, state: str) -> None:
        """Show runtimes in that state alone; `any`: all."""
        self.click(f"button[data-state={state}]")

    def shows(self, **states: str | None) -> None:
        """Wait until these runtimes are in these states; None: not shown."""
        eventually(lambda: all(self.rows().get(name) == state for name, state in states.items()), f"{states}")

    def rests(self) -> None:
        """Wait until nothing that was asked for is under way."""
        eventually(lambda: not self.all("[aria-busy=true]"), "it is done")

    def act(self, name: str, action: str) -> None:
        """Press a button of a row."""
        self.rests()
        self.click(f"button[data-action='{action}'][aria-label$=' {name}']:enabled")

    def confirm(self, text: str) -> None:
        self.write("#confirm-name", text)
        self.press(Keys.ENTER)
        eventually(lambda: not self.all("dialog"), "the dialog is closed")

    def complaints(self) -> list[str]:
        """What was wrong since it was asked last.

        What the browser says, but for answers, which tests may want to fail; and what was asked of other hosts.
        """
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [each["message"] for each in entries if each["source"] != "network"] + self._foreign()

    def _foreign(self) -> list[str]:
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(each["message"])["message"] for each in entries]
        asked = [
            each["params"].get("request", each["params"]).get("url", "")
            for each in messages
            if each["method"] in ASKED
        ]
        return [f"asked for {each}" for each in asked if _host(each) not in (None, urlsplit(self.server.url).netloc)]


ASKED = ("Network.requestWillBeSent", "Network.webSocketCreated")
"""What DevTools' protocol calls the beginnings of requests."""


def _host(url: str) -> str | None:
    """Where it leads to; None where it leads nowhere, as `data:` does."""
    return urlsplit(url).netloc or None
