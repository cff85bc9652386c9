"""How many series there are, what is measured of a run's way, and the last scores."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from objects import Doc, job, pod, run

from evalrun_api.journal import ErrorClass
from evalrun_api.progress import Progress
from evalrun_api.reasons import REASONS
from evalrun_operator.decisions import Ledger
from evalrun_operator.metrics import Metrics
from evalrun_operator.milestones import Milestone, milestones
from evalrun_operator.run_metrics import ERROR_CLASSES, MAX_SERIES_OF_RUN
from evalrun_operator.scoreboard import MAX_SCORES, Scoreboard
from evalrun_operator.store import Store

pytestmark = pytest.mark.decisions

APPLIED = datetime(2026, 1, 1, tzinfo=UTC)
TRUSTED = [{"type": "Trusted", "status": "True"}, {"type": "Complete", "status": "True"}]


def stamp(seconds: float) -> str:
    return (APPLIED + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def applied(name: str = "one", uid: str = "run-1", version: int = 1, **status: Any) -> Doc:
    document = run(name, uid, version, **status)
    document["metadata"]["creationTimestamp"] = stamp(0)
    return document


def series(metrics: Metrics) -> list[str]:
    lines = metrics.text().decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def samples(metrics: Metrics, pattern: str) -> dict[str, float]:
    found = (line.rpartition(" ") for line in series(metrics))
    return {name: float(value) for name, _, value in found if re.match(pattern, name)}


# --- how many there are ---


def watched() -> tuple[Metrics, Store]:
    metrics = Metrics()
    store = Store(lambda pod: Ledger(), time.monotonic)
    metrics.watch_store(store, lambda: 0, lambda: 0)
    return metrics, store


def busy(number: int, version: int) -> Doc:
    """A run that has as many series as a run can have."""
    usage = {"gpuSeconds": "9", "gpuIdleSeconds": "1", "cost": "1.5"}
    return applied(
        f"busy-{number}",
        f"busy-{number}",
        version,
        phase="Answering",
        conditions=[{"type": "Stalled", "status": "True", "reason": "Unschedulable"}],
        progress={"requestsDone": 3, "requestsTotal": 12},
        shards={"total": 4, "active": 2, "restarts": 1, "workerRestarts": 1},
        usage={**usage, "judgeRequests": 1, "judgeCost": "0.5"},
        answers={"errors": dict.fromkeys(ERROR_CLASSES, 1)},
    )


def ended(number: int, version: int) -> Doc:
    """A run of a model of its own that has ended, each for another reason."""
    reasons = sorted(REASONS)
    result = "Complete" if number % 2 else "Failed"
    conditions = [{"type": result, "status": "True", "reason": reasons[number % len(reasons)]}]
    return applied(
        f"ended-{number}",
        f"ended-{number}",
        version,
        phase="Succeeded" if number % 2 else "Failed",
        startTime=stamp(number),
        completionTime=stamp(2 * number),
        conditions=[*conditions, *TRUSTED],
        model=f"models/{number}",
        scores=[{"benchmark": f"b{number}", "metric": "acc", "value": "0.5"}],
        usage={"gpuSeconds": "9"},
    )


def test_series_follow_the_work_and_not_the_history() -> None:
    metrics, store = watched()
    nothing = len(series(metrics))
    assert nothing < 500
    for number in range(10_000):
        document = ended(number, number + 1)
        store.put("EvaluationRun", document)
        metrics.count_written(applied(), document, APPLIED)
        metrics.count_finished(document)
    after_all = len(series(metrics))
    # Reasons of runners that a run does not end with, and `succeeded` with a failure's reason.
    assert after_all <= nothing + MAX_SCORES + 2 * len(REASONS)
    assert len(samples(metrics, "evalrun_score")) == MAX_SCORES
    for number in range(50):
        store.put("EvaluationRun", busy(number, 20_000 + number))
        child, worker = job(uid=f"job-{number}", owner=f"busy-{number}"), pod(uid=f"pod-{number}")
        child["metadata"]["labels"]["lmms-eval.io/run"] = f"busy-{number}"
        worker["metadata"]["labels"]["lmms-eval.io/run"] = f"busy-{number}"
        worker["metadata"]["ownerReferences"][0]["uid"] = f"job-{number}"
        child["metadata"]["resourceVersion"] = worker["metadata"]["resourceVersion"] = "30000"
        child["metadata"]["name"] = f"busy-{number}-answer"
        store.put("Job", child)
        store.put("Pod", worker)
        store.put_progress(f"pod-{number}", Progress(step="answer", activity="x"))
    with_work = len(series(metrics))
    assert with_work == after_all + 50 * MAX_SERIES_OF_RUN


def test_a_thousand_active_runs_are_told_in_a_fraction_of_a_second(
    show_figure: Any,
) -> None:
    metrics, store = watched()
    for number in range(1000):
        store.put("EvaluationRun", busy(number, number + 1))
    began = time.perf_counter()
    text = metrics.text()
    seconds = time.perf_counter() - began
    show_figure(f"/metrics of 1,000 active runs: {seconds:.3f} s, {len(text):,} bytes")
    assert seconds < 2  # of a busy machine; a tenth of that is usual


def test_what_a_pod_calls_a_reason_is_no_label() -> None:
    metrics, store = watched()
    conditions = [{"type": "Stalled", "status": "True", "reason": "AnythingAtAll"}]
    store.put("EvaluationRun", applied(phase="Answering", conditions=conditions))
    assert samples(metrics, "evalrun_run_stalled") == {
        'evalrun_run_stalled{namespace="team",reason="Other",run="one"}': 1
    }


def test_the_first_failure_for_a_reason_is_more_than_none() -> None:
    metrics = Metrics()
    name = 'evalrun_runs_finished_total{reason="StoreUnavailable",result="failed"}'
    assert samples(metrics, "evalrun_runs_finished_total")[name] == 0
    classes = samples(metrics, "evalrun_invalid_answers_total")
    assert len(classes) == len(ErrorClass.__args__)


# --- how long a run's way took ---


def at(seconds: float) -> datetime:
    return APPLIED + timedelta(seconds=seconds)


def test_a_run_is_seen_to_begin_to_be_admitted_and_to_answer_each_once() -> None:
    queued = {"state": "Waiting", "job": "a"}
    admitted = {"state": "Admitted", "job": "a"}
    life: list[tuple[float, Doc, list[Milestone]]] = [
        (1, {"phase": "Queued"}, []),
        (40, {"startTime": stamp(40), "queue": queued}, [Milestone("Begun", 40)]),
        (
            100,
            {"startTime": stamp(40), "queue": admitted, "time": {"queue": 55}},
            [Milestone("Admitted", 55)],
        ),
        (110, {"startTime": stamp(40), "queue": admitted, "time": {"queue": 55}}, []),
        (
            # The next Job is admitted so soon that nothing is told in between.
            120,
            {"startTime": stamp(40), "queue": {**admitted, "job": "b"}, "time": {"queue": 58}},
            [Milestone("Admitted", 3)],
        ),
        (
            300,
            {
                "startTime": stamp(40),
                "queue": {**admitted, "job": "b"},
                "time": {"queue": 58},
                "progress": {"requestsDone": 7},
            },
            [Milestone("Answering", 300)],
        ),
    ]
    before: Doc = {}
    for seconds, status, passed in life:
        found = milestones(applied(**before), applied(**status), at(seconds))
        assert found == passed, seconds
        assert milestones(applied(**status), applied(**status), at(seconds)) == []
        before = status


def test_how_long_a_person_let_a_run_lie_is_no_wait() -> None:
    lay = {"conditions": [{"type": "Suspended", "status": "True"}]}
    goes_on = {"startTime": stamp(9000), "progress": {"requestsDone": 1}, **lay}
    assert milestones(applied(**lay), applied(**goes_on), at(9100)) == []


def test_milestones_become_histograms() -> None:
    metrics = Metrics()
    status = {"startTime": stamp(40), "progress": {"requestsDone": 1}}
    metrics.count_written(applied(), applied(**status), at(90))
    found = samples(metrics, "evalrun_run_(queue_wait|startup)_seconds_sum")
    assert found == {
        'evalrun_run_queue_wait_seconds_sum{queue="operator"}': 40,
        'evalrun_run_queue_wait_seconds_sum{queue="kueue"}': 0,
        "evalrun_run_startup_seconds_sum": 90,
    }


# --- scores ---


def scored(version: int, value: str, *, when: float, trusted: bool = True) -> Doc:
    return applied(
        f"r{version}",
        f"r{version}",
        version,
        phase="Succeeded",
        completionTime=stamp(when),
        conditions=TRUSTED if trusted else [{"type": "Trusted", "status": "False"}],
        model="models/a",
        scores=[{"benchmark": "mme", "metric": "acc", "filter": "none", "value": value}],
    )


NAME = 'evalrun_score{benchmark="mme",filter="none",metric="acc",model="models/a",namespace="team"}'


def test_the_newest_trusted_score_is_told_in_whatever_order_runs_are_seen() -> None:
    metrics, store = watched()
    store.put("EvaluationRun", scored(3, "0.7", when=300))
    store.put("EvaluationRun", scored(2, "0.6", when=200))
    store.put("EvaluationRun", scored(4, "0.1", when=400, trusted=False))
    assert samples(metrics, "evalrun_score") == {NAME: 0.7}


@pytest.mark.parametrize("value", ["NaN", "inf", "much", ""])
def test_a_score_that_is_no_number_is_left_out(value: str) -> None:
    board = Scoreboard()
    board.put(scored(1, value, when=1))
    (family,) = board.collect()
    assert family.samples == []


def test_of_too_many_scores_the_newest_stay() -> None:
    board = Scoreboard(limit=10)
    for number in range(100):
        document = scored(number, "0.5", when=number)
        document["status"]["model"] = f"models/{number}" + "x" * 1000
        board.put(document)
    (family,) = board.collect()
    models = [sample.labels["model"] for sample in family.samples]
    assert {model.partition("x")[0] for model in models} == {f"models/{n}" for n in range(90, 100)}
    assert max(map(len, models)) == 200


def test_a_namespace_that_runs_much_drives_no_other_s_scores_out() -> None:
    board = Scoreboard(limit=10)
    for number in range(103):
        document = scored(number, "0.5", when=number)
        document["metadata"]["namespace"] = "quiet" if number < 3 else "busy"
        document["status"]["model"] = f"models/{number}"
        board.put(document)
    (family,) = board.collect()
    models = [(sample.labels["namespace"], sample.labels["model"]) for sample in family.samples]
    quiet = {("quiet", f"models/{number}") for number in range(3)}
    assert set(models) == quiet | {("busy", f"models/{number}") for number in range(96, 103)}
