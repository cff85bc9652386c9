"""The chart's dashboards and alerts: fresh, and about metrics, labels and pages that exist."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
for folder in ("docs", "charts"):
    sys.path.insert(0, str(ROOT / folder))
metrics_reference = importlib.import_module("metrics_reference")
files = importlib.import_module("dashboards.files")

pytestmark = pytest.mark.contract

ALERTS = ROOT / "charts/lmms-eval-operator/files/alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
FOUND = {"namespace", "run", "shard", "pod", "instance", "job"}
"""Labels that a series gets from where it was found."""
OF_HISTOGRAMS = {"le"}
METRIC = re.compile(r"\b(?:evalrun|process)_\w+")


def queries() -> list[str]:
    found = [str(rule["expr"]) for rule in RULES]
    for name in files.TEXTS:
        dashboard = json.loads((files.FOLDER / f"{name}.json").read_text())
        for panel in dashboard["panels"]:
            found += [target["expr"] for target in panel.get("targets") or ()]
        for variable in dashboard["templating"]["list"]:
            found.append(str(variable.get("query") or ""))
    return found


def test_the_dashboards_are_fresh() -> None:
    assert files.stale() == [], "run `make generate`"


def test_a_stale_or_missing_dashboard_is_found(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(files.TEXTS["fleet"]())
    (tmp_path / "run.json").write_text("{}")
    assert files.stale(tmp_path) == ["run", "quality"]


def test_every_metric_that_is_asked_for_is_served() -> None:
    known = metrics_reference.names() | {"process_resident_memory_bytes"}
    asked = {name for query in queries() for name in METRIC.findall(query)}
    assert asked - known == set()
    assert len(asked) > 25


def test_every_label_that_is_asked_for_is_one_of_its_metric() -> None:
    rows = [
        *metrics_reference.of_the_operator(),
        *metrics_reference.of_active_runs(),
        *metrics_reference.of_the_runner(),
    ]
    labels = {row.name: set(row.labels) | FOUND for row in rows}
    for query in queries():
        for name, selector in re.findall(r"(evalrun_\w+)\{([^}]*)\}", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            asked = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", selector))
            assert asked <= labels.get(name, labels.get(base, set())), query


def test_every_panel_has_a_title_a_description_and_a_query() -> None:
    for name in files.TEXTS:
        dashboard = json.loads((files.FOLDER / f"{name}.json").read_text())
        panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        assert len({panel["title"] for panel in panels}) == len(panels)
        for panel in panels:
            assert panel["title"]
            assert panel["description"]
            assert panel["targets"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    page = ROOT / told["runbook_url"].partition("/lmms-eval-operator/")[2]
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    for part in ("**What it means.**", "**How to look.**", "**What to do.**"):
        assert part in text


def test_every_runbook_is_of_an_alert_and_every_alert_is_in_the_guide() -> None:
    alerts = {rule["alert"] for rule in RULES}
    pages = {path.read_text().splitlines()[0] for path in (ROOT / "docs/runbooks").glob("*.md")}
    assert pages == {f"# {name}" for name in alerts}
    guide = (ROOT / "docs/guides/observe.md").read_text()
    assert set(re.findall(r"`(LmmsEval\w+)`", guide)) == alerts


def test_each_alert_is_shown_to_fire() -> None:
    shown = (ROOT / "tests/observe/alerts_test.yaml").read_text()
    for rule in RULES:
        assert rule["alert"] in shown
