"""What Prometheus is told of active runs, and what a run's status says that it took.

Series that name a run exist for active runs alone, and are made from the Store at each scrape, so
none outlives its run: the number of series is bounded by `MAX_SERIES_OF_RUN` for each of them.
Nothing that a pod reported becomes a label, but for the classes of errors, which are a closed list.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from evalrun_api.journal import ErrorClass
from evalrun_api.progress import Progress
from evalrun_api.reasons import REASONS
from evalrun_api.status import Phase
from evalrun_operator.decisions import Doc, RunKey
from evalrun_operator.store import Store

RUN = ("namespace", "run")
ERROR_CLASSES: Final[tuple[str, ...]] = get_args(ErrorClass)
ACTIVE_PHASES: Final = tuple(
    phase for phase in get_args(Phase) if phase not in ("Succeeded", "Failed")
)
FINISHED: Final = "Finished"
"""Phase in `evalrun_runs` of all runs that have ended: what became of them is counted elsewhere."""
OTHER: Final = "Other"
"""In place of a reason that is none of the known ones: they would be labels without bound."""
SPENT: Final = {
    "evalrun_gpu_seconds": "Accelerator-seconds that runs held that ended.",
    "evalrun_gpu_idle_seconds": "Of evalrun_gpu_seconds, the ones in which nothing was answered.",
    "evalrun_cost": "What runs that ended cost, at the administrator's price.",
    "evalrun_worker_restarts": "Workers of runs that ended that were started anew in their pods.",
    "evalrun_judge_requests": "Requests sent to judges by runs that ended.",
    "evalrun_judge_cost": "What judging runs that ended cost, at their own prices.",
}
"""Counters over all runs, by name; Prometheus adds `_total`."""
SPENT_OF_RUN: Final = {
    "evalrun_run_gpu_seconds": "Accelerator-seconds held so far, as last written.",
    "evalrun_run_gpu_idle_seconds": "Of these, the ones known to have answered no request.",
    "evalrun_run_cost": "What they cost so far, at the administrator's price.",
    "evalrun_run_worker_restarts": "Workers that were started anew in their pods.",
    "evalrun_run_judge_requests": "Requests sent to the judge by pods that have ended.",
    "evalrun_run_judge_cost": "What these cost, at the run's prices.",
}
"""The same of each active run."""


def spent(status: Doc) -> dict[str, float]:
    """What a status says that the run took, by the names of `SPENT`."""
    usage, shards = status.get("usage") or {}, status.get("shards") or {}
    found = {
        "evalrun_gpu_seconds": usage.get("gpuSeconds"),
        "evalrun_gpu_idle_seconds": usage.get("gpuIdleSeconds"),
        "evalrun_cost": usage.get("cost"),
        "evalrun_worker_restarts": shards.get("workerRestarts"),
        "evalrun_judge_requests": usage.get("judgeRequests"),
        "evalrun_judge_cost": usage.get("judgeCost"),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def invalid_by_class(status: Doc, progress: Iterable[Progress] = ()) -> dict[str, int]:
    """Invalid answers by class: as scored, or before that as the pods at work last said."""
    scored: dict[str, int] = (status.get("answers") or {}).get("errors") or {}
    if scored:
        return {error: count for error, count in scored.items() if error in ERROR_CLASSES}
    found: Tally[str] = Tally()
    for live in progress:
        found.update(live.errors)
    return dict(found)


def known_reason(reason: object, *others: str) -> str:
    """A reason as a label."""
    return str(reason) if reason in REASONS or reason in others else OTHER


@dataclass(frozen=True)
class Facts:
    """An active run. said: the last progress of each of its pods."""

    key: RunKey
    status: Doc
    said: Sequence[Progress]

    @property
    def phase(self) -> str:
        """As written; a run that nobody has looked at yet is Pending."""
        return str(self.status.get("phase") or "Pending")


Values = Iterable[tuple[tuple[str, ...], float]]
"""Labels after namespace and run, and the value."""


@dataclass(frozen=True)
class RunSeries:
    """A metric of active runs. most: series that one run has of it at most."""

    name: str
    text: str
    of: Callable[[Facts], Values]
    labels: tuple[str, ...] = ()
    most: int = 1
    is_counter: bool = False

    def family(self, runs: Iterable[Facts]) -> Metric:
        """The metric with its series."""
        labels = [*RUN, *self.labels]
        found: CounterMetricFamily | GaugeMetricFamily = (
            CounterMetricFamily(self.name, self.text, labels=labels)
            if self.is_counter
            else GaugeMetricFamily(self.name, self.text, labels=labels)
        )
        for facts in runs:
            for more, value in self.of(facts):
                found.add_metric([*facts.key, *more], value)
        return found


def _phase(facts: Facts) -> Values:
    yield (facts.phase,), 1


def _stalled(facts: Facts) -> Values:
    for condition in facts.status.get("conditions") or ():
        if condition.get("type") == "Stalled" and condition.get("status") == "True":
            yield (known_reason(condition.get("reason")),), 1


def _ratio(facts: Facts) -> Values:
    progress = facts.status.get("progress") or {}
    if total := progress.get("requestsTotal"):
        yield (), min(progress.get("requestsDone", 0) / total, 1.0)


def _rate(facts: Facts) -> Values:
    if facts.said:
        yield (), sum(live.requests_per_second for live in facts.said)


def _invalid(facts: Facts) -> Values:
    for error, count in sorted(invalid_by_class(facts.status, facts.said).items()):
        yield (error,), count


def _shards(facts: Facts) -> Values:
    if shards := facts.status.get("shards"):
        states = {state: shards.get(state) or 0 for state in ("active", "succeeded", "failed")}
        for state, count in states.items():
            yield (state,), count
        yield ("waiting",), max((shards.get("total") or 0) - sum(states.values()), 0)


def _restarts(facts: Facts) -> Values:
    if shards := facts.status.get("shards"):
        yield ("failure",), shards.get("restarts") or 0
        yield ("disruption",), shards.get("ignoredRestarts") or 0


def _spent(name: str) -> Callable[[Facts], Values]:
    of_all = name.replace("evalrun_run_", "evalrun_", 1)

    def of(facts: Facts) -> Values:
        amount = spent(facts.status).get(of_all)
        return () if amount is None else (((), amount),)

    return of


RUN_SERIES: Final[tuple[RunSeries, ...]] = (
    RunSeries("evalrun_run_phase", "1 for the phase that an active run is in.", _phase, ("phase",)),
    RunSeries(
        "evalrun_run_stalled",
        "1 for an active run that waits for what only a person can mend, with the reason.",
        _stalled,
        ("reason",),
    ),
    RunSeries(
        "evalrun_run_progress_ratio",
        "Answered requests of all, as last written to the run's status.",
        _ratio,
    ),
    RunSeries(
        "evalrun_run_requests_per_second",
        "Answers a second over all pods of an active run, as they last said.",
        _rate,
    ),
    RunSeries(
        "evalrun_run_invalid_answers",
        "Invalid answers of an active run by class, as its pods last said or as scored.",
        _invalid,
        ("error",),
        most=len(ERROR_CLASSES),
    ),
    RunSeries(
        "evalrun_run_shards",
        "Shards of an active run: active, succeeded, failed, or waiting for a pod.",
        _shards,
        ("state",),
        most=4,
    ),
    RunSeries(
        "evalrun_run_shard_restarts",
        "Pods that were replaced after a failure that counts, or a disruption that does not.",
        _restarts,
        ("cause",),
        most=2,
        is_counter=True,
    ),
    *(RunSeries(name, text, _spent(name), is_counter=True) for name, text in SPENT_OF_RUN.items()),
)
MAX_SERIES_OF_RUN: Final = sum(series.most for series in RUN_SERIES)


@dataclass(eq=False)
class RunCollector(Collector):
    """The series of the Store's runs, of the queue, and of the line before the caps."""

    store: Store
    queue_depth: Callable[[], int]
    in_line: Callable[[], int]
    series: Sequence[RunSeries] = field(default=RUN_SERIES)

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is depends on the runs."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All of them, one metric after another: with thousands of runs each is large."""
        active = []
        for key in self.store.active():
            if (run := self.store.run(key)) is not None:
                active.append(Facts(key, run.get("status") or {}, self.store.progress_of(key)))
        tally = Tally(dict.fromkeys(ACTIVE_PHASES, 0))
        tally.update(facts.phase for facts in active)
        tally[FINISHED] = self.store.count("EvaluationRun") - len(active)
        runs = GaugeMetricFamily("evalrun_runs", "Runs by phase.", labels=["phase"])
        for phase, number in tally.items():
            runs.add_metric([phase], number)
        yield runs
        yield from (series.family(active) for series in self.series)
        yield GaugeMetricFamily(
            "evalrun_operator_queue_depth",
            "Runs that are due and wait for a worker.",
            value=self.queue_depth(),
        )
        yield GaugeMetricFamily(
            "evalrun_operator_runs_in_line",
            "Runs that wait for a cap of the administrator's.",
            value=self.in_line(),
        )
