"""How the page looks: on a phone, by day and by night, and in the README."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from selenium.webdriver import Keys

from runtime_server import RuntimeServerClient
from runtime_server.errors import ImageNotFound
from tests.dashboard.page import Page
from tests.nginx.conftest import eventually

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
FINGER = 44
"""CSS pixels that a finger hits (WCAG 2.5.5)."""
LONG = "a-name-that-is-rather-long-for-a-phone"
WIDTHS = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
BOX = """
const {left, right, top, bottom} = document.querySelector('dialog').getBoundingClientRect();
return [left, right, top, bottom];
"""
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"
LEAST = 4.5
"""The contrast that text needs (WCAG 1.4.3)."""
CONTRASTS = """
const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const over = (colors) => {
  for (const color of colors) { context.fillStyle = color; context.fillRect(0, 0, 1, 1); }
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const luminance = (color) => {
  const linear = each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
  const [red, green, blue] = color.map(each => linear(each / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const found = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
  if (element.closest(':disabled, option, noscript')) continue;
  if (document.querySelector('dialog') && !element.closest('dialog')) continue;
  const grounds = [];
  for (let each = element; each; each = each.parentElement) grounds.unshift(getComputedStyle(each).backgroundColor);
  const ground = over(['#fff', ...grounds]);
  const text = over([getComputedStyle(element).color]);
  const [high, low] = [luminance(ground), luminance(text)].sort((a, b) => b - a);
  found.push([(high + 0.05) / (low + 0.05), `${texts.currentNode.data.trim()} (${element.className})`]);
}
return found;
"""


def phone(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)


def test_on_a_phone_nothing_is_cut_off(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name=LONG, command=["httpd"])
    page.shows(**{LONG: "running"})
    phone(page)
    one = f"#/runtimes/{runtime.runtime_id}"
    for path in ("", f"{one}/overview", f"{one}/logs", f"{one}/usage", f"{one}/terminal", "#/images"):
        page.open(path)
        page.is_live()
        needed, there = page.run(WIDTHS)
        assert needed <= there, path


def test_on_a_phone_all_can_be_done(page: Page) -> None:
    phone(page)
    page.click("#start")
    left, right, top, _ = page.run(BOX)
    assert left >= 0 <= top
    assert right <= PHONE["width"]
    page.write("#start-image", "busybox")
    page.write("#start-name", LONG)
    page.press(Keys.ENTER)
    page.shows(**{LONG: "running"})
    for action in ("pause", "resume", "stop", "remove"):
        page.rests()
        button = page.find(f"td.actions button[data-action={action}]")
        assert button.size["height"] >= FINGER, "fingers are no pointers"
        page.act(LONG, action)
        if action in ("stop", "remove"):
            page.find("dialog button.danger")
            _, right, _, bottom = page.run(BOX)
            assert right <= PHONE["width"]
            assert bottom <= PHONE["height"]
            page.confirm(LONG)
    page.shows(**{LONG: None})


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(244, 246, 250)"), ("dark", "rgb(15, 19, 26)")])
def test_light_and_dark_can_be_read(page: Page, scheme: str, ground: str) -> None:
    page.prefers(scheme)
    assert page.run(BACKGROUND) == ground
    with page.server.client() as client:
        for name in ("runs", "rests", "over"):
            client.start_runtime(image="busybox", name=name, ttl=60, labels={"team": "agents"})
        client.pause_runtime("rests")
        client.stop_runtime("over")
        failed = start_in_vain(client, "registry.example.com/team/nosuch:1", "fails")
    page.shows(runs="running", rests="paused", over="stopped", fails="error")
    readable(page, "the list")
    page.act("runs", "stop")
    page.write("#confirm-name", "runs")
    readable(page, "the question")
    page.press(Keys.ESCAPE)
    page.click("#start")
    page.write("#start-image", "busybox")
    page.write("#start-memory", "much")
    page.press(Keys.ENTER)
    page.find("dialog .failure")
    readable(page, "the form")
    page.press(Keys.ESCAPE)
    eventually(lambda: not page.all("dialog"), "the dialog is closed")
    page.open(f"#/runtimes/{failed}")
    page.find(".timeline .error")
    readable(page, "a runtime")
    page.click("nav a[data-page=images]")
    page.write("#pull-image", "registry.example.com/team/nosuch:1")
    page.press(Keys.ENTER)
    page.find(".note.failed")
    readable(page, "images and a failure")
    page.click("#leave")
    page.sign_in("wrong")
    page.find(".login .failure")
    readable(page, "the way in")
    page.sign_in()
    page.is_live()


def start_in_vain(client: RuntimeServerClient, image: str, name: str) -> str:
    """Start what fails, and leaves a record; its id."""
    with contextlib.suppress(ImageNotFound):  # no later than the answer, or after it
        client.start_runtime(image=image, name=name, wait=0)
    return next(each.runtime_id for each in client.list_runtimes() if each.name == name)


def readable(page: Page, what: str) -> None:
    found = page.run(CONTRASTS)
    assert len(found) > 5
    poor = [f"{ratio:.2f}: {text}" for ratio, text in found if ratio < LEAST]
    assert not poor, f"{what}: {poor}"


def test_the_readmes_picture(page: Page, tmp_path: Path) -> None:
    """Taken into the file that RUNTIME_SERVER_TEST_SCREENSHOT names, `docs/dashboard.png` for the README's."""
    agent = "registry.example.com/team/agent:1.4"
    with page.server.client() as client, page.server.admin() as admin:
        for name, image, ttl in (
            ("nightly-build", agent, 43_200),
            ("agent-6", agent, 7200),
            ("agent-7", agent, 5400),
            ("agent-8", agent, 3 * 3600),
            ("try-out", "busybox", 250),
        ):
            client.start_runtime(image=image, name=name, ttl=ttl)
        admin.start_runtime(image="busybox", name="crawler")
        start_in_vain(client, "registry.example.com/team/agnet:1.4", "agent-9")
        client.pause_runtime("agent-6")
        client.stop_runtime("nightly-build")
    page.shows(**{"agent-6": "paused", "nightly-build": "stopped", "agent-9": "error"})
    age(page.server.folder / "state" / "state.db")
    page.driver.refresh()
    page.is_live()
    page.driver.set_window_size(1240, 830)
    page.shows(**{"nightly-build": "stopped", "agent-9": "error"})
    path = Path(os.environ.get("RUNTIME_SERVER_TEST_SCREENSHOT") or tmp_path / "dashboard.png")
    assert page.driver.save_screenshot(str(path))
    assert 5_000 < path.stat().st_size < 200_000


def age(database: Path) -> None:
    """Let runtimes be of different ages, as they would be."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT runtime_id FROM runtimes ORDER BY created_at DESC").fetchall()
        for number, row in enumerate(rows):
            seconds = 47 * 3 ** (number * 0.9)
            connection.execute(
                "UPDATE runtimes SET created_at = created_at - ? WHERE runtime_id = ?", (seconds, *row)
            )
