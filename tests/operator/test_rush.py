"""In a rush of new runs their first Jobs come before all words about them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from objects import job, run

from evalrun_operator.decisions import (
    CreateConfigMap,
    CreateJob,
    DeleteJob,
    Observed,
    Plan,
    Waiting,
)
from evalrun_operator.rush import MANY, UNTOLD_SECONDS, Rush, is_told_later, what_cannot_wait

pytestmark = pytest.mark.decisions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CREATE, KEEP = CreateJob({}), CreateConfigMap({})
STATUS = {"phase": "Preparing"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def observed(**status: str) -> Observed:
    return Observed(run=run(**status))


def begun(seconds_ago: float) -> Observed:
    found = job()
    at = NOW - timedelta(seconds=seconds_ago)
    found["metadata"]["creationTimestamp"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    return Observed(run=run(), jobs={"one-answer": found})


def test_many_new_runs_within_a_second_are_a_rush_until_none_comes() -> None:
    clock = Clock()
    rush = Rush(clock, lambda: False)
    for number in range(MANY):
        assert not rush.is_on
        clock.now += 0.5 / MANY
        rush.came(run())
        if number % 3 == 0:
            rush.came(run(**STATUS))  # it is told already
    assert rush.is_on
    clock.now += 1.0
    assert not rush.is_on


def test_runs_that_come_one_by_one_are_none() -> None:
    clock = Clock()
    rush = Rush(clock, lambda: False)
    for _ in range(10 * MANY):
        clock.now += 1.5 / MANY
        rush.came(run())
        assert not rush.is_on


def test_runs_that_wait_for_a_worker_are_one_however_slowly_they_came() -> None:
    assert Rush(Clock(), lambda: True).is_on


def test_the_first_job_cannot_wait_and_what_comes_after_it_can() -> None:
    plan = Plan(actions=(CREATE, KEEP), status=STATUS)
    assert what_cannot_wait(observed(), plan) == (CREATE,)
    files_first = Plan(actions=(KEEP, CREATE), status=STATUS)
    assert what_cannot_wait(observed(), files_first) == (KEEP, CREATE)


@pytest.mark.parametrize(
    ("seen", "plan"),
    [
        (observed(phase="Preparing"), Plan(actions=(CREATE,), status=STATUS)),
        (observed(), Plan(status={"phase": "Failed", "completionTime": "2026-01-01T00:00:00Z"})),
        (observed(), Plan(status=STATUS)),
        (observed(), Plan(actions=(CREATE, DeleteJob("one-old", "uid")), status=STATUS)),
    ],
    ids=["told before", "ended", "waits for something", "deletes"],
)
def test_no_other_plan_can_wait(seen: Observed, plan: Plan) -> None:
    assert what_cannot_wait(seen, plan) is None


def test_a_run_that_has_just_begun_is_told_later_but_not_for_long() -> None:
    assert is_told_later(begun(1), NOW)
    assert not is_told_later(begun(UNTOLD_SECONDS), NOW)
    assert not is_told_later(observed(), NOW)


def test_a_run_that_waits_for_a_cap_learns_its_place_when_the_rush_is_over() -> None:
    waits = replace(observed(), waiting=Waiting(3, "3rd in line"))
    waits.run["metadata"]["creationTimestamp"] = "2025-12-31T23:59:59Z"
    assert is_told_later(waits, NOW)
    waits.run["metadata"]["creationTimestamp"] = "2025-12-31T23:59:40Z"
    assert not is_told_later(waits, NOW)


def test_a_run_whose_job_has_ended_is_not_told_later() -> None:
    ended = begun(1)
    ended.jobs["one-answer"]["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    assert not is_told_later(ended, NOW)


def test_a_run_that_is_told_already_or_suspended_is_not_told_later() -> None:
    told, suspended = begun(1), begun(1)
    told.run["status"] = STATUS
    suspended.run["spec"]["suspend"] = True
    assert not is_told_later(told, NOW)
    assert not is_told_later(suspended, NOW)
