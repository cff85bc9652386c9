"""What Prometheus is told of active runs, and what a run's status says that it took.

Series that name a run exist for active runs alone, and are made from the Store at each scrape, so
none outlives its run. Nothing that a pod reported becomes a label, but for the classes of errors,
which are a closed list.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from evalrun_api.journal import ErrorClass
from evalrun_api.progress import Progress
from evalrun_operator.decisions import Doc
from evalrun_operator.store import Store

RUN = ("namespace", "run")
ERROR_CLASSES: Final[frozenset[str]] = frozenset(get_args(ErrorClass))
SPENT: Final = {
    "evalrun_gpu_seconds": "Accelerator-seconds that runs held that ended.",
    "evalrun_gpu_idle_seconds": "Of these, the ones in which no request was being answered.",
    "evalrun_cost": "What they cost, at the administrator's price.",
    "evalrun_worker_restarts": "Workers of runs that ended that were started anew in their pods.",
    "evalrun_judge_requests": "Requests sent to judges by runs that ended.",
    "evalrun_judge_cost": "What judging cost, at the runs' prices.",
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


class RunCollector(Collector):
    """The series of the Store's runs, of the queue, and of the line before the caps."""

    def __init__(
        self, store: Store, queue_depth: Callable[[], int], in_line: Callable[[], int]
    ) -> None:
        self._store = store
        self._queue_depth = queue_depth
        self._in_line = in_line

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is depends on the runs."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        phases = GaugeMetricFamily(
            "evalrun_run_phase",
            "1 for the phase that an active run is in.",
            labels=[*RUN, "phase"],
        )
        ratio = GaugeMetricFamily(
            "evalrun_run_progress_ratio",
            "Answered requests of all, as last written to the run's status.",
            labels=RUN,
        )
        rate = GaugeMetricFamily(
            "evalrun_run_requests_per_second",
            "Answers a second over all pods of an active run, as they last said.",
            labels=RUN,
        )
        invalid = GaugeMetricFamily(
            "evalrun_run_invalid_answers",
            "Invalid answers of an active run by class, as its pods last said or as scored.",
            labels=[*RUN, "error"],
        )
        taken = {
            name: CounterMetricFamily(name, text, labels=RUN) for name, text in SPENT_OF_RUN.items()
        }
        tally: Tally[str] = Tally()
        for key in self._store.active():
            run = self._store.run(key)
            if run is None:
                continue
            status = run.get("status") or {}
            phase = str(status.get("phase") or "Pending")
            tally[phase] += 1
            phases.add_metric([*key, phase], 1)
            progress = status.get("progress") or {}
            if total := progress.get("requestsTotal"):
                ratio.add_metric(list(key), min(progress.get("requestsDone", 0) / total, 1.0))
            said = self._store.progress_of(key)
            if said:
                rate.add_metric(list(key), sum(live.requests_per_second for live in said))
            for error, count in sorted(invalid_by_class(status, said).items()):
                invalid.add_metric([*key, error], count)
            for name, amount in spent(status).items():
                taken[name.replace("evalrun_", "evalrun_run_", 1)].add_metric(list(key), amount)
        runs = GaugeMetricFamily("evalrun_runs", "Runs by phase.", labels=["phase"])
        tally["Finished"] = self._store.count("EvaluationRun") - sum(tally.values())
        for phase, number in sorted(tally.items()):
            runs.add_metric([phase], number)
        yield from (runs, phases, ratio, rate, invalid, *taken.values())
        depth = self._queue_depth()
        yield GaugeMetricFamily(
            "evalrun_operator_queue_depth", "Runs that are due and wait for a worker.", value=depth
        )
        yield GaugeMetricFamily(
            "evalrun_operator_runs_in_line",
            "Runs that wait for a cap of the administrator's.",
            value=self._in_line(),
        )
