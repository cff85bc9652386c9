"""What a run's status means, whoever wrote it."""

from __future__ import annotations

from typing import Any

import pytest
from cli_samples import condition, run

from evalrun_cli import run_state

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize(
    ("document", "ended"),
    [
        (run(), None),
        (run("r", condition("Reconciling")), None),
        (run("r", condition("Complete")), "Complete"),
        (run("r", condition("Complete", "False")), None),
        (run("r", condition("Failed"), condition("Complete", "False")), "Failed"),
    ],
)
def test_a_run_has_ended_when_it_is_complete_or_failed(
    document: dict[str, Any], ended: str | None
) -> None:
    assert run_state.outcome(document) == ended


def test_the_condition_that_a_person_must_know_of_comes_first() -> None:
    waits = condition("Reconciling", message="waiting")
    stalled = condition("Stalled", reason="Unschedulable", message="no node")
    assert run_state.why(run("r", waits, stalled)) == ("Unschedulable", "no node")
    assert run_state.why(run("r", waits, condition("Stalled", "False"))) == ("Because", "waiting")
    assert run_state.why(run()) == ("", "")


def test_before_the_operator_looks_the_spec_is_shown() -> None:
    document = run()
    assert run_state.phase(document) == "Pending"
    assert run_state.model(document) == "a/model"
    assert run_state.benchmarks(document) == "mme,shapes"
    assert "no operator has looked" in run_state.activity(document)


def test_a_change_that_the_operator_has_not_seen_is_told() -> None:
    document = run("r", condition("Reconciling"), phase="Answering")
    document["metadata"]["generation"] = 2
    assert run_state.activity(document) == (
        "answering: the operator has not seen the last change yet"
    )


def test_what_a_run_does_and_why_it_waits_is_one_line() -> None:
    stalled = condition("Stalled", reason="ImagePullFailed", message="no\nsuch \x1b[1mimage")
    document = run("r", stalled, phase="Preparing", shards={"total": 1, "restarts": 1})
    assert run_state.activity(document) == (
        "preparing, stalled (ImagePullFailed), 1 restart: no such image"
    )


def test_shards_that_ended_and_disruptions_are_counted() -> None:
    shards = {"total": 4, "active": 1, "succeeded": 2, "failed": 1, "ignoredRestarts": 3}
    assert run_state.shards_text(run("r", shards=shards)) == "2 done, 1 failed, 3 disruptions"


def test_progress_is_what_the_bars_need() -> None:
    told = {
        "requestsDone": 30,
        "requestsTotal": 90,
        "requestsPerSecond": "1.5",
        "etaSeconds": 40,
        "benchmarks": [{"name": "mme", "requestsDone": 30, "requestsTotal": 90}],
    }
    found = run_state.progress(
        run("r", condition("Reconciling"), phase="Answering", progress=told, answers={"reused": 5})
    )
    assert (found.requests_done, found.requests_total, found.reused) == (30, 90, 5)
    assert (found.requests_per_second, found.eta_seconds) == (1.5, 40)
    assert [task.name for task in found.tasks] == ["mme"]


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": "none", "progress": [], "shards": 3, "scores": {}},
        {"conditions": [3, {}], "progress": {"requestsDone": -1, "etaSeconds": "soon"}},
        {"progress": {"requestsPerSecond": "nan", "benchmarks": [{}, 5]}, "scores": [{"value": 1}]},
    ],
)
def test_a_status_of_another_form_is_as_good_as_none(status: dict[str, Any]) -> None:
    document = {**run(), "status": status}
    assert run_state.outcome(document) is None
    assert run_state.scores(document) == []
    assert run_state.progress(document).requests_done == 0


def test_scores_keep_what_this_release_knows() -> None:
    entry = {"benchmark": "mme", "metric": "acc", "value": "0.5", "n": 3, "higherIsBetter": True}
    (score,) = run_state.scores(run("r", scores=[{**entry, "ofTomorrow": 1}]))
    assert (score.benchmark, score.value, score.n, score.higher_is_better) == (
        "mme",
        "0.5",
        3,
        True,
    )
    assert (score.filter, score.invalid) == ("none", 0)
