"""What Prometheus is told.

Series that name a run exist for active runs alone, and are made from the Store at each scrape, so
none outlives its run. Nothing that a pod reported becomes a label.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from evalrun_api import __version__
from evalrun_api.reasons import REASONS
from evalrun_operator.decisions import Doc
from evalrun_operator.store import Store

RUN_SECONDS = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 172800, 604800)
RECONCILE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class Metrics:
    """The operator's own registry."""

    def __init__(self) -> None:
        # A second series for each, which nobody asks for. The function has no types.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.runs_finished = Counter(
            "evalrun_runs_finished",
            "Runs that ended.",
            ["result", "reason"],
            registry=self.registry,
        )
        self.run_duration = Histogram(
            "evalrun_run_duration_seconds",
            "From a run's first pod to its end.",
            ["result"],
            buckets=RUN_SECONDS,
            registry=self.registry,
        )
        self.reconcile_duration = Histogram(
            "evalrun_operator_reconcile_duration_seconds",
            "Time for one look at one run, its requests included.",
            buckets=RECONCILE_SECONDS,
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "evalrun_operator_reconcile_errors",
            "Looks at a run that failed and are repeated.",
            ["kind"],
            registry=self.registry,
        )
        self.api_requests = Counter(
            "evalrun_operator_api_requests",
            "Requests to the API server, watches apart; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.scrape_failures = Counter(
            "evalrun_operator_scrape_failures",
            "Pods' progress not read.",
            ["reason"],
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "evalrun_operator_watch_restarts",
            "Times that all watches had to begin anew.",
            registry=self.registry,
        )
        self.leader = Gauge(
            "evalrun_operator_leader", "Whether this replica leads.", registry=self.registry
        )
        self.registry.register(_BuildInfo())
        ProcessCollector(registry=self.registry)

    def watch_store(self, store: Store, queue_depth: Callable[[], int]) -> None:
        """Tell of the Store's runs and of the queue as well."""
        self.registry.register(_RunCollector(store, queue_depth))

    def count_request(self, verb: str, resource: str, code: str) -> None:
        """A request was answered, or not."""
        self.api_requests.labels(verb, resource, code).inc()

    def count_finished(self, run: Doc) -> None:
        """A run's end was written."""
        status = run["status"]
        result = "succeeded" if status.get("phase") == "Succeeded" else "failed"
        self.runs_finished.labels(result, _reason(status)).inc()
        seconds = _seconds(status.get("startTime"), status.get("completionTime"))
        if seconds is not None:
            self.run_duration.labels(result).observe(seconds)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)


class _BuildInfo(Collector):
    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily("evalrun_operator_build", "The operator's version.")
        info.add_metric([], {"version": __version__})
        yield info


class _RunCollector(Collector):
    def __init__(self, store: Store, queue_depth: Callable[[], int]) -> None:
        self._store = store
        self._queue_depth = queue_depth

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is depends on the runs."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        phases = GaugeMetricFamily(
            "evalrun_run_phase",
            "1 for the phase that an active run is in.",
            labels=["namespace", "run", "phase"],
        )
        ratio = GaugeMetricFamily(
            "evalrun_run_progress_ratio",
            "Answered requests of all, as last written to the run's status.",
            labels=["namespace", "run"],
        )
        rate = GaugeMetricFamily(
            "evalrun_run_requests_per_second",
            "Answers a second over all pods of an active run, as they last said.",
            labels=["namespace", "run"],
        )
        tally: Tally[str] = Tally()
        for key in self._store.active():
            run = self._store.run(key)
            if run is None:
                continue
            status = run.get("status") or {}
            phase = str(status.get("phase") or "Pending")
            tally[phase] += 1
            phases.add_metric([key.namespace, key.name, phase], 1)
            progress = status.get("progress") or {}
            if total := progress.get("requestsTotal"):
                ratio.add_metric(list(key), min(progress.get("requestsDone", 0) / total, 1.0))
            if said := self._store.progress_of(key):
                rate.add_metric(list(key), sum(live.requests_per_second for live in said))
        runs = GaugeMetricFamily("evalrun_runs", "Runs by phase.", labels=["phase"])
        tally["Finished"] = self._store.count("EvaluationRun") - sum(tally.values())
        for phase, number in sorted(tally.items()):
            runs.add_metric([phase], number)
        yield runs
        yield phases
        yield ratio
        yield rate
        depth = self._queue_depth()
        yield GaugeMetricFamily(
            "evalrun_operator_queue_depth", "Runs that are due and wait for a worker.", value=depth
        )


def _reason(status: Doc) -> str:
    """The reason of the end, if it is one that is known: others would be labels without bound."""
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Failed", "Complete") and condition.get("status") == "True":
            reason = str(condition.get("reason"))
            known = reason in REASONS or reason == status.get("phase")
            return reason if known else "Other"
    return "Other"


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return max((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 0.0)
