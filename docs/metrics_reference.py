"""The page of all metrics, made from the objects that serve them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from markup import NONE, code, table
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from evalrun_api.plan import ModelPlan, RunIdentity, RunPlan, SettingsGroup, StorePlan
from evalrun_api.sources import ModelSource, VolumePath
from evalrun_api.spec import SeedSpec
from evalrun_operator.decisions import Ledger
from evalrun_operator.metrics import Metrics
from evalrun_operator.run_metrics import MAX_SERIES_OF_RUN, RUN, RUN_SERIES, RunCollector
from evalrun_operator.scoreboard import MAX_SCORES
from evalrun_operator.store import Store
from evalrun_runner.report import Report

SUFFIX = {"counter": "_total", "info": "_info"}


class Row(NamedTuple):
    """A metric: its name as it is queried, labels, type, and what it says."""

    name: str
    labels: tuple[str, ...]
    type: str
    text: str


def of_the_operator() -> list[Row]:
    """What the operator serves of itself and of runs that ended."""
    metrics = Metrics()
    collector = RunCollector(Store(lambda _: Ledger(), time.monotonic), lambda: 0, lambda: 0)
    active = {series.name for series in RUN_SERIES}
    families = [*metrics.scoreboard.collect(), *collector.collect()]
    rows = [*_wrapped(metrics), *(_row(each) for each in families if each.name not in active)]
    rows.append(Row("evalrun_operator_build_info", ("version",), "info", "The operator's version."))
    return sorted(rows)


def of_active_runs() -> list[Row]:
    """What the operator serves of each active run."""
    return [
        Row(
            f"{series.name}{'_total' * series.is_counter}",
            (*RUN, *series.labels),
            "counter" if series.is_counter else "gauge",
            series.text,
        )
        for series in RUN_SERIES
    ]


def of_the_runner() -> list[Row]:
    """What a runner serves."""
    plan = RunPlan(
        run=RunIdentity(namespace="default", name="trial", uid="1"),
        model=ModelPlan(
            backend="llava_hf",
            source=ModelSource(volume=VolumePath(claim_name="models")),
            source_arg="pretrained",
            args={},
        ),
        batch_size=1,
        accelerators=0,
        seed=SeedSpec(),
        groups=[SettingsGroup(name="g0", tasks=["t"])],
        store=StorePlan(uri="file:///nowhere"),
    )
    return sorted(_wrapped(Report(plan, "prepare", None)))


def names() -> set[str]:
    """Names of all metrics, as they are queried."""
    rows = [*of_the_operator(), *of_active_runs(), *of_the_runner()]
    found = {row.name for row in rows}
    histograms = [row.name for row in rows if row.type == "histogram"]
    return found | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}


def _wrapped(owner: object) -> Iterator[Row]:
    """The metrics among an object's attributes."""
    for value in vars(owner).values():
        for each in value.values() if isinstance(value, dict) else [value]:
            if isinstance(each, MetricWrapperBase):
                # Labels are told by no public attribute.
                name, kind = each._name, each._type
                labels = tuple(each._labelnames)
                yield Row(name + SUFFIX.get(kind, ""), labels, kind, each._documentation)


def _row(family: Metric) -> Row:
    labels = tuple(getattr(family, "_labelnames", ()))
    return Row(family.name + SUFFIX.get(family.type, ""), labels, family.type, family.documentation)


def _table(rows: Iterable[Row]) -> str:
    return table(
        ("metric", "type", "labels", "what it says"),
        (
            (code(row.name), row.type, ", ".join(map(code, row.labels)) or NONE, row.text)
            for row in rows
        ),
    )


def metrics() -> str:
    """The page."""
    return "\n".join(
        [
            "# Metrics\n",
            "What the operator serves at `/metrics`, and what each runner does. How they are "
            "scraped, shown and alerted on: [Observing](../guides/observe.md).\n",
            "## Active runs\n",
            "Served by the operator's leader. A series that names a run is there while the run is "
            "active, and gone with its end. `gpu` stands for accelerators of any kind.\n",
            _table(of_active_runs()),
            "## Ended runs, and the operator\n",
            "Counters begin at 0 with the process; labels are closed lists, and nearly all series "
            "are there from the start.\n",
            _table(of_the_operator()),
            "Beside these the usual `process_*` metrics.\n",
            "## Runners\n",
            "Each pod tells of its own shard. Labels that say whose it is are not its own word: "
            "they come from where it was found.\n",
            _table(of_the_runner()),
            "## How many series\n",
            f"An active run has at most {MAX_SERIES_OF_RUN}, `evalrun_score` at most {MAX_SCORES} "
            "in all; what is left depends neither on how many runs there are nor on how many there "
            "have been, and is below 500. So 1,000 active runs are at most "
            f"{(1000 * MAX_SERIES_OF_RUN + MAX_SCORES + 500):,} series, beside any number of ended "
            "ones. A runner has 3 for each of its tasks, and some 30 others.\n",
        ]
    )
