"""What a played node writes reads as what a kubelet and the runner would have written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from world_documents import configuration, run_document

from bench.played_node.fates import COUNTED, ENDS, FATES_ANNOTATION, End, Odds, draw
from bench.played_node.statuses import Journal, Work, ended, plan_of, progress, running
from evalrun_api.plan import RunPlan
from evalrun_operator.admission import admit, read_run
from evalrun_operator.attempts import Attempt, attempt_of

pytestmark = pytest.mark.decisions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UID = "uid-1"


def plan() -> RunPlan:
    snapshot, _ = admit(read_run(run_document()), UID, {}, configuration())
    return snapshot.plan


def pod(step: str) -> dict[str, Any]:
    bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {
            "name": "one-answer-0",
            "namespace": "team",
            "uid": "pod-1",
            "labels": {"lmms-eval.io/step": step, "lmms-eval.io/run-uid": UID},
            "annotations": {"lmms-eval.io/plan": json.dumps(plan().document())},
        },
        "spec": {"containers": [{"name": "runner", "image": "runner:1"}]},
        "status": {"conditions": [bound]},
    }


def work(step: str = "answer") -> Work:
    document = pod(step)
    return Work(document, step, "0", plan_of(document), Journal(120), "127.16.0.1", NOW, 10.0)


def judged(status: dict[str, Any], step: str = "answer") -> Attempt:
    return attempt_of({**pod(step), "status": status}, UID)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_running_pod_is_at_work_from_when_it_was_bound() -> None:
    attempt = judged(running(work()))
    assert attempt.at_work
    assert attempt.bound_at == attempt.started_at == NOW


@pytest.mark.parametrize("step", ["prepare", "answer", "score", "all"])
def test_a_step_that_succeeds_says_what_the_operator_waits_for(step: str) -> None:
    attempt = judged(ended(work(step), "succeeds", after(10)), step)
    assert attempt.state == "Succeeded"
    assert attempt.message is not None
    assert attempt.message.outcome == "Succeeded"
    assert bool(attempt.message.results_uri) == (step in ("score", "all"))


@pytest.mark.parametrize("end", [end for end in ENDS if end != "succeeds"])
def test_a_pod_that_does_not_succeed_counts_where_a_job_counts_it(end: End) -> None:
    attempt = judged(ended(work(), end, after(5)))
    assert attempt.state == "Failed"
    assert attempt.counts_as_failure == (end in COUNTED or end == "fails_for_good")
    assert attempt.disrupted == (end in ("preempted", "evicted"))
    assert attempt.message is not None


def test_progress_advances_evenly_to_the_share_of_the_shard() -> None:
    told = [progress(work(), after(seconds)).requests_done for seconds in (0, 5, 10, 60)]
    assert told == [0, 60, 120, 120]


def test_a_fate_depends_on_seed_and_shard_alone() -> None:
    odds = Odds(seed=3, shares={"fails": 0.5})
    drawn = [draw(odds, "answer", f"team/run/{shard}", 0, {}) for shard in range(50)]
    assert drawn == [draw(odds, "answer", f"team/run/{shard}", 0, {}) for shard in range(50)]
    assert {fate.end for fate in drawn} == {"succeeds", "fails"}


def test_an_annotation_tells_the_ends_of_the_first_attempts() -> None:
    told = {FATES_ANNOTATION: json.dumps(["preempted", "fails"])}
    ends = [draw(Odds(), "answer", "x", attempt, told).end for attempt in range(3)]
    assert ends == ["preempted", "fails", "succeeds"]
