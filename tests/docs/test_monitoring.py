"""Alert rules and dashboard: valid for promtool, and about metrics and labels that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime_server.metrics.instruments import Metrics
from runtime_server.runtimes.gauges import DESCRIBED, Gauges
from runtime_server.runtimes.scrape import Scrape
from runtime_server.settings import Settings
from runtime_server.state import State

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "runtime-server.json"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
OF_PROMETHEUS = {"job", "instance", "le"}
SELECTOR = re.compile(r"(runtime_server_[a-z_]+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def promtool(*arguments: str, text: str | None = None) -> str:
    path = subprocess.run([ROOT / "scripts/promtool"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    command = [path, *arguments]
    done = subprocess.run(command, cwd=ALERTS.parent, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def metrics() -> Iterator[tuple[str, set[str]]]:
    """The samples' names that a scrape can have, and their labels."""
    for each in Metrics().instruments:
        for suffix in SUFFIXES[str(each._type)]:
            yield f"{each._name}{suffix}", {*each._labelnames}
    yield from ((each.name, set(each.labels)) for each in DESCRIBED)


KNOWN = dict(metrics())


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["expr"] for each in dashboard()["annotations"]["list"])


def check_names(expression: str) -> None:
    for name, selector in SELECTOR.findall(expression):
        assert name in KNOWN, name
        labels = set(re.findall(r'([a-z_]+)\s*[=!]~?"', selector))
        assert labels <= KNOWN[name] | OF_PROMETHEUS, (name, labels)
        for grouped in GROUPING.findall(expression):
            wanted = {each.strip() for each in grouped.split(",")} - {"alertname"}
            assert wanted <= KNOWN[name] | OF_PROMETHEUS, (name, wanted)


def test_the_list_of_metrics_is_what_a_scrape_has(tmp_path: Path) -> None:
    from runtime_server.runtimes.sync import Liveness
    from runtime_server.store.database import Database
    from runtime_server.store.migrate import migrate

    state = State(tmp_path, "instance", None)
    migrate(state.database)
    liveness = Liveness(state.beat)
    liveness.touch()
    database = Database(state.database)
    gauges = Gauges(database, liveness, state.draining, 4)
    text, _ = Scrape(Settings(), Metrics(), None, gauges).text("", owners=True)
    database.close()
    families = set(re.findall(r"^# TYPE (\S+) ", text.decode(), re.MULTILINE))
    families = {each for each in families if not each.endswith("_created")}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", each) for each in KNOWN}
    promtool("check", "metrics", text=text.decode())


def test_promtool_takes_the_rules_and_their_tests() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", ALERTS.name)
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    text = (ALERTS.parent / "prometheus.yml").read_text()
    key = tmp_path / "key"
    key.touch()
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/runtime-server.key", str(key)).replace("alerts.yml", str(ALERTS)))
    assert "SUCCESS" in promtool("check", "config", str(config))


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    tried = (ALERTS.parent / "alerts_test.yml").read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in tried
        assert {"summary", "description"} <= set(rule["annotations"])
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.parametrize("expression", [rule["expr"] for rule in rules()])
def test_alerts_name_metrics_that_there_are(expression: str) -> None:
    check_names(expression)


@pytest.mark.parametrize("expression", sorted(set(queries())))
def test_the_dashboard_names_metrics_that_there_are(expression: str) -> None:
    assert SELECTOR.search(expression)
    check_names(expression)


def test_promtool_takes_the_dashboards_queries(tmp_path: Path) -> None:
    given = [
        each.replace("$__rate_interval", "5m").replace("$job", "j").replace("$instance", "i") for each in queries()
    ]
    assert not any("$" in each for each in given)
    recorded = [{"record": f"q{number}", "expr": each} for number, each in enumerate(given)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", str(path))


def test_the_dashboards_panels_have_their_own_places() -> None:
    panels = dashboard()["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    taken = [
        (x, y)
        for each in panels
        for x in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"])
        for y in range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert all(x < 24 for x, _ in taken)


def test_every_instrument_is_on_the_dashboard() -> None:
    shown = " ".join(queries())
    for name in {re.sub(r"_(bucket|sum|count)$", "", each) for each in KNOWN} - {"runtime_server_info"}:
        assert name in shown, name
