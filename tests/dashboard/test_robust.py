"""What goes wrong on the way, and what others may have written."""

from __future__ import annotations

from selenium.webdriver import ActionChains, Keys

from tests.dashboard.page import Page
from tests.nginx.conftest import eventually

RECORD = """
const real = window.fetch;
window.sent = [];
window.fetch = async (url, options) => {
  const key = options.headers['Idempotency-Key'];
  const found = {method: options.method, path: new URL(url).pathname, key, url: String(url)};
  window.sent.push(found);
  const answer = await real(url, options);
  // Lost on its way back: the server has acted.
  if (found.method !== 'GET' && window.losing-- > 0) throw new TypeError('Failed to fetch');
  return answer;
};
"""
CHANGES = "return window.sent.filter(each => each.method !== 'GET').map(each => [each.path, each.key])"
LATE_LIST = """
const done = arguments[0];
import('/dashboard/runtimes.js').then(async ({Runtimes}) => {
  let answer;
  const running = id => ({runtime_id: id, status: 'running'});
  const api = {call: (method, path) => path.startsWith('runtimes?')
    ? new Promise(resolve => { answer = () => resolve({runtimes: ['a', 'b'].map(running)}); })
    : Promise.resolve({runtime_id: path.slice(-1), status: 'paused'})};
  const runtimes = new Runtimes(api);
  const listed = runtimes._list();
  while (!answer) await null;
  runtimes.put({runtime_id: 'a', status: 'paused'});
  runtimes.put({runtime_id: 'b', status: 'removed'});
  answer();
  await listed;
  done([...runtimes.all.values()].map(each => [each.runtime_id, each.status]));
});
"""
STORM = """
const done = arguments[0];
import('/dashboard/api.js').then(async ({ApiError, persist}) => {
  const ends = new AbortController();
  let reads = 0;
  setTimeout(() => { ends.abort(); done(reads); }, 2000);
  await persist(async () => { reads += 1; throw new ApiError(0, {}); }, () => {}, ends.signal);
});
"""
EVIL = '<img src=x onerror="window.hit=1">'


def test_what_is_sent_again_is_the_same_call(page: Page) -> None:
    page.run(RECORD)
    page.run("window.losing = 1")
    page.click("#start")
    page.write("#start-image", "busybox")
    page.write("#start-name", "once")
    page.press(Keys.ENTER)
    page.shows(once="running")
    eventually(lambda: not page.all("dialog"), "the form is closed")
    assert list(page.rows()) == ["once"]
    page.run("window.losing = 2")
    page.act("once", "pause")
    page.shows(once="paused")
    page.rests()
    changes = page.run(CHANGES)
    assert [path for path, _ in changes] == ["/start", "/start", "/pause", "/pause", "/pause"]
    assert len({key for _, key in changes}) == 2, "one key for each call, however often it is sent"
    page.act("once", "remove")
    page.confirm("once")
    page.shows(once=None)


def test_each_change_has_a_key_of_its_own_and_no_address_the_apis(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name="keyed", command=["httpd"])
    page.shows(keyed="running")
    page.run(RECORD)
    for action in ("pause", "resume"):
        page.act("keyed", action)
    page.rests()
    page.run("location.hash = arguments[0]", f"#/runtimes/{runtime.runtime_id}/terminal")
    eventually(lambda: page.text(".panel .count") == "Connected", "the terminal is open")
    page.click("nav a[data-page=images]")
    page.write("#pull-image", "registry.example.com/team/agent:1.4")
    page.press(Keys.ENTER)
    page.find(".pull.complete")
    page.click("nav a[data-page=runtimes]")
    for action in ("stop", "remove"):
        page.act("keyed", action)
        page.confirm("keyed")
        page.rests()
    page.shows(keyed=None)
    keys = [key for _, key in page.run(CHANGES)]
    assert len(keys) == 6
    assert all(keys)
    assert len(set(keys)) == len(keys)
    addresses = page.run("return [...window.sent.map(each => each.url), location.href, document.referrer]")
    assert not [each for each in addresses if page.server.key in each]
    assert page.server.key not in page.run("return document.documentElement.outerHTML")


def test_a_double_click_does_one_thing(page: Page) -> None:
    with page.server.client() as client:
        client.start_runtime(image="busybox", name="twice")
        page.shows(twice="running")
        button = page.find("button[data-action=pause]")
        ActionChains(page.driver).double_click(button).click(button).perform()
        page.shows(twice="paused")
        page.rests()
        assert client.get_runtime("twice").status == "paused", "Resume came under the pointer, and wasn't pressed"


def test_a_list_that_comes_late_undoes_nothing(page: Page) -> None:
    assert page.wait_for(LATE_LIST) == [["a", "paused"]]


def test_a_stream_that_always_breaks_is_no_storm(page: Page) -> None:
    assert 2 <= page.wait_for(STORM) <= 7


def test_what_others_write_is_text(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(
            image="busybox",
            name="evil",
            session_id="s-<b>",
            labels={"note": EVIL},
            command=["echo", f"{EVIL}\r\x1b]0;{EVIL}\x07{EVIL}"],
        )
        page.shows(evil="stopped")
        page.write("#search", "onerror")
        page.shows(evil="stopped")
        page.open(f"#/runtimes/{runtime.runtime_id}")
        eventually(lambda: EVIL in page.text(".facts"), "the label is shown as it is")
        page.click("#tab-logs")
        eventually(lambda: page.text(".logs") == f"{EVIL}\n{EVIL}", "so is the output, but its control sequences")
        page.open("#/runtimes/%3Cimg%20src=x%20onerror=window.hit=1%3E/%")
        eventually(lambda: "runtime" in page.text(".panel").lower(), "there is no such runtime")
        assert page.run("return window.hit") is None
        assert page.run("return document.querySelectorAll('main img').length") == 0


def test_leaving_a_page_leaves_nothing_behind(page: Page) -> None:
    with page.server.client() as client:
        runtime = client.start_runtime(image="busybox", name="visited", command=["httpd"])
    paths = [
        "#/",
        "#/images",
        *(f"#/runtimes/{runtime.runtime_id}/{tab}" for tab in ("overview", "logs", "usage", "terminal")),
    ]

    def visits(times: int) -> dict[str, float]:
        for path in paths * times + paths[:1]:
            page.run("location.hash = arguments[0]", path)
            page.wait_for("setTimeout(arguments[0], 50)")  # so that its streams are open
        page.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        found = page.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {each["name"]: each["value"] for each in found}

    page.driver.execute_cdp_cmd("Performance.enable", {})
    before = visits(2)
    after = visits(9)
    page.driver.execute_cdp_cmd("Performance.disable", {})
    for name in ("JSEventListeners", "Nodes"):
        assert after[name] - before[name] < 40, f"{name}: {before[name]} before, {after[name]} after nine more rounds"
    page.run("location.hash = arguments[0]", paths[4])
    eventually(lambda: page.text(".panel .count") == "Live", "there is still room for a stream")
