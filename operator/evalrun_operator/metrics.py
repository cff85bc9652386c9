"""What Prometheus is told of the operator, and of the runs that ended.

Labels are closed lists. Where a series could appear late, it is there from the start with 0: the
first event of a series that is born with it is no increase to Prometheus, and no alert would see
the first failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

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
from evalrun_api.reasons import COMPLETED, REASONS, STOPPED
from evalrun_operator.decisions import Doc
from evalrun_operator.milestones import milestones
from evalrun_operator.rate_limit import RateLimit
from evalrun_operator.run_metrics import (
    ERROR_CLASSES,
    OTHER,
    SPENT,
    RunCollector,
    invalid_by_class,
    known_reason,
    spent,
)
from evalrun_operator.scoreboard import Scoreboard
from evalrun_operator.store import Store

RUN_SECONDS = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 172800, 604800)
WAIT_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 14400, 43200, 86400, 604800)
STARTUP_SECONDS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
RECONCILE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20)

SUCCEEDED, FAILED = "succeeded", "failed"
ENDINGS: Final = (
    (SUCCEEDED, COMPLETED.name),
    *((FAILED, name) for name in (*REASONS, OTHER) if name not in (COMPLETED.name, STOPPED.name)),
)
"""Results and reasons of runs that ended."""
OPERATOR, KUEUE = "operator", "kueue"
"""Where a run waits for its turn."""
VERBS: Final = ("get", "list", "create", "update", "patch", "delete")
SCRAPE_FAILURES: Final = ("timeout", "connection", "status", "size", "content")


class Metrics:
    """The operator's own registry."""

    def __init__(self) -> None:
        # A second series for each, which nobody asks for. The function has no types.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._of_runs()
        self._of_the_operator()
        self.scoreboard = Scoreboard()
        self.registry.register(self.scoreboard)
        self.registry.register(_BuildInfo())
        ProcessCollector(registry=self.registry)

    def _of_runs(self) -> None:
        registry = self.registry
        self.runs_finished = Counter(
            "evalrun_runs_finished", "Runs that ended.", ["result", "reason"], registry=registry
        )
        for ending in ENDINGS:
            self.runs_finished.labels(*ending)
        self.run_duration = Histogram(
            "evalrun_run_duration_seconds",
            "From a run's first pod to its end.",
            ["result"],
            buckets=RUN_SECONDS,
            registry=registry,
        )
        self.run_queue_wait = Histogram(
            "evalrun_run_queue_wait_seconds",
            "Waits for a turn: in the operator's line from being applied to the first Job, in "
            "Kueue's queue once for each Job.",
            ["queue"],
            buckets=WAIT_SECONDS,
            registry=registry,
        )
        self.run_startup = Histogram(
            "evalrun_run_startup_seconds",
            "From a run's being applied to its first answer, as its status told it.",
            buckets=STARTUP_SECONDS,
            registry=registry,
        )
        for result in (SUCCEEDED, FAILED):
            self.run_duration.labels(result)
        for queue in (OPERATOR, KUEUE):
            self.run_queue_wait.labels(queue)
        self._spent = {name: Counter(name, text, registry=registry) for name, text in SPENT.items()}
        self.invalid_answers = Counter(
            "evalrun_invalid_answers",
            "Invalid answers of runs that ended, by class.",
            ["error"],
            registry=registry,
        )
        for error in ERROR_CLASSES:
            self.invalid_answers.labels(error)

    def _of_the_operator(self) -> None:
        registry = self.registry
        self.reconcile_duration = Histogram(
            "evalrun_operator_reconcile_duration_seconds",
            "Time for one look at one run, its requests included.",
            buckets=RECONCILE_SECONDS,
            registry=registry,
        )
        self.reconcile_errors = Counter(
            "evalrun_operator_reconcile_errors",
            "Looks at a run that failed and are repeated.",
            ["kind"],
            registry=registry,
        )
        for kind in ("Defect", "Unavailable"):
            self.reconcile_errors.labels(kind)
        self.api_requests = Counter(
            "evalrun_operator_api_requests",
            "Requests to the API server, watches apart; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self.api_request_duration = Histogram(
            "evalrun_operator_api_request_duration_seconds",
            "Time until the API server's answer was read, watches apart.",
            ["verb"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        for verb in VERBS:
            self.api_request_duration.labels(verb)
        self.scrapes = Counter(
            "evalrun_operator_scrapes",
            "Readings of pods' progress that were tried.",
            registry=registry,
        )
        self.scrape_failures = Counter(
            "evalrun_operator_scrape_failures",
            "Readings of pods' progress that failed.",
            ["reason"],
            registry=registry,
        )
        for reason in SCRAPE_FAILURES:
            self.scrape_failures.labels(reason)
        self.watch_restarts = Counter(
            "evalrun_operator_watch_restarts",
            "Times that all watches had to begin anew.",
            registry=registry,
        )
        self.leader = Gauge(
            "evalrun_operator_leader", "Whether this replica leads.", registry=registry
        )
        self.api_limit = Gauge(
            "evalrun_operator_api_limit",
            "Requests a second that the API server is asked for; +Inf: no limit.",
            registry=registry,
        )
        self.api_waiting = Gauge(
            "evalrun_operator_api_waiting",
            "Requests that wait for their turn under that limit.",
            registry=registry,
        )

    def watch_store(
        self, store: Store, queue_depth: Callable[[], int], in_line: Callable[[], int]
    ) -> None:
        """Tell of the Store's runs, of the queue and of the line as well."""
        store.ended = self.scoreboard.put
        self.registry.register(RunCollector(store, queue_depth, in_line))

    def watch_limit(self, limit: RateLimit) -> None:
        """Tell of the limit of requests to the API server."""
        self.api_limit.set_function(lambda: limit.per_second or math.inf)
        self.api_waiting.set_function(lambda: float(limit.waiting))

    def count_request(self, verb: str, resource: str, code: str, seconds: float | None) -> None:
        """A request was answered, or not. seconds: None where its length tells nothing."""
        self.api_requests.labels(verb, resource, code).inc()
        if seconds is not None:
            self.api_request_duration.labels(verb).observe(seconds)

    def count_written(self, before: Doc, after: Doc, now: datetime) -> None:
        """A run's status was written. before, after: the run with either status."""
        for milestone in milestones(before, after, now):
            match milestone.name:
                case "Begun":
                    self.run_queue_wait.labels(OPERATOR).observe(milestone.seconds)
                case "Admitted":
                    self.run_queue_wait.labels(KUEUE).observe(milestone.seconds)
                case "Answering":
                    self.run_startup.observe(milestone.seconds)

    def count_finished(self, run: Doc) -> None:
        """A run's end was written."""
        status = run["status"]
        result = SUCCEEDED if status.get("phase") == "Succeeded" else FAILED
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
    """The reason of the end."""
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Failed", "Complete") and condition.get("status") == "True":
            return known_reason(condition.get("reason"), str(status.get("phase")))
    return OTHER


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return max((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 0.0)
