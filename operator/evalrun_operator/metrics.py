"""What Prometheus is told of the operator, and of the runs that ended."""

from __future__ import annotations

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
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from evalrun_api import __version__
from evalrun_api.reasons import REASONS
from evalrun_operator.decisions import Doc
from evalrun_operator.run_metrics import SPENT, RunCollector, invalid_by_class, spent
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
        self._spent = {
            name: Counter(name, text, registry=self.registry) for name, text in SPENT.items()
        }
        self.invalid_answers = Counter(
            "evalrun_invalid_answers",
            "Invalid answers of runs that ended, by class.",
            ["error"],
            registry=self.registry,
        )
        self.registry.register(_BuildInfo())
        ProcessCollector(registry=self.registry)

    def watch_store(
        self, store: Store, queue_depth: Callable[[], int], in_line: Callable[[], int]
    ) -> None:
        """Tell of the Store's runs, of the queue and of the line as well."""
        self.registry.register(RunCollector(store, queue_depth, in_line))

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
        for name, amount in spent(status).items():
            self._spent[name].inc(amount)
        for error, count in invalid_by_class(status).items():
            self.invalid_answers.labels(error).inc(count)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)


class _BuildInfo(Collector):
    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily("evalrun_operator_build", "The operator's version.")
        info.add_metric([], {"version": __version__})
        yield info


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
