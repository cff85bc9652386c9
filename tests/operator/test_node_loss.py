"""Pods of lost nodes: which are given up, when, and what becomes of it without the right."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from fake_api import FakeApi
from objects import Doc, job, pod, run
from world_documents import configuration

from evalrun_operator.api_errors import Conflict, Forbidden, Invalid
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import END, FailPod, Ledger, Observed, Plan, RemovePod, RunKey
from evalrun_operator.executor import Executor
from evalrun_operator.node_loss import end_lost_pods
from evalrun_operator.pacing import Pacing
from evalrun_operator.pod_endings import REFUSED_SECONDS
from evalrun_operator.store import Store

pytestmark = pytest.mark.decisions

KEY = RunKey("team", "one")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = configuration(nodeLossSeconds=100)
LOST, FRESH = "2025-12-31T23:58:20Z", "2025-12-31T23:58:30Z"
PATCH = {"phase": "Failed"}


def deleted(due: str = LOST, **fields: Any) -> Doc:
    document = pod(**fields)
    document["metadata"]["deletionTimestamp"] = due
    return document


def observed(*pods: Doc, **of_the_job: Any) -> Observed:
    document = job(**of_the_job)
    return Observed(run(), jobs={document["metadata"]["name"]: document}, pods=pods)


def decide(*pods: Doc, **of_the_job: Any) -> tuple[Any, ...]:
    return end_lost_pods(observed(*pods, **of_the_job), NOW, CONFIG)


def test_without_the_administrators_word_nothing_is_given_up() -> None:
    assert end_lost_pods(observed(deleted()), NOW, configuration()) == ((), None)


def test_a_pod_long_past_its_end_is_said_to_have_failed_by_a_disruption() -> None:
    document = deleted()
    document["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    (action,), later = decide(document)
    assert later is None
    assert (action.name, action.uid, action.version) == ("one-answer-pod-1", "pod-1", "3")
    assert action.status["phase"] == "Failed"
    kept, added = action.status["conditions"]
    assert kept == {"type": "Ready", "status": "False"}
    assert (added["type"], added["status"]) == ("DisruptionTarget", "True")
    assert added["lastTransitionTime"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("status", ["True", "False"])
def test_a_disruption_is_told_once_and_the_one_that_is_told_already_stays(status: str) -> None:
    document = deleted()
    taint = {"type": "DisruptionTarget", "status": status, "reason": "DeletionByTaintManager"}
    document["status"]["conditions"] = [taint]
    ((action,), _) = decide(document)
    (only,) = action.status["conditions"]
    assert only["status"] == "True"
    assert (only == taint) == (status == "True")


def test_a_pod_that_may_still_end_is_looked_at_again_when_its_time_is_over() -> None:
    assert decide(deleted(FRESH)) == ((), 10.1)


def test_a_pod_that_nobody_has_deleted_or_that_ended_is_left_alone() -> None:
    assert decide(pod(), deleted(phase="Failed"), deleted(phase="Succeeded")) == ((), None)


def test_a_pod_without_a_node_is_not_on_a_lost_one() -> None:
    document = deleted()
    del document["spec"]["nodeName"]
    assert decide(document) == ((), None)


def test_a_pod_of_somebody_elses_job_is_left_alone() -> None:
    assert decide(deleted(owner="job-2")) == ((), None)


def test_a_job_that_is_being_deleted_waits_for_no_lost_pod_that_has_failed() -> None:
    ((action,), later) = decide(deleted(phase="Failed"), deletionTimestamp=LOST)
    assert (action, later) == (RemovePod("one-answer-pod-1", "pod-1", "3"), None)
    assert decide(deleted(FRESH, phase="Failed"), deletionTimestamp=LOST) == ((), 10.1)


class Bench:
    """A Store, an API server and an Executor, with a run, its Job and a pod in all."""

    def __init__(self) -> None:
        self.now = NOW
        self.api = FakeApi()
        self.store = Store(lambda pod: Ledger(failures=1), lambda: 0.0)
        self.store.put("EvaluationRun", self.api.add("evaluationruns", run()))
        self.store.put("Job", self.api.add("jobs", job()))
        self.pod = self.api.add("pods", deleted())
        self.store.put("Pod", self.pod)
        self.executor = Executor(
            cast(Cluster, self.api),
            self.store,
            Pacing(30.0, lambda: 0.0),
            lambda: self.now,
            lambda run: None,
        )

    @property
    def observed(self) -> Observed:
        found = self.store.observe(KEY)
        assert found is not None
        return found

    def do(
        self, kind: type[FailPod] | type[RemovePod], pod: Doc | None = None, **rest: Any
    ) -> float | None:
        metadata = (pod or self.pod)["metadata"]
        same = (metadata["name"], metadata["uid"], metadata["resourceVersion"])
        action = FailPod(*same, PATCH) if kind is FailPod else RemovePod(*same)
        plan = Plan(actions=(action,), **rest)
        return asyncio.run(self.executor.execute(KEY, self.observed, plan))


def test_what_was_said_of_a_pod_is_known_at_once_and_looked_at_again() -> None:
    bench = Bench()
    assert bench.do(FailPod) == 1.0
    assert bench.observed.pods[0]["status"]["phase"] == "Failed"
    assert bench.api.writes() == ["patch pods one-answer-pod-1"]


def test_a_pod_that_is_gone_by_then_is_forgotten() -> None:
    bench = Bench()
    bench.api.remove("pods", "team", bench.pod["metadata"]["name"])
    assert bench.do(RemovePod) == 1.0
    assert bench.observed.pods == ()
    assert bench.observed.gone == Ledger(failures=1)


def test_a_pod_that_changed_is_judged_anew() -> None:
    bench = Bench()
    bench.api.add("pods", deleted(phase="Succeeded"))
    with pytest.raises(Conflict):
        bench.do(FailPod)


def test_a_right_that_is_missing_is_told_once_and_hinders_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    refusal = Forbidden("patch", 403, "pods is forbidden")
    bench.api.fail_before[("patch", "pods")] = [refusal, refusal]
    with caplog.at_level(logging.WARNING):
        assert bench.do(FailPod, status={"phase": "Answering"}, urgent=True) == 0.0
        assert bench.observed.run["status"] == {"phase": "Answering"}
        assert bench.observed.refused == {f"{END}pod/one-answer-pod-1": "pods is forbidden"}
        for _ in range(5):
            assert (bench.do(FailPod) or 0) > REFUSED_SECONDS
    assert len(bench.api.requests) == 2
    assert caplog.text.count("pods is forbidden") == 1


def test_the_refusal_of_one_pod_is_none_of_another() -> None:
    bench = Bench()
    other = deleted()
    other["metadata"] |= {"name": "one-answer-pod-2", "uid": "pod-2"}
    other = bench.api.add("pods", other)
    bench.store.put("Pod", other)
    bench.api.fail_before[("patch", "pods")] = [Invalid("patch", 422, "a webhook denied it")]
    assert bench.do(FailPod) == 0.0
    assert bench.do(FailPod, other) == 1.0
    assert list(bench.observed.refused) == [f"{END}pod/one-answer-pod-1"]


def test_a_right_that_was_given_meanwhile_is_used() -> None:
    bench = Bench()
    bench.api.fail_before[("patch", "pods")] = [Forbidden("patch", 403, "pods is forbidden")]
    bench.do(FailPod)
    bench.now += timedelta(seconds=REFUSED_SECONDS + 1)
    assert bench.do(FailPod) == 1.0
    assert bench.observed.refused == {}
    assert bench.observed.pods[0]["status"]["phase"] == "Failed"
