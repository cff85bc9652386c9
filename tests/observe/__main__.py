"""`make dashboards-check`: alerts, both expositions, and every query of every panel.

Prints for each panel its query and how many series it returned, and ends with 1 when one returned
none, or when promtool finds a fault.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from cluster.prometheus import promtool
from cluster.tools import MissingError
from observe.panels import count_series, panels, substitute, variables
from observe.scene import SHOWN, Scene, scene

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts" / "lmms-eval-operator" / "files"
DASHBOARDS = ("fleet", "run", "quality")
RATE_INTERVAL = "15s"
"""$__rate_interval: four scrapes at least, as Grafana has it."""


def check_alerts() -> bool:
    """Whether promtool is content with the rules, and each alert fires when it is to."""
    good = True
    for arguments in (
        ("check", "rules", str(FILES / "alerts.yaml")),
        ("test", "rules", "alerts_test.yaml"),
    ):
        code, said = promtool(*arguments, cwd=Path(__file__).parent)
        print(f"promtool {' '.join(arguments[:2])}: exit code {code}\n{said.strip()}", flush=True)
        good = good and code == 0
    return good


def check_exposition(name: str, address: str) -> bool:
    """Whether promtool is content with what is served."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    code, said = promtool("check", "metrics", cwd=ROOT, given=text)
    series = sum(not line.startswith("#") for line in text.splitlines())
    print(f"promtool check metrics, {name}: exit code {code}, {series} series\n{said}", flush=True)
    return code == 0 and not said.strip()


def check_dashboard(on: Scene, name: str) -> list[str]:
    """Run every query; the panels that returned nothing."""
    dashboard = json.loads((FILES / "dashboards" / f"{name}.json").read_text())
    now = time.time()
    fixed = {
        "__rate_interval": RATE_INTERVAL,
        "__range": f"{round(now - on.since)}s",
        "namespace": on.namespace,
        "run": SHOWN,
    }
    values = variables(dashboard, fixed, on.prometheus.label_values)
    empty = []
    for panel in panels(dashboard):
        query = substitute(panel.query, values)
        if panel.instant:
            series = on.prometheus.at(query, now)
        else:
            series = on.prometheus.over(query, on.since, now, 5)
        count = count_series(series)
        print(f"{name:8} {count:3} series  {panel.title}: {query}", flush=True)
        if not count:
            empty.append(f"{name}: {panel.title}")
    return empty


def main() -> int:
    """Check all."""
    try:
        good = check_alerts()
        with tempfile.TemporaryDirectory() as folder, scene(Path(folder)) as on:
            good &= check_exposition("operator", on.operator)
            good &= check_exposition("runner", on.runner)
            empty = [each for name in DASHBOARDS for each in check_dashboard(on, name)]
    except MissingError as missing:
        print(f"dashboards-check: {missing}")
        return 1
    print(f"panels without data: {', '.join(empty) or 'none'}")
    return 0 if good and not empty else 1


if __name__ == "__main__":
    sys.exit(main())
