"""Events: which changes are worth one, and that none is told twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from objects import Doc, run

from evalrun_operator.decisions import Event
from evalrun_operator.events import event_document
from evalrun_operator.transitions import events_of

pytestmark = pytest.mark.decisions

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def condition(kind: str, status: str, reason: str, message: str = "") -> Doc:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def answering(*conditions: Doc) -> Doc:
    return {
        "phase": "Answering",
        "conditions": [condition("Ready", "False", "Answering", "at work"), *conditions],
    }


QUIET = answering(condition("Stalled", "False", "Answering"))
PULLS = answering(condition("Stalled", "True", "ImagePullFailed", "no such image. Check the tag"))
WAITS = answering(condition("Stalled", "True", "Unschedulable", "no node. Add nodes"))


def test_a_run_that_begins_to_wait_for_a_person_says_so_with_what_to_do() -> None:
    told = Event("Warning", "ImagePullFailed", "no such image. Check the tag", once=True)
    assert events_of(QUIET, PULLS) == (told,)
    assert events_of(PULLS, PULLS) == ()
    assert events_of(PULLS, QUIET) == ()
    assert [event.reason for event in events_of(PULLS, WAITS)] == ["Unschedulable"]


def test_a_wait_that_comes_and_goes_is_one_event() -> None:
    (stalls,) = events_of(QUIET, PULLS)
    first, again = (event_document(run(version=version), stalls, NOW) for version in (5, 9))
    assert first["metadata"]["name"] == again["metadata"]["name"]
    other = event_document(run(uid="run-2", version=5), stalls, NOW)
    assert other["metadata"]["name"] != first["metadata"]["name"]


def test_a_run_that_goes_on_twice_says_so_twice() -> None:
    suspended = {"phase": "Suspended", "conditions": []}
    (resumed,) = events_of(suspended, QUIET)
    assert resumed.reason == "Resumed"
    names = {
        event_document(run(version=version), resumed, NOW)["metadata"]["name"] for version in (5, 9)
    }
    assert len(names) == 2


@pytest.mark.parametrize(
    ("trusted", "kind", "reason"),
    [("True", "Normal", "Succeeded"), ("False", "Warning", "InvalidAnswers")],
)
def test_a_score_that_may_not_be_trusted_is_a_warning(trusted: str, kind: str, reason: str) -> None:
    after = {
        "phase": "Succeeded",
        "conditions": [
            condition("Ready", "True", "Completed", "acc 0.5"),
            condition("Trusted", trusted, "InvalidAnswers", "7 answers are empty"),
        ],
    }
    (event,) = events_of({**QUIET, "phase": "Scoring"}, after)
    assert (event.type, event.reason) == (kind, reason)
    if trusted == "False":
        assert event.message == "7 answers are empty"


def test_progress_alone_is_worth_none() -> None:
    assert events_of(QUIET, {**QUIET, "progress": {"requestsDone": 7}}) == ()
