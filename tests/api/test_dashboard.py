"""The dashboard's files, as they are served."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from runtime_server.web.dashboard_files import dashboard_files
from tests.api.conftest import Api, MakeApi

NAMES = sorted(dashboard_files())
FOREIGN = re.compile(rb"(?:src|href)\s*=\s*[\"']?(?:https?:)?//|@import|url\((?!data:)|style\s*=\s*\"|\son\w+=\"")


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_served_to_anybody(api: Api, name: str) -> None:
    found = api.client.simulate_get(f"/dashboard/{name}")
    assert found.status_code == 200
    assert found.content == dashboard_files()[name].content
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    kind = {"js": "text/javascript", "css": "text/css", "html": "text/html", "svg": "image/svg+xml"}
    assert found.headers["Content-Type"].split(";")[0] == kind[name.rsplit(".", 1)[1]]


def test_the_page_is_at_the_root(api: Api) -> None:
    found = api.client.simulate_get("/")
    assert found.text.startswith("<!doctype html>")
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    for path in re.findall(r'(?:src|href)="dashboard/([^"]+)"', found.text):
        assert path in dashboard_files(), path


@pytest.mark.parametrize("name", [each for each in NAMES if not each.startswith("vendor/")])
def test_no_file_of_ours_names_another_host_or_needs_what_the_policy_forbids(name: str) -> None:
    assert not FOREIGN.search(dashboard_files()[name].content)


def test_imports_lead_to_files() -> None:
    for name, file in dashboard_files().items():
        if name.endswith(".js") and not name.startswith("vendor/"):
            for path in re.findall(rb'^import .* from "\./([^"]+)";$', file.content, re.MULTILINE):
                assert path.decode() in dashboard_files(), (name, path)


def test_licences_come_with_the_libraries() -> None:
    vendor = files("runtime_server") / "dashboard" / "vendor"
    notice = (vendor / "NOTICE").read_text("utf-8")
    for folder in (each for each in vendor.iterdir() if each.is_dir()):
        assert f"{folder.name}/" in notice
        assert "Permission is hereby granted" in (folder / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize(
    "name", ["", "nope.js", "vendor/NOTICE", "../api.py", "..%2fapi.py", "%2e%2e/api.py", "/etc/passwd", "vendor"]
)
def test_nothing_else_is_served(api: Api, name: str) -> None:
    found = api.client.simulate_get(f"/dashboard/{name}")
    assert (found.status_code, found.json["code"]) in ((404, "route-not-found"), (401, "unauthorized"))


@pytest.mark.parametrize("settings", [{"dashboard": "off"}, {"routing": "path", "domain": "box.example"}])
def test_it_can_be_taken_away(make_api: MakeApi, settings: dict[str, str]) -> None:
    without = make_api(**settings)
    for path in ("/", "/dashboard/app.js"):
        assert without.client.simulate_get(path).status_code == 404
    assert without.client.simulate_get("/docs").status_code == 200
