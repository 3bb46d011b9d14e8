"""Chromium with its driver, and a server for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.dashboard.page import Page
from tests.dashboard.serving import ROOT, Server, served

SIZE = (1280, 800)


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    """Chromium; its packages are installed where they are missing."""
    installed = subprocess.run([ROOT / "scripts/chromium"], check=False, capture_output=True, text=True, timeout=900)
    assert installed.returncode == 0, installed.stderr
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.add_argument("--headless=new")
    options.add_argument(f"--window-size={SIZE[0]},{SIZE[1]}")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's own refuses to work for root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("perfLoggingPrefs", {"enableNetwork": True, "enablePage": False})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that leave it as it is."""
    with served(tmp_path_factory.mktemp("dashboard")) as found:
        yield found


@pytest.fixture
def page(browser: Chrome, server: Server) -> Iterator[Page]:
    """The dashboard, signed in as an admin; at the end there are no runtimes, and nothing was wrong."""
    found = Page(browser, server)
    found.enter()
    yield found
    complaints = found.complaints()
    browser.get("about:blank")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    with server.admin() as client:
        for each in client.list_runtimes():
            client.remove_runtime(each.runtime_id)
    with contextlib.suppress(KeyError):
        browser.set_window_size(*SIZE)
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """For a server of a test's own."""
    return tmp_path
