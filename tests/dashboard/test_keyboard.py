"""All of it by keyboard alone."""

from __future__ import annotations

from selenium.webdriver import Keys

from tests.dashboard.page import Page
from tests.nginx.conftest import eventually

FOCUSED = "return document.activeElement.id"
OUTLINE = """
const style = getComputedStyle(document.activeElement);
return [style.outlineStyle, parseFloat(style.outlineWidth)];
"""


def test_a_life_by_keyboard(page: Page) -> None:
    page.tab_to("#start")
    assert page.run(OUTLINE) == ["solid", 3], "one sees where one is"
    page.press(Keys.ENTER)
    page.press("busybox", Keys.TAB, "typed", Keys.ENTER)
    page.shows(typed="running")
    assert page.run(FOCUSED) == "start", "one goes on where one was"
    page.tab_to("button[data-action=pause]")
    page.press(Keys.ENTER)
    page.shows(typed="paused")
    page.rests()
    page.press(Keys.SPACE)  # on Resume, which has taken its place
    page.shows(typed="running")
    page.rests()
    for action, state in (("stop", "stopped"), ("remove", None)):
        page.tab_to(f"button[data-action={action}]")
        page.press(Keys.ENTER)
        page.press("typed", Keys.ENTER)
        page.shows(typed=state)
        page.rests()


def test_finding_one_by_keyboard(page: Page) -> None:
    with page.server.client() as client:
        for name in ("crawler", "builder"):
            client.start_runtime(image="busybox", name=name, command=["httpd"])
        client.pause_runtime("builder")
    page.shows(crawler="running", builder="paused")
    page.press("/", "craw")
    page.shows(crawler="running", builder=None)
    page.press(*[Keys.BACKSPACE] * 4)
    page.shows(builder="paused")
    page.tab_to("button[data-state=running]")
    page.press(Keys.SPACE)
    page.shows(crawler="running", builder=None)
    page.tab_to("th[data-column=name] button")
    page.press(Keys.ENTER)
    eventually(lambda: page.all("th[data-column=name][aria-sort]") != [], "it is sorted")
    page.tab_to("tbody th a")
    page.press(Keys.ENTER)
    page.find(".timeline .running")
    page.tab_to("#tab-overview")
    for tab in ("logs", "usage", "terminal"):
        page.press(Keys.ARROW_RIGHT)
        eventually(lambda tab=tab: page.run(FOCUSED) == f"tab-{tab}", "the next tab has the focus")  # type: ignore[misc]
        assert page.find(f"#tab-{tab}").get_attribute("aria-selected") == "true"
        if tab == "logs":
            page.tab_to("#times")
            page.press(Keys.SPACE)
            assert page.all(".logs.timed")
            page.tab_to("#tab-logs", backwards=True)
    eventually(lambda: page.text(".panel .count") == "Connected", "the terminal is open")
    assert page.run(FOCUSED) == "tab-terminal", "it takes no focus from who goes through the tabs"
    page.tab_to(".shell textarea")
    page.press("typed", Keys.TAB)
    assert page.run("return document.activeElement.matches('.shell textarea')"), "Tab belongs to the shell"
    # So there is another way out.
    page.driver.switch_to.active_element.send_keys(Keys.CONTROL + Keys.SHIFT + Keys.ESCAPE + Keys.NULL)
    eventually(lambda: page.run(FOCUSED) == "tab-terminal", "the focus is out")


def test_a_pull_by_keyboard(page: Page) -> None:
    page.tab_to("nav a[data-page=images]")
    page.press(Keys.ENTER)
    page.find("#pull-image")
    page.tab_to("#pull-image")
    page.press("registry.example.com/team/agent:1.4", Keys.ENTER)
    page.find(".pull.complete")
    page.tab_to("#leave", backwards=True)
    page.press(Keys.ENTER)
    page.find("#key")
    assert page.run(FOCUSED) == "key"
